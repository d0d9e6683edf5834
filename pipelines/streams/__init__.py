"""Where query-log events come from: one file a source, all behind the same small Protocol.

Invariants: a source gives what was written after a position, at least once and in an order that a second reading repeats for each
partition; the position that a unit was committed with is the truth, whatever the broker remembers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

Position = dict[str, Any]
"""Where reading goes on, as JSON; what its keys mean is the source's own business. Empty: from the beginning."""


class SourceLost(ConnectionError):
    """A source does not answer; the message names it and what it said. Reading may be tried again."""


@dataclass(frozen=True, slots=True)
class Record:
    """One raw event and where it stood (for the dead-letter file)."""

    data: bytes
    place: str


class Source(Protocol):
    """A query log that can be read from any position."""

    def seek(self, position: Position) -> None:
        """Go on from ``position``. Raises ``InputError`` where the log no longer holds it."""

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        """At most ``limit`` records that were not given yet; empty after ``timeout_s`` without any. Raises ``SourceLost``."""

    def position(self) -> Position:
        """Where reading goes on after what ``poll`` gave."""

    def commit(self, position: Position) -> None:
        """Tell the log that all before ``position`` is done with; telling it twice changes nothing."""

    def depth(self) -> int | None:
        """Records (or bytes, for files) not read yet; None where the log cannot say."""

    def close(self) -> None:
        """End connections."""
