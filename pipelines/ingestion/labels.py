"""Labelled queries of a catalog folder, in BEIR's layout: ``queries.jsonl`` and ``qrels/{train,dev,test}.tsv``.

Invariants: a query's split goes by its words and never changes; with three queries no split is empty; the queries are written
before their labels, so that a crash leaves none that names no query; what cannot all be added is not added at all.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from actors.core.types import InputError, Split
from pipelines.catalogs import rows
from pipelines.catalogs.beir import SPLITS, read_queries
from pipelines.files import write_text
from pipelines.ingestion.listing import clean

QUERIES_FILE, QRELS = "queries.jsonl", "qrels"
_HEADER = "query-id\tcorpus-id\tscore\n"
_UP_TO: tuple[tuple[float, Split], ...] = ((0.6, "train"), (0.8, "dev"), (1.0, "test"))


@dataclass(frozen=True)
class Label:
    """A query with the tools that answer it; ``place`` is how messages name it."""

    query: str
    tool_ids: tuple[str, ...]
    place: str


def read_file(path: Path) -> list[Label]:
    """Labels from lines ``query<TAB>tool_id[,tool_id]``. Raises InputError that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"--file {path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--file {path}: cannot be read as UTF-8 text ({error})") from error
    labels = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        query, tab, tools = line.partition("\t")
        tool_ids = tuple(tool_id.strip() for tool_id in tools.split(",") if tool_id.strip())
        if not tab or not tool_ids:
            raise InputError(f"{path}:{number}: expected a query, a tab and tool ids parted by commas")
        labels.append(Label(query, tool_ids, f"{path}:{number}"))
    if not labels:
        raise InputError(f"--file {path}: holds no line; write query, tab, tool ids")
    return labels


def add(folder: Path, labels: Iterable[Label], tools: Collection[str]) -> dict[Split, int]:
    """Add labels to the folder's; returns how many queries each split has then. For the holder of the folder's lock.

    A query that is there already gets the further tools. Raises InputError for a query without words and a tool that is not in the
    catalog (``tools``).
    """
    ids, golds, splits = _read(folder)
    queries: list[str] = []
    pairs: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for label in labels:
        query = _words(label.query)
        _check(label, query, tools)
        if query not in ids:
            ids[query] = f"q-{hashlib.sha256(query.encode()).hexdigest()[:12]}"
            queries.append(json.dumps({"_id": ids[query], "text": query}, ensure_ascii=False) + "\n")
        query_id = ids[query]
        if query_id not in splits:
            splits[query_id] = _split(query, splits.values())
        known = golds.setdefault(query_id, set())
        pairs[splits[query_id]] += [
            f"{query_id}\t{tool_id}\t1\n" for tool_id in dict.fromkeys(label.tool_ids) if tool_id not in known
        ]
        known.update(label.tool_ids)
    _append(folder / QUERIES_FILE, "", queries)
    for split, lines in pairs.items():
        _append(folder / QRELS / f"{split}.tsv", _HEADER, lines)
    return {split: sum(s == split for s in splits.values()) for split in SPLITS}


def _check(label: Label, query: str, tools: Collection[str]) -> None:
    if not any(c.isalnum() for c in query):
        raise InputError(f"{label.place}: the query is {label.query!r}; give it in words")
    for tool_id in label.tool_ids:
        if tool_id not in tools:
            near = difflib.get_close_matches(tool_id, tools, n=1)
            meant = f"; meant {near[0]!r}?" if near else "; `cohyde catalog show` tells what is there"
            raise InputError(f"{label.place}: no tool {tool_id!r} in the catalog{meant}")


def _split(query: str, taken: Iterable[Split]) -> Split:
    """By the query's words; a split that is still empty comes first."""
    share = int.from_bytes(hashlib.sha256(f"split {query}".encode()).digest()[:4], "big") / 2**32
    own = next(split for limit, split in _UP_TO if share < limit)
    empty = [split for split in SPLITS if split not in set(taken)]
    return own if own in empty or not empty else empty[0]


def _words(text: str) -> str:
    return " ".join(clean(text).split())


def _read(folder: Path) -> tuple[dict[str, str], dict[str, set[str]], dict[str, Split]]:
    """Words -> id of every query; id -> golds, and split, of those that are labelled."""
    path = folder / QUERIES_FILE
    if not path.is_file():
        return {}, {}, {}
    ids = {_words(rows.text_of(row, "text", place)): rows.text_of(row, "_id", place) for place, row in rows.read(path)}
    labelled = read_queries(folder, "standard") if any((folder / QRELS / f"{split}.tsv").exists() for split in SPLITS) else []
    return ids, {query.query_id: set(query.gold) for query in labelled}, {query.query_id: query.split for query in labelled}


def _append(path: Path, header: str, lines: list[str]) -> None:
    if not lines:
        return
    before = path.read_text(encoding="utf-8") if path.exists() else header
    if before and not before.endswith("\n"):
        before += "\n"
    write_text(path, before + "".join(lines))
