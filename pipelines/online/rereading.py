"""What the gate holds against a release that is to be served reranked: figures of dev queries whose first tools were read.

Invariants: the same dev queries for every release, drawn by hash; a pair of query and tool is read once in a run; the weight is the
release's own and was never fitted on what is measured with it here; a release without a weight is measured as it would answer, raw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from actors.core.fusion import DEV_K, reranked
from actors.core.ranking import ndcg
from actors.core.types import LABELLED_KINDS, Query, Tool
from actors.releases import Release

PER_KIND = 32
"""Dev queries of each kind that are read: a pair takes a CPU a twentieth of a second."""
SLICE = "reranked"


class Rereading:
    """Reranked figures of releases."""

    def __init__(
        self,
        dev: Sequence[Query],
        tools: Mapping[str, Tool],
        depth: int,
        scorer: Any,
        reranker: Any,
        ask: Callable[[Any, str], Awaitable[Any]],
    ) -> None:
        """``tools`` by id; ``scorer`` and ``reranker`` are handles to hosts, ``ask`` waits for an answer of one."""
        self.queries = [q for kind in LABELLED_KINDS for q in sorted((q for q in dev if q.kind == kind), key=_place)[:PER_KIND]]
        self._tools, self._depth = tools, depth
        self._scorer, self._reranker, self._ask = scorer, reranker, ask
        self._read: dict[tuple[str, str], float] = {}
        self._figures: dict[int, dict[str, float]] = {}

    async def figures(self, release: Release) -> dict[str, float]:
        """nDCG@5 of each of ``queries``, as the release answers them reranked. What is known is not computed again."""
        if release.number not in self._figures:
            texts, depth = [q.text for q in self.queries], max(self._depth, DEV_K)
            asked = self._scorer.rankings.remote(release.retriever, texts, depth)
            rankings = await self._ask(asked, "the gate's scorer, which ranks for the reranker")
            if release.rerank_weight:
                rankings = await self._reranked(rankings, release.rerank_weight)
            self._figures[release.number] = {
                query.query_id: ndcg([tool_id for tool_id, _ in ranking], query.gold, DEV_K)
                for query, ranking in zip(self.queries, rankings, strict=True)
            }
        return self._figures[release.number]

    async def _reranked(self, rankings: Sequence[Sequence[tuple[str, float]]], weight: float) -> list[list[tuple[str, float]]]:
        first = [ranking[: self._depth] for ranking in rankings]
        pairs = {
            (query.query_id, tool_id): (query.text, self._tools[tool_id])
            for query, ranking in zip(self.queries, first, strict=True)
            for tool_id, _ in ranking
        }
        missing = [key for key in pairs if key not in self._read]
        if missing:
            asked = self._reranker.likelihoods.remote([pairs[key] for key in missing], "gate")
            values = await self._ask(asked, "the reranker, which reads the gate's queries")
            self._read.update(zip(missing, values, strict=True))
        return [
            reranked(ranking, [self._read[query.query_id, tool_id] for tool_id, _ in own], weight)
            for query, ranking, own in zip(self.queries, rankings, first, strict=True)
        ]


def _place(query: Query) -> bytes:
    return hashlib.sha256(f"read {query.need or query.query_id}".encode()).digest()
