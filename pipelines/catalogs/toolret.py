"""ToolRet (2503.01763) as it is published: a row a tool {id, documentation}, a row a query {id, query, instruction, labels}.

A folder holds both data sets in any layout of folders: the folder of a file of queries is called after its task, in whatever way
the files are split. Rows with ``documentation`` are tools, rows with ``labels`` are queries.

Invariants: a tool's document is its ``documentation`` as given; all tools are one catalog, as in the published evaluation; a
query's group is "category/task".
"""

from __future__ import annotations

import json
from pathlib import Path

from actors.core.types import Catalog, Corpus, InputError, Query, Tool
from pipelines.catalogs.rows import Row, files, golds, instructed, once, read, text_of

CODE = ("craft-math-algebra", "craft-tabmwp", "craft-vqa", "gorilla-huggingface", "gorilla-pytorch", "gorilla-tensor", "toolink")
CUSTOMIZED = (
    *("appbench", "gpt4tools", "gta", "metatool", "taskbench-huggingface", "taskbench-multimedia", "tool-be-honest"),
    *("toolalpaca", "toolbench-sam"),
)
"""The published tasks of these two categories; all others are of the web."""


def category(task: str) -> str:
    """The category that a task is counted in."""
    return "code" if task in CODE else "customized" if task in CUSTOMIZED else "web"


def load(folder: Path, instructions: bool) -> Corpus:
    """The whole benchmark; ``instructions``: each query with its instruction before it (they were written with the answer in view).

    Raises InputError for a folder without tools or queries, a broken row, an id given twice, a gold that is no tool.
    """
    tools: list[Tool] = []
    queries: list[Query] = []
    tool_places: dict[str, str] = {}
    query_places: dict[str, str] = {}
    for path in files(folder):
        for place, row in read(path):
            if "labels" in row:
                query = _query(row, place, path.parent.name, instructions)
                once(query_places, query.query_id, place, "query id")
                queries.append(query)
            elif "documentation" in row:
                tool = _tool(row, place)
                once(tool_places, tool.tool_id, place, "tool id")
                tools.append(tool)
            else:
                raise InputError(f"{place}: neither a tool (documentation) nor a query (labels); move other files out of {folder}")
    if not tools or not queries:
        raise InputError(
            f"{folder}: holds {len(tools)} tools and {len(queries)} queries; ToolRet's tools and its queries are needed"
        )
    for query in queries:
        for gold in query.gold:
            if gold not in tool_places:
                raise InputError(f"{query_places[query.query_id]}: gold {gold!r} is no tool of the folder; add its file of tools")
    return Corpus(Catalog(tuple(tools)), tuple(queries))


def _tool(row: Row, place: str) -> Tool:
    text = text_of(row, "documentation", place)
    name = _name(text) or text_of(row, "id", place)
    return Tool(text_of(row, "id", place), name, name, text, source="toolret", ready_document=text)


def _name(documentation: str) -> str:
    """The name in a documentation that is JSON, as most are."""
    try:
        value = json.loads(documentation)
    except json.JSONDecodeError:
        return ""
    return str(value.get("name") or "") if isinstance(value, dict) else ""


def _query(row: Row, place: str, task: str, instructions: bool) -> Query:
    query_id, text = text_of(row, "id", place), text_of(row, "query", place)
    gold = golds(row, "relevance", query_id, place)
    if instructions:
        text = instructed(text, str(row.get("instruction") or ""))
    return Query(query_id, text, "standard", "test", gold, tier="standard", need=query_id, group=f"{category(task)}/{task}")
