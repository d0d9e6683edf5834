"""A task of MAIR (2410.10127) as it is published: a row a document {id, doc}, a row a query {qid, query, instruction, labels}.

Invariants: a folder is one task, for each has a catalog of its own; a document is ``doc`` as given.
"""

from __future__ import annotations

from pathlib import Path

from actors.core.types import Catalog, Corpus, InputError, Query, Tool
from pipelines.catalogs.rows import Row, files, golds, instructed, once, read, text_of

TITLE_CHARACTERS = 80


def load(folder: Path, instructions: bool) -> Corpus:
    """The task in ``folder``; ``instructions``: each query with its instruction before it.

    Raises InputError for a folder without documents or queries, a broken row, an id given twice, a gold that is no document.
    """
    tools: dict[str, Tool] = {}
    queries: list[Query] = []
    tool_places: dict[str, str] = {}
    query_places: dict[str, str] = {}
    for path in files(folder):
        for place, row in read(path):
            if "labels" in row:
                query = _query(row, place, folder.name, instructions)
                once(query_places, query.query_id, place, "query id")
                queries.append(query)
            else:
                tool_id, text = text_of(row, "id", place), text_of(row, "doc", place)
                once(tool_places, tool_id, place, "document id")
                title = text.strip().splitlines()[0][:TITLE_CHARACTERS]
                tools[tool_id] = Tool(tool_id, title, title, text, source="mair", ready_document=text)
    if not tools or not queries:
        raise InputError(f"{folder}: holds {len(tools)} documents and {len(queries)} queries; a task needs both")
    for query in queries:
        for gold in query.gold:
            if gold not in tools:
                raise InputError(f"{query_places[query.query_id]}: gold {gold!r} is no document of the folder; add its file")
    return Corpus(Catalog(tuple(tools.values())), tuple(queries))


def tasks(folder: Path) -> list[Path]:
    """The tasks in ``folder``: itself, or the folders in it that hold files of rows."""
    found = sorted({path.parent for path in files(folder)})
    return [folder] if folder in found else found


def _query(row: Row, place: str, task: str, instructions: bool) -> Query:
    query_id, text = text_of(row, "qid", place), text_of(row, "query", place)
    gold = golds(row, "score", query_id, place)
    if instructions:
        text = instructed(text, str(row.get("instruction") or ""))
    return Query(query_id, text, "standard", "test", gold, tier="standard", need=query_id, group=task)
