"""Hands jobs to a learner, so that each is trained exactly once whatever dies in between.

Invariants: a job is named by the version it makes (``job["version"]``) and is never popped: ``next(done)`` answers the job of
version ``done + 1`` however often it is asked, because the learner's published version alone says what is trained. Stop overtakes
every job that is not begun.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

STOP: dict[str, Any] = {"stop": True}
"""The answer that ends a learner."""
WAIT: dict[str, Any] = {"wait": True}
"""The answer that there is no job yet: ask again."""


class UnitFeed:
    """Jobs of one learner. Async: waiting costs nothing and calls do not block each other."""

    def __init__(self) -> None:
        """No job yet."""
        self._jobs: dict[int, dict[str, Any]] = {}
        self._metrics: dict[int, dict[str, Any]] = {}
        self._stopped = False
        self._changed = asyncio.Condition()

    async def put(self, job: dict[str, Any]) -> None:
        """Offer a job; the same version again changes nothing, so it may be repeated until the version is published."""
        async with self._changed:
            self._jobs.setdefault(int(job["version"]), job)
            self._changed.notify_all()

    async def next(self, done: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """The job that makes version ``done + 1``, or ``STOP``; ``WAIT`` after ``timeout_s``, since users may be silent."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._stopped or done + 1 in self._jobs)
        except TimeoutError:
            return WAIT
        if self._stopped:
            return STOP
        for version in [v for v in self._jobs if v <= done]:
            del self._jobs[version]
        return self._jobs[done + 1]

    async def finished(self, version: int, metrics: dict[str, Any]) -> None:
        """Keep what the learner measured while it made ``version``."""
        self._metrics[version] = metrics

    async def metrics(self, version: int) -> dict[str, Any]:
        """What ``finished`` was told of ``version``; empty where it was not told (yet, or before a restart)."""
        return self._metrics.get(version, {})

    async def stop(self) -> None:
        """Answer stop from now on."""
        async with self._changed:
            self._stopped = True
            self._changed.notify_all()

    async def health(self) -> int:
        """The process id."""
        return os.getpid()
