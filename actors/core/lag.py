"""Admission by version: who may start which unit, and the bound that this gives.

Invariants: a published version never goes back; pacing admits, nothing is dropped for age. Because ``generate(u)`` waits for
rewriter ``u - max_lag``, units in flight never exceed ``max_lag + 1``, so no record is older than the bound when it is consumed;
``check_lag`` asserts it all the same.
"""

from __future__ import annotations

import asyncio


class WaitTimeout(TimeoutError):
    """A wait passed its deadline; the message says what it waited for."""


def needed_rewriter(unit: int, max_lag: int) -> int:
    """Oldest rewriter version that may generate for ``unit``."""
    return max(0, unit - max_lag)


def needed_retriever(unit: int, max_lag: int) -> int:
    """Oldest retriever version that may score ``unit``."""
    return max(0, unit + 1 - max_lag)


def check_lag(what: str, unit: int, newest: int, version: int, max_lag: int) -> int:
    """The lag of a record of ``unit`` made by ``version`` where ``newest`` would have had lag 0; never below 0.

    Raises ``AssertionError`` where it exceeds ``max_lag``: the pacing is broken.
    """
    lag = max(0, newest - version)
    if lag > max_lag:
        raise AssertionError(f"{what} of unit {unit} was made by version {version}: lag {lag} exceeds the bound {max_lag}")
    return lag


class Gate:
    """The newest published version of one thing, and the waiting for it. Belongs to one event loop."""

    def __init__(self, name: str, version: int) -> None:
        """Start at ``version``: what is published already (a restarted run), or one below the first."""
        self.name = name
        self.version = version
        self._moved = asyncio.Condition()

    async def publish(self, version: int) -> None:
        """Raise the newest version and wake who waits for it. Raises ``AssertionError`` where it would go back."""
        async with self._moved:
            if version < self.version:
                raise AssertionError(f"{self.name} went back from version {self.version} to {version}")
            self.version = version
            self._moved.notify_all()

    async def wait_for(self, version: int, timeout_s: float | None, who: str) -> int:
        """Wait until ``version`` or a newer one is published; return the newest. Raises ``WaitTimeout``; None: no deadline."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.version >= version)
        except TimeoutError as error:
            raise WaitTimeout(f"{who} waited {timeout_s:.0f} s for {self.name} {version}; the newest is {self.version}") from error
        return self.version
