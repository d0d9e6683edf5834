"""Reranking of searches: the rewriter turned round in a process of its own, and what a replica knows of it.

Invariants: a search waits ``rerank_timeout_s`` at most and is answered by its raw ranking where the likelihoods are late, with the
reason; queries are read one after the other, in one thread. No ray here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from actors.core.types import Tool
from actors.interfaces import PairReader
from serve_app.batcher import Batcher
from serve_app.time_box import TimeBox


class RerankServer:
    """Wraps the model."""

    def __init__(self, make: Callable[[], PairReader]) -> None:
        """Nothing is loaded before the first call."""
        self._make = make
        self._reader: PairReader | None = None
        self._batcher: Batcher[tuple[str, Sequence[Tool]], list[float]] = Batcher(self._compute, 1, "reranker")

    async def likelihoods(self, query: str, tools: Sequence[Tool]) -> list[float]:
        """Of one query given each tool."""
        return await self._batcher.submit((query, tools))

    def _compute(self, jobs: Sequence[tuple[str, Sequence[Tool]]]) -> list[list[float]]:
        reader = self._reader = self._reader or self._make()
        return [reader.likelihoods([(query, tool) for tool in tools]) for query, tools in jobs]


RerankCall = Callable[[str, Sequence[Tool]], Awaitable[list[float]]]
"""Asks the reranker. Raises ``ModelGoneError`` where it does not answer."""


class RerankClient:
    """Likelihoods with a deadline and a memory."""

    def __init__(self, call: RerankCall | None, timeout_s: float, kept: int) -> None:
        """``call`` None: there is no reranker."""
        self._call = call
        self._box: TimeBox[tuple[str, tuple[str, ...]], list[float]] = TimeBox("the reranker", timeout_s, kept)

    @property
    def state(self) -> str:
        """ "off", "starting", "ready", or what is wrong with it."""
        return "off" if self._call is None else self._box.state

    def ready(self) -> None:
        """The reranker has loaded its model."""
        self._box.state = "ready"

    async def likelihoods(self, query: str, tools: Sequence[Tool]) -> list[float] | str:
        """Of the query given each tool; or in words why there are none."""
        call = self._call
        if call is None:
            return "there is no reranker"
        return await self._box.get((query, tuple(tool.content_hash for tool in tools)), lambda: call(query, tools))
