"""A folder that ``cohyde catalog sync`` keeps: its tools, and the queries that were labelled there.

Invariants: tools of equal text are never each other's negatives; a query whose tools have all left the catalog is left out, and
comes back with them.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from actors.catalog_file import Entry, entry_of
from actors.core.types import Catalog, Corpus, InputError, Query, Tool
from pipelines.catalogs.beir import SPLITS, read_queries
from pipelines.ingestion.store import TOOLS_FILE, Store

logger = logging.getLogger(__name__)

KIND = "synced"


def load(folder: Path) -> Corpus:
    """The folder's tools and labelled queries (none where nothing was labelled). Raises InputError for a folder without tools."""
    tools = tuple(Store(folder).tools())
    if not tools:
        raise InputError(f"catalog.source={KIND}:{folder}: holds no {TOOLS_FILE} with tools; make it with `cohyde catalog sync`")
    queries, lost = labelled(folder, {tool.tool_id for tool in tools})
    if lost:
        logger.warning("%s: %d labelled queries are left out, for their tools are not in the catalog", folder, len(lost))
    return Corpus(Catalog(tools, _equal_texts(tools)), tuple(queries))


def labelled(folder: Path, tool_ids: set[str]) -> tuple[list[Query], list[str]]:
    """The folder's queries with the golds that are in the catalog; and the ids of those that have none there."""
    if not any((folder / "qrels" / f"{split}.tsv").exists() for split in SPLITS):
        return [], []
    queries = [
        replace(query, gold={tool_id: grade for tool_id, grade in query.gold.items() if tool_id in tool_ids})
        for query in read_queries(folder, "standard")
    ]
    return [query for query in queries if query.gold], [query.query_id for query in queries if not query.gold]


def entries(source: str, catalog: Catalog) -> Iterable[Entry] | None:
    """The tools of ``catalog``, read from ``source``, with the schemas of their sources; None for another kind of source."""
    kind, _, folder = source.partition(":")
    return _entries(Path(folder).expanduser(), catalog) if kind == KIND else None


def _entries(folder: Path, catalog: Catalog) -> Iterator[Entry]:
    waiting = dict(catalog.by_id)
    for _, entry in Store(folder).entries():
        # What a sync changed since the catalog was read is not what the run learns.
        if waiting.get(entry.tool.tool_id) == entry.tool:
            yield entry
            del waiting[entry.tool.tool_id]
    yield from (entry_of(tool) for tool in waiting.values())


def _equal_texts(tools: Iterable[Tool]) -> dict[str, frozenset[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for tool in tools:
        groups[tool.document].append(tool.tool_id)
    return {tool_id: frozenset(group) - {tool_id} for group in groups.values() if len(group) > 1 for tool_id in group}
