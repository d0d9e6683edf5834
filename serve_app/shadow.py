"""A candidate that answers a share of the traffic unseen: how often it agrees, and what it would have gained.

Invariants: a shadowed search is answered before the candidate sees it; the candidate's answers reach neither client nor log; only
so many searches wait for their outcome. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from statistics import fmean

from serve_app.schema.operation import ShadowReport

logger = logging.getLogger(__name__)
DEPTH = 10
AGREEMENT_AT = 5
REMEMBERED = 10_000
"""Newest searches that are told of, and that may still wait for an outcome."""
UNDER_WAY = 4
"""Shadowed searches computed at once; more are let go, for the candidate must not slow what is served."""

Rank = Callable[[str, tuple[str, ...] | None], Awaitable[list[str]]]
"""The candidate's first tools for a query, among namespaces."""


class Shadow:
    """Compares a candidate with what is served."""

    def __init__(self, release: str, share: float, rank: Rank) -> None:
        """``share`` of the searches goes to the candidate too."""
        self._release, self._share, self._rank = release, share, rank
        self._waiting: OrderedDict[str, tuple[list[str], list[str]]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._overlaps: deque[float] = deque(maxlen=REMEMBERED)
        self._firsts: deque[float] = deque(maxlen=REMEMBERED)
        self._gains: deque[float] = deque(maxlen=REMEMBERED)
        self._rng = random.Random()

    def saw(self, request: str, query: str, namespaces: tuple[str, ...] | None, served: Sequence[str]) -> None:
        """A search was answered with ``served``; ``request`` names it, its tenant included."""
        if self._rng.random() >= self._share or len(self._tasks) >= UNDER_WAY:
            return
        task = asyncio.ensure_future(self._compare(request, query, namespaces, list(served)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def succeeded(self, request: str, tool_id: str) -> None:
        """A tool that was shown for ``request`` succeeded."""
        pair = self._waiting.pop(request, None)
        if pair is not None:
            served, candidate = (_gain(ranking, tool_id) for ranking in pair)
            self._gains.append(candidate - served)

    def report(self) -> ShadowReport:
        """What was seen so far."""
        return ShadowReport(
            release=self._release,
            searches=len(self._overlaps),
            agreement_at_5=fmean(self._overlaps) if self._overlaps else 0.0,
            same_first=fmean(self._firsts) if self._firsts else 0.0,
            outcomes=len(self._gains),
            estimated_gain=fmean(self._gains) if self._gains else 0.0,
        )

    async def _compare(self, request: str, query: str, namespaces: tuple[str, ...] | None, served: list[str]) -> None:
        try:
            candidate = await self._rank(query, namespaces)
        except Exception:
            # Whatever is wrong with a candidate, it must be seen and must not touch what is served.
            logger.exception("shadowed release %s failed on a search", self._release)
            return
        first = served[:AGREEMENT_AT]
        if first:
            self._overlaps.append(len(set(first) & set(candidate[:AGREEMENT_AT])) / len(first))
            self._firsts.append(float(served[:1] == candidate[:1]))
        self._waiting[request] = (served, candidate)
        while len(self._waiting) > REMEMBERED:
            self._waiting.popitem(last=False)


def _gain(ranking: Sequence[str], tool_id: str) -> float:
    return 1.0 / math.log2(2 + ranking.index(tool_id)) if tool_id in ranking else 0.0
