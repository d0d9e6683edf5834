"""The catalog where serving finds it: a run's own as a snapshot, and a journal of what was changed while it was served.

Invariants: the snapshot never changes; a change is one file, written whole, and is durable when ``append`` returns; of several
changes of one tool the latest stamp wins, in whatever order they are read, so that all readers end with the same catalog.
Layout: ``STORE/catalog/0/tools.jsonl`` and ``ROOT/NANOSECONDS-ID.json``.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from actors.core.snapshots import SnapshotStore, open_root, read_text, write_text
from actors.core.text import identifier_words
from actors.core.types import Catalog, InputError, Parameter, Tool

KIND, VERSION = "catalog", 0
_FILE = "tools.jsonl"
COMPACT_AT = 512
"""Files of a journal that are put together into one."""
_JSON_TYPES = {
    "structure": "object",
    "map": "object",
    "list": "array",
    "long": "integer",
    "float": "number",
    "double": "number",
    "timestamp": "string",
    "blob": "string",
    "character": "string",
}
"""Types of botocore that JSON Schema calls otherwise."""


@dataclass(frozen=True)
class Entry:
    """A tool with the JSON Schema of its parameters, as callers get it."""

    tool: Tool
    input_schema: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """Hash of everything that a caller sees, whatever the order of the schema's keys: 16 hex digits."""
        schema = json.dumps(self.input_schema, sort_keys=True)
        return hashlib.sha256(f"{self.tool.content_hash} {schema}".encode()).hexdigest()[:16]


def entry_of(tool: Tool) -> Entry:
    """A tool of a run's catalog; the schema says of its parameters what the catalog knows."""
    properties: dict[str, Any] = {}
    for parameter in tool.parameters:
        about = {"description": parameter.description} if parameter.description else {}
        kind = _JSON_TYPES.get(parameter.type, parameter.type)
        properties[parameter.name] = {"type": kind, **about} if kind else about
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required := [p.name for p in tool.parameters if p.required]:
        schema["required"] = required
    return Entry(tool, schema)


def new_entry(
    tool_id: str, name: str, title: str, description: str, namespace: str, input_schema: Mapping[str, Any], source: str
) -> Entry:
    """A tool that a client adds; its parameters are the schema's top-level properties.

    Raises ``InputError`` where the schema is not one of an object.
    """
    if input_schema.get("type", "object") != "object" or not isinstance(input_schema.get("properties", {}), Mapping):
        raise InputError("input_schema: must be the JSON Schema of an object with properties; wrap the parameters in one")
    required = input_schema.get("required", [])
    parameters = []
    for parameter, about in input_schema.get("properties", {}).items():
        if not isinstance(about, Mapping):
            raise InputError(f"input_schema.properties.{parameter}: must be an object, as {{'type': 'string'}}")
        kind = about.get("type", "")
        text = str(about.get("description", ""))
        parameters.append(Parameter(parameter, kind if isinstance(kind, str) else "", parameter in required, text))
    words = title or " ".join(identifier_words(name))
    tool = Tool(tool_id, name, words, description, tuple(parameters), namespace, source)
    return Entry(tool, dict(input_schema))


def publish(store: SnapshotStore, catalog: Catalog, entries: Iterable[Entry] | None = None) -> None:
    """Put a run's catalog beside its snapshots, once.

    ``entries``, where given, are the tools of the catalog with the schemas that their sources gave.
    """

    def write(directory: Path) -> None:
        with (directory / _FILE).open("w", encoding="utf-8") as file:
            if entries is None:
                file.writelines(json.dumps(asdict(tool)) + "\n" for tool in catalog.tools)
            else:
                file.writelines(json.dumps(asdict(e.tool) | {"input_schema": dict(e.input_schema)}) + "\n" for e in entries)

    store.publish(KIND, VERSION, write, {"catalog_hash": catalog.catalog_hash, "tools": len(catalog.tools)})


