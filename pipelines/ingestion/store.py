"""A catalog folder: the tools of several sources as they were last read.

Layout: ``tools.jsonl`` (a tool a line: its fields, its full input schema, a hash of each part, the name of its source) and
``sources.json`` (per source: kind, location, when it was read, its tools, whether it was read whole).

Invariants: both files are written aside and renamed, the sources first, so that the folder can be read at all times and a crash
leaves a catalog that the next sync completes; one process writes at a time; schemas stay on the disk: of a tool that is not asked
for, memory holds hashes and the text to embed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from actors.catalog_file import Entry, tool_of
from actors.core.types import InputError, Tool

TOOLS_FILE, SOURCES_FILE, LOCK_FILE = "tools.jsonl", "sources.json", ".lock"
LOCK_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Source:
    """From where tools came. ``whole``: it was last read to its end."""

    kind: str
    location: str
    read: str
    tools: int
    whole: bool

    @property
    def spec(self) -> str:
        """As it is written on the command line."""
        return f"{self.kind}:{self.location}"


@dataclass(frozen=True, slots=True)
class Record:
    """A tool without its weight. ``parts`` are hashes of what a sync compares; ``line`` is empty for what stands in the file."""

    tool_id: str
    source: str
    document: str
    parts: Mapping[str, str]
    line: str = ""


def record_of(entry: Entry, source: str) -> Record:
    """An entry of a source, ready to be written."""
    tool = entry.tool
    schema = json.dumps(entry.input_schema, sort_keys=True, default=str)
    texts = {"name": tool.name, "title": tool.title, "description": tool.description, "text": tool.ready_document, "schema": schema}
    parts = {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}
    content = {"source": source, "parts": parts, "tool": asdict(tool), "input_schema": entry.input_schema}
    return Record(tool.tool_id, source, tool.document, parts, json.dumps(content, default=str) + "\n")


def entry_of_line(line: str) -> Entry:
    """The tool of a line that ``record_of`` made."""
    row = json.loads(line)
    return Entry(tool_of(row["tool"]), row["input_schema"])


class Store:
    """One catalog folder."""

    def __init__(self, folder: Path) -> None:
        """Nothing is created before the first ``write``."""
        self.folder = folder

    def sources(self) -> dict[str, Source]:
        """Name -> source, in the order they were added; empty where there is no catalog yet."""
        path = self.folder / SOURCES_FILE
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {name: Source(**about) for name, about in found.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: not a list of sources ({error}); restore it, or begin in another folder") from error

    def records(self) -> dict[str, Record]:
        """Tool id -> record of every tool."""
        found = {}
        for row, _ in self._rows():
            tool = tool_of(row["tool"])
            found[tool.tool_id] = Record(tool.tool_id, row["source"], tool.document, row["parts"])
        return found

    def tools(self) -> Iterator[Tool]:
        """Every tool, in the file's order."""
        return (tool_of(row["tool"]) for row, _ in self._rows())

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """(source, tool with its schema) of every tool, one after the other."""
        return ((row["source"], Entry(tool_of(row["tool"]), row["input_schema"])) for row, _ in self._rows())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who writes. Raises InputError where another process is at it, or the folder cannot be made."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"catalog {self.folder}: cannot be made ({error.strerror}); give another folder") from error
        try:
            with FileLock(self.folder / LOCK_FILE, timeout=LOCK_TIMEOUT_S):
                yield
        except Timeout as error:
            raise InputError(f"catalog {self.folder}: another command is changing it; try again when that has ended") from error

    def write(self, sources: Mapping[str, Source], upserts: Iterable[Record], removed: Iterable[str]) -> None:
        """Put changes in, tools in their places and new ones at the end; for the holder of the lock."""
        content = json.dumps({name: asdict(source) for name, source in sources.items()}, indent=1) + "\n"
        changed, gone = {record.tool_id: record.line for record in upserts}, set(removed)
        _replace(self.folder / SOURCES_FILE, [content])
        if changed or gone or not (self.folder / TOOLS_FILE).exists():
            _replace(self.folder / TOOLS_FILE, self._merged(changed, gone))

    def _merged(self, changed: dict[str, str], gone: set[str]) -> Iterator[str]:
        for row, line in self._rows():
            tool_id = row["tool"]["tool_id"]
            if tool_id not in gone:
                yield changed.pop(tool_id, line)
        yield from changed.values()

    def _rows(self) -> Iterator[tuple[dict[str, Any], str]]:
        path = self.folder / TOOLS_FILE
        if not path.is_file():
            return
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = json.loads(line)
                    # Who reads on relies on these alone.
                    row["tool"]["tool_id"], row["input_schema"], row["source"], row["parts"]
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(
                        f"{path}:{number}: not a tool of a catalog; restore the file, or begin in another folder"
                    ) from error
                yield row, line


def _replace(path: Path, lines: Iterable[str]) -> None:
    """Write a file aside, make it durable, and put it in the old one's place."""
    aside = path.with_name(f".{path.name}.new")
    with aside.open("w", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
