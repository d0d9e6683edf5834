"""Rewrites for searches: the model in a process of its own, and what a replica knows of it.

Invariants: a rewrite is made by exactly the rewriter that a view names; concurrent queries of one rewriter are generated together;
a search waits ``rewrite_timeout_s`` at most and is answered without a rewrite where there is none, with the reason. No ray here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from actors.hosts import RewriterHost
from serve_app.batcher import Batcher
from serve_app.time_box import TimeBox

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
"""Asks the rewriter: (version, query, titles) -> rewrites. Raises ``ModelGoneError`` where it does not answer."""


class RewriteClient:
    """Rewrites with a deadline and a memory."""

    def __init__(self, call: Call | None, timeout_s: float, kept: int) -> None:
        """``call`` None: there is no rewriter."""
        self._call = call
        self._box: TimeBox[tuple[int, int, str], list[str]] = TimeBox("the rewriter", timeout_s, kept)

    @property
    def state(self) -> str:
        """ "off", "starting", "ready", or what is wrong with it."""
        return "off" if self._call is None else self._box.state

    def ready(self) -> None:
        """The rewriter has loaded what it is asked for."""
        self._box.state = "ready"

    def known(self, rewriter: int, retriever: int, query: str) -> list[str] | None:
        """A rewrite that was made before; None where there is none."""
        return self._box.known((rewriter, retriever, query))

    async def rewrite(self, rewriter: int, retriever: int, query: str, titles: Sequence[str]) -> list[str] | str:
        """Usable rewrites; or in words why there are none. One that comes too late is remembered for the next search."""
        call = self._call
        if call is None:
            return "there is no rewriter"

        async def usable() -> list[str]:
            return [text for text in await call(rewriter, query, titles) if text.strip()]

        made = await self._box.get((rewriter, retriever, query), usable)
        return made or "the rewriter wrote nothing usable"
