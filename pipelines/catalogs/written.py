"""Queries that were written for a benchmark's catalog by somebody who saw its tools and none of its test queries: ten to train on,
some tens for dev.

Invariants: nothing of a test query is read; golds are names of tools, so any layout of the same catalog takes them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from actors.core.types import Corpus, InputError
from pipelines.catalogs import beir

FOLDERS = sorted(file.parent for file in (Path(__file__).parent / "data" / "written").glob("*/queries.jsonl"))


def with_written(corpus: Corpus) -> Corpus:
    """The corpus with the queries that were written for its catalog.

    Raises ``InputError`` where it has training or dev queries of its own, or none were written for its catalog.
    """
    if {q.split for q in corpus.queries} & {"train", "dev"}:
        raise InputError("catalog.source: the folder has training or dev queries of its own; leave -written out")
    ids = {tool.title.split()[-1]: tool.tool_id for tool in corpus.catalog.tools if tool.title.strip()}
    for folder in FOLDERS:
        queries = beir.read_queries(folder, kind="standard")
        if all(name in ids for query in queries for name in query.gold):
            named = [replace(q, gold={ids[name]: grade for name, grade in q.gold.items()}) for q in queries]
            return replace(corpus, queries=(*named, *corpus.queries))
    known = ", ".join(folder.name for folder in FOLDERS)
    raise InputError(f"catalog.source: no queries were written for this catalog, only for those of {known}; leave -written out")
