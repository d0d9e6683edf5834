"""Training and dev queries made of a catalog's own descriptions, for a benchmark that has test queries alone.

Invariants: nothing of a test query is read; the same catalog gives the same queries, and a tool's stands in one split.
"""

from __future__ import annotations

from dataclasses import replace

from actors.core.text import sentences
from actors.core.types import Corpus, InputError, Query, Split, Tool
from pipelines.catalogs.aws_queries import by_hash

DEV_SHARE = 1 / 3
LEAST_WORDS = 4
_NO_DESCRIPTION = ("Category:", "Parameters:", "Returns:")


def with_described(corpus: Corpus) -> Corpus:
    """The corpus with a query of each tool that is described: its description's first sentence, without its name.

    A split that has queries of its own gets no others. Raises ``InputError`` where both have, or too few tools are described.
    """
    own = {q.split for q in corpus.queries}
    if {"train", "dev"} <= own:
        raise InputError("catalog.source: the folder has training and dev queries of its own; leave -described out")
    made = [query for tool in corpus.catalog.tools if (query := _query(tool)) is not None and query.split not in own]
    if {"train", "dev"} - own - {q.split for q in made}:
        raise InputError(f"catalog.source: {len(made)} tools are described by a sentence, too few for training and dev queries")
    return replace(corpus, queries=(*made, *corpus.queries))


def _query(tool: Tool) -> Query | None:
    opening = tool.description.strip().splitlines()[:1]
    if not opening or opening[0].startswith(_NO_DESCRIPTION):
        return None
    text = next(iter(sentences(opening[0])), "").strip()
    if len(text.split()) < LEAST_WORDS:
        return None
    split: Split = "dev" if by_hash(f"described {tool.tool_id}") < DEV_SHARE else "train"
    return Query(f"described {tool.tool_id}", text, "standard", split, {tool.tool_id: 1}, need=f"described {tool.tool_id}")
