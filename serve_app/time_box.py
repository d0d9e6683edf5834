"""Answers of a slow model: waited for no longer than agreed, made once however many ask, and remembered.

Invariants: belongs to one event loop; one that comes too late is remembered for whoever asks next. No ray here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class ModelGoneError(RuntimeError):
    """The model does not answer; the message says why."""


class TimeBox(Generic[Key, Value]):
    """What a model, called ``who``, answered, by what it was asked."""

    def __init__(self, who: str, timeout_s: float, kept: int) -> None:
        """A caller waits ``timeout_s`` at most; ``kept`` answers are remembered."""
        self._who, self._timeout_s, self._kept = who, timeout_s, kept
        self._memory: OrderedDict[Key, Value] = OrderedDict()
        self._under_way: dict[Key, asyncio.Task[Value]] = {}
        self.state = "starting"
        """"starting", "ready", or what is wrong with the model."""

    def known(self, key: Key) -> Value | None:
        """An answer that was made before; None where there is none."""
        if key in self._memory:
            self._memory.move_to_end(key)
        return self._memory.get(key)

    async def get(self, key: Key, make: Callable[[], Awaitable[Value]]) -> Value | str:
        """The answer to ``key``, made by ``make`` where it is not known; or in words why there is none."""
        if (known := self.known(key)) is not None:
            return known
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.ensure_future(self._made(key, make))
            task.add_done_callback(lambda done: self._forget(key, done))
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._timeout_s)
        except TimeoutError:
            return f"{self._who} took longer than {self._timeout_s:g} s"
        except ModelGoneError as error:
            return str(error)

    def _forget(self, key: Key, done: asyncio.Task[Value]) -> None:
        self._under_way.pop(key, None)
        if not done.cancelled():
            # Looked at, so that a failure nobody waited for is not complained about.
            done.exception()

    async def _made(self, key: Key, make: Callable[[], Awaitable[Value]]) -> Value:
        try:
            made = await make()
        except ModelGoneError as error:
            self.state = str(error)
            raise
        self.state = "ready"
        self._memory[key] = made
        while len(self._memory) > self._kept:
            self._memory.popitem(last=False)
        return made
