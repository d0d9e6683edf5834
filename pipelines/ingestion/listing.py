"""What a source of tools says: entries with stable ids, whether it was read to its end, what was left out.

Invariants: a tool's id is its namespace and its name, so the same source gives the same ids each time; text is clean (no control
characters) and bounded; nothing here touches the catalog that it is going to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.catalog_file import Entry, new_entry
from actors.core.types import InputError
from actors.interfaces import Progress

MAX_DESCRIPTION = 20_000
"""Characters of a description that are kept: no model reads more, and a page that was pasted into one is an accident."""
MAX_SCHEMA = 200_000
"""Characters of a tool's JSON Schema; a larger one is left out with a note, for it does not fit into a model's context either."""
MAX_ID = 256

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]|[\ud800-\udfff]")
_ID = re.compile(r"[^A-Za-z0-9._/~-]+")


@dataclass(frozen=True)
class Listing:
    """The tools of one source. ``whole``: it was read to its end, so a tool that is missing is gone; ``notes``: a line for each
    thing that was cut or left out, with the tool's id.
    """

    entries: tuple[Entry, ...]
    whole: bool = True
    notes: tuple[str, ...] = ()


ReadSource = Callable[[str, str, Progress], Listing]
"""(location, namespace, progress in tools) -> listing. Raises InputError, with place and remedy, where it cannot be read."""


def make_entry(
    namespace: str,
    name: str,
    description: str,
    input_schema: Mapping[str, Any],
    source: str,
    title: str = "",
) -> tuple[Entry, list[str]]:
    """A tool as the catalog keeps it, and notes on what was cut.

    Its id is ``namespace.name`` with whatever an id cannot hold replaced. Raises InputError for a name without a letter or digit.
    """
    tool_id = _ID.sub("_", f"{namespace}.{clean(name)}").strip("_")[:MAX_ID]
    if not any(c.isalnum() for c in clean(name)):
        raise InputError(f"{namespace}: a tool's name is {name!r}; give it one with letters or digits")
    notes = []
    text, words = clean(description), clean(title)
    if text != description.strip() or words != title.strip():
        notes.append(f"{tool_id}: control characters were taken out of its description")
    if len(text) > MAX_DESCRIPTION:
        notes.append(f"{tool_id}: its description of {len(text):,} characters was cut at {MAX_DESCRIPTION:,}")
        text = text[:MAX_DESCRIPTION]
    schema = dict(input_schema)
    if (size := len(json.dumps(schema, default=str))) > MAX_SCHEMA:
        notes.append(f"{tool_id}: its schema of {size:,} characters is left out; the catalog keeps up to {MAX_SCHEMA:,}")
        schema = {"type": "object", "properties": {}}
    return new_entry(tool_id, clean(name), words, text, namespace, schema, source), notes


def clean(text: str) -> str:
    """Text without control and invisible characters, which hide instructions and break files; line breaks and tabs stay."""
    return _CONTROL.sub("", text).strip()
