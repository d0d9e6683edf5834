"""Answers which versions are published, and waits for one.

Invariants: holds no state of its own: the truth is on disk, so a restarted registry answers as the old one did.
"""

from __future__ import annotations

import asyncio
import os

from actors.core.lag import WaitTimeout
from actors.core.snapshots import SnapshotStore

POLL_S = 0.1
"""How often a wait looks at the store."""


class Registry:
    """The snapshot store of a run, for whoever wants to wait for a version."""

    def __init__(self, store_root: str) -> None:
        """Open the store under ``store_root``."""
        self._store = SnapshotStore(store_root)

    async def wait_for(self, kind: str, version: int, timeout_s: float) -> int:
        """Return ``version`` once it is published. Raises ``WaitTimeout`` after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await asyncio.to_thread(self._store.has, kind, version):
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            newest = self._store.latest(kind)
            raise WaitTimeout(f"waited {timeout_s:.0f} s for {kind} {version}; the newest is {newest}") from error
        return version

    async def latest(self, kind: str) -> int | None:
        """The newest published version, or None."""
        return await asyncio.to_thread(self._store.latest, kind)

    async def health(self) -> int:
        """The process id."""
        return os.getpid()
