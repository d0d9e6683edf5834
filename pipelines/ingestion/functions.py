"""Function lists as they are sent to models: OpenAI's (both forms) and Anthropic's, in one JSON value or a line each.

Invariant: every fault is one line that names the file and the tool in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from actors.core.types import InputError
from actors.interfaces import Progress
from pipelines.ingestion.documents import read_text
from pipelines.ingestion.listing import Listing, make_entry

SOURCE = "functions"
_FORMS = "{name, description, input_schema} or {type: function, function: {name, description, parameters}}"


def read(location: str, namespace: str, progress: Progress) -> Listing:
    """The tools of a file or URL. Raises InputError for what is no such list."""
    rows = _rows(read_text(location), location)
    entries, notes = [], []
    for number, row in enumerate(rows, start=1):
        place = f"{location}, tool {number}"
        if not isinstance(row, Mapping):
            raise InputError(f"{place}: is no object; write {_FORMS}")
        kind = row.get("type", "function")
        if kind not in ("function", "custom") or "format" in row:
            notes.append(f"{place}: is of type {kind!r}, which a model's provider carries out; left out")
            continue
        about = row["function"] if isinstance(row.get("function"), Mapping) else row
        name = about.get("name")
        if not isinstance(name, str):
            raise InputError(f"{place}: has no name; write {_FORMS}")
        schema = about.get("input_schema", about.get("parameters")) or {}
        if not isinstance(schema, Mapping):
            raise InputError(
                f"{place} ({name}): its parameters are no JSON Schema; write an object, as {{type: object, properties: ...}}"
            )
        try:
            entry, more = make_entry(
                namespace, name, str(about.get("description") or ""), {"type": "object", "properties": {}, **schema}, SOURCE
            )
        except InputError as error:
            raise InputError(f"{place} ({name}): {error}") from error
        entries.append(entry)
        notes += more
        progress(number, len(rows))
    return Listing(tuple(entries), notes=tuple(notes))


def _rows(text: str, place: str) -> list[Any]:
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise InputError(f"{place}: nested too deeply") from error
    except json.JSONDecodeError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if len(lines) < 2:
            raise InputError(f"{place}: not JSON ({error.msg} in line {error.lineno}, column {error.colno})") from error
        return [_line(line, f"{place}:{number}") for number, line in lines]
    if isinstance(data, Mapping):
        data = data.get("tools", [data])
    if not isinstance(data, list):
        raise InputError(f"{place}: no list of tools; write one, or {{tools: [...]}}")
    return data


def _line(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not JSON ({error.msg} at column {error.colno}); one value, or one tool a line") from error