def read(store: SnapshotStore) -> list[Entry]:
    """A run's catalog. Raises ``InputError`` where the run has put none there."""
    if not store.has(KIND, VERSION):
        raise InputError(f"{store.root}: holds no catalog; run the run's own command again, which writes it")
    with (store.fetch(KIND, VERSION) / _FILE).open(encoding="utf-8") as file:
        return [_published(json.loads(line)) for line in file]


def _published(record: dict[str, Any]) -> Entry:
    schema = record.pop("input_schema", None)
    tool = tool_of(record)
    return entry_of(tool) if schema is None else Entry(tool, schema)


def tool_of(record: Mapping[str, Any]) -> Tool:
    """A tool from its fields as JSON has them."""
    return Tool(**{**record, "parameters": tuple(Parameter(**p) for p in record["parameters"])})


class Journal:
    """Changes of a catalog that is served, on any ``pyarrow.fs`` path; one writer's files never meet another's."""

    def __init__(self, root: str) -> None:
        """Nothing is created before the first change."""
        self._fs, self._root = open_root(root)
        self._seen: set[str] = set()
        self._stamps: dict[str, int] = {}

    def append(self, upserts: Iterable[Entry], deletes: Iterable[str]) -> None:
        """Write one change; ``poll`` of every reader meets it, the writer's too."""
        stamp = time.time_ns()
        records = [_record(stamp, entry.tool.tool_id, entry) for entry in upserts]
        self._write(records + [_record(stamp, tool_id, None) for tool_id in deletes], stamp)

    def poll(self) -> dict[str, Entry | None]:
        """What changed since the last poll: tool id -> its entry, None where it was deleted."""
        changed: dict[str, Entry | None] = {}
        for name in self._names():
            if name in self._seen:
                continue
            for record in self._read(name):
                tool_id, stamp = record["tool_id"], record["stamp"]
                if stamp > self._stamps.get(tool_id, -1):
                    self._stamps[tool_id] = stamp
                    changed[tool_id] = _entry(record)
            self._seen.add(name)
        return changed

    def compact(self, entries: Mapping[str, Entry]) -> None:
        """Put the files read so far into one, if they are many; ``entries`` is the catalog as it is after them."""
        old = [name for name in self._names() if name in self._seen]
        if len(old) < COMPACT_AT:
            return
        records = [_record(stamp, tool_id, entries.get(tool_id)) for tool_id, stamp in self._stamps.items()]
        self._seen.add(self._write(records, time.time_ns()))
        for name in old:
            self._fs.delete_file(f"{self._root}/{name}")
            self._seen.discard(name)

    def _names(self) -> list[str]:
        selector = pafs.FileSelector(self._root, allow_not_found=True)
        return sorted(info.base_name for info in self._fs.get_file_info(selector) if info.base_name.endswith(".json"))

    def _read(self, name: str) -> Sequence[dict[str, Any]]:
        try:
            records: list[dict[str, Any]] = json.loads(read_text(self._fs, f"{self._root}/{name}"))
        except FileNotFoundError:
            # Another process put it into a larger file meanwhile, which the next poll meets.
            return []
        return records

    def _write(self, records: Sequence[dict[str, Any]], stamp: int) -> str:
        name = f"{stamp:020d}-{uuid.uuid4().hex[:8]}.json"
        self._fs.create_dir(self._root, recursive=True)
        write_text(self._fs, f"{self._root}/{name}", json.dumps(records))
        return name


def _record(stamp: int, tool_id: str, entry: Entry | None) -> dict[str, Any]:
    about = None if entry is None else {"tool": asdict(entry.tool), "input_schema": dict(entry.input_schema)}
    return {"stamp": stamp, "tool_id": tool_id, "entry": about}


def _entry(record: Mapping[str, Any]) -> Entry | None:
    about = record["entry"]
    return None if about is None else Entry(tool_of(about["tool"]), about["input_schema"])
