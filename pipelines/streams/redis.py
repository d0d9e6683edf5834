"""Query log as a Redis stream, read through a consumer group.

Invariants: the group is set to our own position before reading, so what an earlier process took and did not commit is given again;
entries are acknowledged when their position is committed. An entry's field ``event`` holds the JSON.
"""

from __future__ import annotations

from typing import Any

import redis

from actors.core.types import InputError
from pipelines.streams import Position, Record, SourceLost

FIELD = b"event"
CONSUMER = "cohyde"
BEGINNING = "0-0"
SOCKET_TIMEOUT_S = 10.0
ACKNOWLEDGED_AT_ONCE = 1_000


class RedisSource:
    """One stream and one group."""

    def __init__(self, url: str, stream: str, group: str) -> None:
        """Connect and create the group where it is missing. Raises ``SourceLost``, or ``InputError`` for a key of another type."""
        self._url, self._stream, self._group = url, stream, group
        self._last = BEGINNING
        try:
            self._redis: Any = redis.Redis.from_url(url, socket_timeout=SOCKET_TIMEOUT_S, socket_connect_timeout=SOCKET_TIMEOUT_S)
        except ValueError as error:
            raise InputError(f"stream.address={url}: {error}; give it as redis://host:6379/0") from error
        self._create_group()

    def seek(self, position: Position) -> None:
        """Go on behind an entry's id."""
        self._last = str(position.get("id", BEGINNING))
        self._ask(lambda: self._redis.xgroup_setid(self._stream, self._group, self._last))
        self.commit(position)

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        """At most ``limit`` entries; empty after ``timeout_s``. Raises ``SourceLost``."""
        # The socket's own timeout must be the longer one.
        block_ms = max(1, int(1000 * min(timeout_s, SOCKET_TIMEOUT_S / 2)))
        answer = self._ask(lambda: self._redis.xreadgroup(self._group, CONSUMER, {self._stream: ">"}, count=limit, block=block_ms))
        records = []
        for _, entries in answer or []:
            for entry_id, fields in entries:
                self._last = entry_id.decode()
                # An entry that was deleted meanwhile has no fields.
                records.append(Record((fields or {}).get(FIELD, b""), f"{self._stream} entry {self._last}"))
        return records

    def position(self) -> Position:
        """Id of the last entry given."""
        return {"id": self._last}

    def commit(self, position: Position) -> None:
        """Acknowledge all entries up to ``position``. Raises ``SourceLost``."""
        until = str(position.get("id", BEGINNING))
        while True:
            pending = self._ask(
                lambda: self._redis.xpending_range(self._stream, self._group, min="-", max=until, count=ACKNOWLEDGED_AT_ONCE)
            )
            if not pending:
                return
            ids = [entry["message_id"] for entry in pending]
            self._ask(lambda ids=ids: self._redis.xack(self._stream, self._group, *ids))

    def depth(self) -> int | None:
        """Entries behind the last one given; None while Redis does not say."""
        try:
            groups = self._ask(lambda: self._redis.xinfo_groups(self._stream))
        except SourceLost:
            return None
        lag = next((group.get("lag") for group in groups if group["name"] == self._group.encode()), None)
        return None if lag is None else int(lag)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _create_group(self) -> None:
        try:
            self._ask(lambda: self._redis.xgroup_create(self._stream, self._group, id=BEGINNING, mkstream=True))
        except redis.ResponseError as error:
            if "BUSYGROUP" in str(error):
                return
            raise InputError(
                f"stream.topic={self._stream}: Redis at {self._url} says {error}; name a key that holds a stream"
            ) from error

    def _ask(self, call: Any) -> Any:
        try:
            return call()
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            # A Redis that came back empty: the log begins anew.
            self._create_group()
            return call()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise SourceLost(f"Redis at {self._url}: {error}") from error
