"""Rows of a file as published benchmarks come: JSON lines, one JSON list, or Parquet.

Invariants: rows come in the file's order; every fault is one ``InputError`` line that names file and row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.core.types import InputError

SUFFIXES = (".jsonl", ".json", ".parquet")

Row = dict[str, Any]


def files(folder: Path) -> list[Path]:
    """Files of rows below ``folder``, by name. Raises InputError where there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with the benchmark's files ({', '.join(SUFFIXES)})")
    found = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"{folder}: holds no file of rows; one of {', '.join(SUFFIXES)} is needed")
    return found


def read(path: Path) -> Iterator[tuple[str, Row]]:
    """(place, row) of each row; the place is "file:line" or "file, row n"."""
    if path.suffix == ".parquet":
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(table.to_pylist(), start=1))
        return
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if path.suffix == ".json":
        rows = parsed(text, str(path))
        if not isinstance(rows, list):
            raise InputError(f"{path}: not a list; give one object a row")
        numbered = ((f"{path}, row {number}", row) for number, row in enumerate(rows, start=1))
    else:
        lines = ((f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())
        numbered = ((place, parsed(line, place)) for place, line in lines)
    for place, row in numbered:
        if not isinstance(row, dict):
            raise InputError(f"{place}: not a JSON object; each row is one")
        yield place, row


def parsed(text: str, place: str) -> Any:
    """The JSON value in ``text``."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not JSON ({error.msg} at column {error.colno})") from error


def text_of(row: Row, field: str, place: str) -> str:
    """A field that every row needs, as text."""
    value = row.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: {field} is missing or empty; every row needs one")
    return value


def golds(row: Row, grade: str, query_id: str, place: str) -> dict[str, int]:
    """Tool id -> grade above 0, from a query's ``labels``: a list of {id, ``grade``}, or JSON text of one."""
    given: Any = row["labels"]
    labels = parsed(given, place) if isinstance(given, str) else given
    if not isinstance(labels, list) or not all(isinstance(label, dict) and "id" in label for label in labels):
        raise InputError(f"{place}: labels of query {query_id!r} is not a list of objects with an id")
    if not all(isinstance(label.get(grade, 1), int | float) for label in labels):
        raise InputError(f"{place}: {grade} of a label of query {query_id!r} is not a number")
    found = {str(label["id"]): int(label.get(grade, 1)) for label in labels}
    if not any(score > 0 for score in found.values()):
        raise InputError(f"{place}: query {query_id!r} has no gold; leave it out")
    return {tool_id: score for tool_id, score in found.items() if score > 0}


def once(seen: dict[str, str], key: str, place: str, what: str) -> None:
    """Raise ``InputError`` for an id that an earlier row has; remember it."""
    if key in seen:
        raise InputError(f"{place}: {what} {key!r} stands already in {seen[key]}; ids must differ")
    seen[key] = place


def instructed(query: str, instruction: str) -> str:
    """A query with its instruction before it, as the published evaluations of ToolRet and MAIR hand both to an encoder."""
    return f"Instruct: {instruction}\nQuery: {query}" if instruction.strip() else query
