"""The query log that serving writes: the events of ``docs/query-log.md``, one JSON line each, in a directory of JSON lines.

Invariants: a line is written by one ``write``, whole, before the answer it belongs to; each process has files of its own; of a
query without consent the text is not written; a log that cannot be written never fails a search, but is counted and told.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from actors.core.events import EVENT_VERSION
from serve_app.keys import Client
from serve_app.schema.search import FeedbackEvent, OutcomeFeedback

logger = logging.getLogger(__name__)
WITHHELD = "(withheld)"
"""Stands for a query that must not be stored."""
REPEAT_AFTER_S = 60.0
"""A log that stays broken is complained about this often."""

Shown = tuple[str, float, float]
"""A tool of an answer: id, score, the probability that it was shown at this place."""


class QueryLog:
    """Appends events; belongs to one thread."""

    def __init__(self, directory: Path, file_bytes: int) -> None:
        """A new file is begun after ``file_bytes``; nothing is created before the first event."""
        self._directory, self._file_bytes = directory, file_bytes
        self._process = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._descriptor: int | None = None
        self._written = 0
        self._complained = 0.0
        self.lost = 0
        """Events that could not be written since the start."""
        self.broken = ""
        """Why the newest event could not be written; empty where it was."""

    def search(self, request_id: str, client: Client, query: str, train_on: bool, release: str, shown: Sequence[Shown]) -> None:
        """A search that is about to be answered."""
        tools = [
            {"tool_id": tool_id, "rank": rank, "score": score, "propensity": propensity}
            for rank, (tool_id, score, propensity) in enumerate(shown, start=1)
        ]
        about = {"request_id": request_id, "query": query if train_on else WITHHELD, "train_on": train_on}
        self._append([{**_head("search", client), **about, "release": release, "tools": tools}])

    def feedback(self, client: Client, events: Sequence[FeedbackEvent]) -> bool:
        """What clients say; whether it was written."""
        return self._append([_feedback(client, event) for event in events])

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, events: Sequence[dict[str, Any]]) -> bool:
        content = b"".join(to_json(event) + b"\n" for event in events)
        try:
            self._write(content)
        except OSError as error:
            self.close()
            self.lost += len(events)
            self.broken = f"the query log in {self._directory} cannot be written: {error.strerror}"
            if time.monotonic() - self._complained > REPEAT_AFTER_S:
                self._complained = time.monotonic()
                logger.error("%s; %d events lost", self.broken, self.lost)
            return False
        self.broken = ""
        return True

    def _write(self, content: bytes) -> None:
        if self._descriptor is None or self._written > self._file_bytes:
            self.close()
            self._directory.mkdir(parents=True, exist_ok=True)
            name = f"served-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{self._process}-{uuid.uuid4().hex[:4]}.jsonl"
            self._descriptor = os.open(self._directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._written = 0
        done = os.write(self._descriptor, content)
        if done < len(content):
            # The disk filled in the middle of a line: take the part back, so that the next event begins a line.
            os.ftruncate(self._descriptor, self._written)
            raise OSError(28, "No space left on device")
        self._written += done


def _head(kind: str, client: Client) -> dict[str, Any]:
    return {"version": EVENT_VERSION, "type": kind, "time": time.time(), "tenant": client.tenant}


def _feedback(client: Client, event: FeedbackEvent) -> dict[str, Any]:
    head = _head(event.type, client)
    if isinstance(event, OutcomeFeedback):
        return {**head, "request_id": event.request_id, "tool_id": event.tool_id, "result": event.result}
    consent = event.train_on and client.train_on
    query = event.query if consent else WITHHELD
    return {**head, "query": query, "train_on": consent, "tool_ids": list(event.tool_ids), "by": event.by}
