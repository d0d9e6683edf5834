"""Rewrites for searches: the model in a process of its own, and what a replica knows of it.

Invariants: a rewrite is made by exactly the rewriter that a view names; concurrent queries of one rewriter are generated together;
a search waits ``rewrite_timeout_s`` at most and is answered without a rewrite where there is none, with the reason. No ray here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from actors.hosts import RewriterHost
from serve_app.batcher import Batcher

BATCH_QUERIES = 16
SEED = 17


@dataclass(frozen=True)
class RewriteJob:
    """A query to rewrite by rewriter ``version``; ``titles`` are of the tools that a first retrieval found."""

    version: int
    query: str
    titles: tuple[str, ...]


class RewriteServer:
    """Wraps the host of the model: queries that come together are generated together."""

    def __init__(self, host: RewriterHost) -> None:
        """Nothing is loaded before the first call."""
        self._host = host
        self._batcher: Batcher[RewriteJob | int, list[str]] = Batcher(self._compute, BATCH_QUERIES, "rewriter")

    async def rewrite(self, version: int, query: str, titles: Sequence[str]) -> list[str]:
        """The rewrites of one query."""
        return await self._batcher.submit(RewriteJob(version, query, tuple(titles)))

    async def prepare(self, version: int) -> None:
        """Load a version ahead of its first use."""
        await self._batcher.submit(version)

    def _compute(self, jobs: Sequence[RewriteJob | int]) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in jobs]
        for job in jobs:
            if isinstance(job, int):
                self._host.prepare(job)
        versions = {job.version for job in jobs if isinstance(job, RewriteJob)}
        for version in sorted(versions):
            mine = [(i, job) for i, job in enumerate(jobs) if isinstance(job, RewriteJob) and job.version == version]
            made = self._host.serving_rewrites(version, [job.query for _, job in mine], [job.titles for _, job in mine], SEED)
            for (i, _), texts in zip(mine, made, strict=True):
                found[i] = texts
        return found


Call = Callable[[int, str, Sequence[str]], Awaitable[list[str]]]
"""Asks the rewriter: (version, query, titles) -> rewrites. Raises ``RewriterGone`` where it does not answer."""


class RewriterGone(RuntimeError):
    """The rewriter does not answer; the message says why."""


class RewriteClient:
    """Rewrites with a deadline and a memory."""

    def __init__(self, call: Call | None, timeout_s: float, kept: int) -> None:
        """``call`` None: there is no rewriter."""
        self._call, self._timeout_s, self._kept = call, timeout_s, kept
        self._memory: OrderedDict[tuple[int, int, str], list[str]] = OrderedDict()
        self._under_way: dict[tuple[int, int, str], asyncio.Task[list[str]]] = {}
        self.state = "off" if call is None else "starting"
        """"off", "starting", "ready", or what is wrong with it."""

    def ready(self) -> None:
        """The rewriter has loaded what it is asked for."""
        self.state = "ready"

    def known(self, rewriter: int, retriever: int, query: str) -> list[str] | None:
        """A rewrite that was made before; None where there is none."""
        key = (rewriter, retriever, query)
        if key in self._memory:
            self._memory.move_to_end(key)
        return self._memory.get(key)

    async def rewrite(self, rewriter: int, retriever: int, query: str, titles: Sequence[str]) -> list[str] | str:
        """Usable rewrites; or in words why there are none. One that comes too late is remembered for the next search."""
        known = self.known(rewriter, retriever, query)
        if known is not None:
            return known or "the rewriter wrote nothing usable"
        if self._call is None:
            return "there is no rewriter"
        key = (rewriter, retriever, query)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.ensure_future(self._made(key, titles))
            task.add_done_callback(lambda done: self._forget(key, done))
        try:
            made = await asyncio.wait_for(asyncio.shield(task), self._timeout_s)
        except TimeoutError:
            return f"the rewriter took longer than {self._timeout_s:g} s"
        except RewriterGone as error:
            return str(error)
        return made or "the rewriter wrote nothing usable"

    def _forget(self, key: tuple[int, int, str], done: asyncio.Task[list[str]]) -> None:
        self._under_way.pop(key, None)
        if not done.cancelled():
            # Looked at, so that a failure nobody waited for is not complained about.
            done.exception()

    async def _made(self, key: tuple[int, int, str], titles: Sequence[str]) -> list[str]:
        assert self._call is not None
        try:
            made = [text for text in await self._call(key[0], key[2], titles) if text.strip()]
        except RewriterGone as error:
            self.state = str(error)
            raise
        self.ready()
        self._memory[key] = made
        while len(self._memory) > self._kept:
            self._memory.popitem(last=False)
        return made
