"""A subset of MTRB (2410.03212) as it is published: ``*test*.json`` with queries, and one more JSON file with the tools.

The tools are a list of {tool_name, tool_usage, tool_description, rewrite_description} or an object of name -> description. Queries
are {query, relevant Tools}.

Invariants: golds are matched by name or usage, for the ids of the two files do not line up; a description that was rewritten for
the benchmark goes before the original one; the document is "name: description".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.core.types import Catalog, Corpus, InputError, Query, Split, Tool
from pipelines.catalogs.rows import parsed, read, text_of

GOLDS = "relevant Tools"


def load(folder: Path) -> Corpus:
    """The subset in ``folder``; files with "train" in their name are training queries.

    Raises InputError for a folder without tools or test queries, a broken row, a gold that no tool is called.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with a subset's JSON files")
    found = sorted(folder.glob("*.json"))
    splits: list[tuple[Path, Split]] = [(path, "train") for path in found if "train" in path.name]
    splits += [(path, "test") for path in found if "test" in path.name]
    others = [path for path in found if path not in dict(splits)]
    if len(others) != 1 or not any(split == "test" for _, split in splits):
        raise InputError(
            f"{folder}: needs one JSON file of tools and one of queries with 'test' in its name, has {len(found)} files"
        )
    tools, called = _tools(others[0])
    queries = [
        _query(row, place, f"{split}-{number}", split, called)
        for path, split in splits
        for number, (place, row) in enumerate(read(path), start=1)
    ]
    return Corpus(Catalog(tuple(tools)), tuple(queries))


def _tools(path: Path) -> tuple[list[Tool], dict[str, str]]:
    """The tools, and name or usage -> tool id."""
    given: Any = parsed(path.read_text(encoding="utf-8"), str(path))
    if isinstance(given, dict):
        rows = [(f"{path}, {name!r}", {"tool_name": name, "tool_description": text}) for name, text in given.items()]
    else:
        rows = list(read(path))
    tools: list[Tool] = []
    called: dict[str, str] = {}
    for place, row in rows:
        name = text_of(row, "tool_name", place)
        if name in called:
            raise InputError(f"{place}: tool {name!r} stands twice; names must differ")
        text = text_of(row, "rewrite_description" if row.get("rewrite_description") else "tool_description", place)
        tools.append(Tool(name, name, name, text, source="mtrb", ready_document=f"{name}: {text}"))
        called[name] = name
        if usage := row.get("tool_usage"):
            called.setdefault(str(usage), name)
    return tools, called


def _query(row: dict[str, Any], place: str, query_id: str, split: Split, called: dict[str, str]) -> Query:
    names: Any = row.get(GOLDS)
    if not isinstance(names, list) or not names:
        raise InputError(f"{place}: {GOLDS!r} is missing or empty; every query needs one")
    for name in names:
        if name not in called:
            raise InputError(f"{place}: gold {name!r} is no tool of the folder; add it to the file of tools")
    gold = {called[name]: 1 for name in names}
    return Query(query_id, text_of(row, "query", place), "standard", split, gold, tier="standard", need=query_id)
