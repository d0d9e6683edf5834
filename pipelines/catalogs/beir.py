"""Any folder in the BEIR layout: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/{train,dev,test}.tsv``.

Invariants: a tool's document is exactly ``title: text`` as the folder gives them, so that figures compare with published ones;
every fault of a file is one ``InputError`` line that names file and line.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast, get_args

from actors.core.types import Catalog, Corpus, InputError, Novelty, Query, QueryKind, Split, Tool

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def load(folder: Path) -> Corpus:
    """The folder's catalog and queries, a query for each id that a qrels file names.

    Raises ``InputError`` on: a missing folder or file, a malformed line, a line without id or text, an id given twice, a query
    whose gold is not in the catalog, a split without queries.
    """
    if not folder.is_dir():
        raise InputError(f"catalog.source=beir:{folder}: no such folder; give a folder with corpus.jsonl, queries.jsonl and qrels/")
    tools = list(read_tools(folder / "corpus.jsonl"))
    if not tools:
        raise InputError(f"{folder / 'corpus.jsonl'}: holds no tools; a catalog needs one a line")
    return Corpus(catalog=Catalog(tuple(tools)), queries=tuple(read_queries(folder, "standard", {t.tool_id for t in tools})))


def read_tools(path: Path) -> Iterator[Tool]:
    """One tool a line."""
    first_line: dict[str, int] = {}
    for number, row in _json_lines(path):
        tool_id, text, title = _text(row, "_id", path, number), _text(row, "text", path, number), str(row.get("title") or "")
        if tool_id in first_line:
            raise InputError(f"{path}:{number}: tool id {tool_id!r} stands already in line {first_line[tool_id]}; ids must differ")
        first_line[tool_id] = number
        yield Tool(tool_id=tool_id, name=title, title=title, description=text, source="beir", ready_document=f"{title}: {text}")


def read_queries(folder: Path, kind: QueryKind, tool_ids: set[str] | None = None) -> list[Query]:
    """The queries that a qrels file gives golds for, split after split; ``tool_ids`` (if given) must hold every gold."""
    path = folder / "queries.jsonl"
    rows: dict[str, tuple[str, dict[str, Any]]] = {}
    for number, row in _json_lines(path):
        query_id = _text(row, "_id", path, number)
        if query_id in rows:
            raise InputError(f"{path}:{number}: query id {query_id!r} stands twice; ids must differ")
        metadata = row.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise InputError(f"{path}:{number}: metadata of query {query_id!r} is not an object; leave it out or give one")
        rows[query_id] = (_text(row, "text", path, number), metadata)
    queries: list[Query] = []
    placed: dict[str, str] = {}
    files = [(split, folder / "qrels" / f"{split}.tsv") for split in SPLITS]
    if not any(file.exists() for _, file in files):
        raise InputError(f"{folder / 'qrels'}: holds none of train.tsv, dev.tsv, test.tsv; at least one is needed")
    for split, file in files:
        if not file.exists():
            continue
        golds = _read_qrels(file, rows.keys(), tool_ids)
        if not golds:
            raise InputError(f"{file}: the split {split} is empty; give it a query or remove the file")
        for query_id, gold in golds.items():
            if query_id in placed:
                raise InputError(f"{file}: query {query_id!r} stands in {placed[query_id]} too; a query has one split")
            placed[query_id] = split
            queries.append(_query(query_id, *rows[query_id], kind=kind, split=split, gold=gold))
    return queries


def _query(query_id: str, text: str, metadata: dict[str, Any], *, kind: QueryKind, split: Split, gold: dict[str, int]) -> Query:
    novelty = metadata.get("tools", "")
    return Query(
        query_id=query_id,
        text=text,
        kind=kind,
        split=split,
        gold=gold,
        tier=str(metadata.get("tier") or kind),
        need=str(metadata.get("need") or query_id),
        novelty=cast(Novelty, novelty) if novelty in get_args(Novelty) else "",
        group=str(metadata.get("group") or ""),
    )


def _read_qrels(path: Path, query_ids: Collection[str], tool_ids: set[str] | None) -> dict[str, dict[str, int]]:
    golds: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        row = line.rstrip("\r\n").split("\t")
        if row == [""] or (number == 1 and row[0] == "query-id"):
            continue
        if len(row) != 3 or not row[2].strip().lstrip("-").isdecimal():
            raise InputError(f"{path}:{number}: expected query-id, corpus-id and a whole-number score, parted by tabs")
        query_id, tool_id, score = row[0], row[1], int(row[2])
        if query_id not in query_ids:
            raise InputError(f"{path}:{number}: query {query_id!r} is not in queries.jsonl; add it or remove the line")
        if tool_ids is not None and tool_id not in tool_ids:
            raise InputError(
                f"{path}:{number}: gold {tool_id!r} of query {query_id!r} is not in the catalog; add it or remove the line"
            )
        if score > 0:
            golds.setdefault(query_id, {})[tool_id] = score
    return golds


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno}); each line is one object") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: not a JSON object; each line is one object with _id and text")
        yield number, row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; a BEIR folder needs corpus.jsonl, queries.jsonl and qrels/")
    try:
        with path.open(encoding="utf-8") as file:
            yield from enumerate(file, start=1)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _text(row: dict[str, Any], field: str, path: Path, number: int) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{path}:{number}: {field} is missing or empty; every line needs one")
    return value
