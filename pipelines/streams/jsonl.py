"""Query log as a directory of append-only JSON lines: the embedded default.

Invariants: a line is read once its newline is there, so a writer may be appending; positions are byte offsets of each file, so any
number of writers may have a file of their own; blank lines (what a deletion leaves behind) are passed over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from actors.core.events import MAX_EVENT_BYTES, EventError, parse
from actors.core.types import InputError
from pipelines.streams import Position, Record

PATTERN = "*.jsonl"
POLL_S = 0.2


class JsonlSource:
    """The files of a directory, in the order of their names."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read yet. Raises ``InputError`` where the path is something else than a directory; it need not exist yet."""
        if directory.exists() and not directory.is_dir():
            raise InputError(f"stream.address={directory}: not a directory; name the directory that holds the query log")
        self._directory = directory
        self._offsets: dict[str, int] = {}

    def seek(self, position: Position) -> None:
        """Go on from byte offsets by file name. Raises ``InputError`` where a file is shorter than what was read of it."""
        for name, offset in position.items():
            size = self._size(name)
            if size is not None and size < offset:
                raise InputError(
                    f"stream.address: {self._directory / name} has {size} bytes, of which {offset} were read;"
                    " a query log only grows: write into a new file instead"
                )
        self._offsets = {name: int(offset) for name, offset in position.items()}

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        """At most ``limit`` lines; waits for new ones for ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while True:
            records: list[Record] = []
            for path in self._files():
                records += self._lines(path, limit - len(records))
            if records or time.monotonic() >= deadline:
                return records
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))

    def position(self) -> Position:
        """Byte offset of each file."""
        return dict(self._offsets)

    def commit(self, position: Position) -> None:
        """Nothing to tell: files keep no positions."""

    def depth(self) -> int | None:
        """Bytes not read yet."""
        return sum(max(0, path.stat().st_size - self._offsets.get(path.name, 0)) for path in self._files())

    def close(self) -> None:
        """Nothing is held open."""

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob(PATTERN))

    def _size(self, name: str) -> int | None:
        path = self._directory / name
        return path.stat().st_size if path.exists() else None

    def _lines(self, path: Path, limit: int) -> list[Record]:
        """Whole lines from the file's offset on, which is moved behind them."""
        records: list[Record] = []
        if limit <= 0:
            return records
        for start, line in self._whole_lines(path):
            self._offsets[path.name] = start + len(line)
            if line.strip():
                # What is over the limit is refused by its length; its text is of no use.
                records.append(Record(line.rstrip(b"\r\n")[: MAX_EVENT_BYTES + 1], f"{path.name} at byte {start}"))
            if len(records) == limit:
                break
        return records

    def _whole_lines(self, path: Path) -> Iterator[tuple[int, bytes]]:
        start = self._offsets.get(path.name, 0)
        with path.open("rb") as file:
            file.seek(start)
            while line := file.readline():
                if not line.endswith(b"\n"):
                    return
                yield start, line
                start += len(line)


def blank_tenant(directory: Path, tenant: str) -> int:
    """Overwrite all lines of a tenant's events by blanks of the same length, so that positions stay right; return how many.

    A line that is being appended is not touched.
    """
    blanked = 0
    for path in sorted(directory.glob(PATTERN)):
        with path.open("r+b") as file:
            start = 0
            while line := file.readline():
                if not line.endswith(b"\n"):
                    break
                try:
                    ours = parse(line).tenant == tenant
                except EventError:
                    ours = False
                if ours:
                    file.seek(start)
                    file.write(b" " * (len(line) - 1))
                    file.seek(start + len(line))
                    blanked += 1
                start += len(line)
    return blanked
