"""The scorer: the newest retriever as judge of rewrites, source of prompt context and of hard negatives.

Invariants: what it returns was made by the one retriever whose version it names; tools equivalent to a gold tool count neither as
right nor as wrong; nothing here trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from actors.core import limits
from actors.core.fusion import DEV_K, Vectors, fit_weight, fuse, top
from actors.core.limits import Limits
from actors.core.ranking import ndcg
from actors.core.rewards import score_rewrite
from actors.core.types import Catalog, Completion, InputError, Mode, Query, Score
from actors.interfaces import Progress
from actors.lexical import Ranking
from actors.retriever import Retriever
from configs.schema import Config

_ROWS_PER_PRODUCT = 512


class Scorer:
    """Holds the catalog and one loaded retriever at a time."""

    def __init__(self, config: Config, catalog: Catalog, precision: Literal["float32", "bfloat16"], threads: int | None) -> None:
        """Nothing is loaded yet; call ``load`` (or ``use``) first."""
        self._config = config
        self._catalog = catalog
        self._precision = precision
        self._threads = threads
        self._retriever: Retriever | None = None

    def load(self, retriever_dir: Path, version: int) -> None:
        """Load a published retriever; nothing happens where that version is loaded already."""
        if self._retriever is None or self._retriever.version != version:
            self.use(
                Retriever.load(
                    retriever_dir, self._config, self._catalog, version=version, precision=self._precision, threads=self._threads
                )
            )

    def use(self, retriever: Retriever) -> None:
        """Judge by ``retriever`` from now on."""
        self._retriever = retriever
        self._row = {tool_id: row for row, tool_id in enumerate(retriever.dense.tool_ids)}

    @property
    def retriever(self) -> Retriever:
        """The loaded retriever. Raises InputError where none is."""
        if self._retriever is None:
            raise InputError("scorer: no retriever is loaded; publish one and load it first")
        return self._retriever

    def contexts(self, queries: Sequence[str], k: int) -> list[list[str]]:
        """Titles of the first ``k`` tools of each query's raw ranking, for the prompt."""
        return context_titles(self.retriever, self._catalog, queries, k)

    def score(
        self, queries: Sequence[Query], rewrites: Sequence[Sequence[Completion]], progress: Progress | None = None
    ) -> list[list[Score]]:
        """The reward of every rewrite, each alone with its query in ``retrieval.reward_mode``; same shape as ``rewrites``.

        ``fused`` uses ``retrieval.fusion_weight``, not the weight fitted on dev: a fitted 0 would make all rewards equal.
        """
        retrieval = self._config.retrieval
        texts = [completion.text for samples in rewrites for completion in samples]
        owners = [row for row, samples in enumerate(rewrites) for _ in samples]
        weight = 1.0 if retrieval.reward_mode == "rewrite" else retrieval.fusion_weight
        by_query = self.retriever.vectors([q.text for q in queries])
        fused = fuse(by_query[owners], self.retriever.mean_vectors([[text] for text in texts], progress), weight)
        flat = [completion for samples in rewrites for completion in samples]
        scores: list[Score] = []
        for index, (ranked, margin) in enumerate(self._judge(fused, [queries[o] for o in owners], retrieval.reward_k)):
            query = queries[owners[index]]
            scores.append(score_rewrite(flat[index], query.text, ranked, query.gold, margin, retrieval))
        found = iter(scores)
        return [[next(found) for _ in samples] for samples in rewrites]

    def mine_negatives(self, queries: Sequence[Query], k: int) -> list[list[str]]:
        """Up to ``k`` hard negatives a query, hardest first, by the query's own vector.

        Positive-aware (NV-Retriever, 2407.15831, TopK-PercPos): only tools scored below ``1 - negative_margin`` of the lowest gold
        score; never a gold tool nor one equivalent to it.
        """
        share = 1.0 - self._config.encoder.negative_margin
        vectors = self.retriever.vectors([q.text for q in queries])
        negatives: list[list[str]] = []
        for part, cosines in self._products(vectors):
            for row, query in zip(cosines, queries[part], strict=True):
                gold = row[self._rows(query.gold)]
                row[self._rows(self._catalog.never_negative(list(query.gold)))] = -np.inf
                row[row >= share * gold.min()] = -np.inf
            for row, columns in zip(cosines, top(cosines, k), strict=True):
                negatives.append([self.retriever.dense.tool_ids[i] for i in columns if np.isfinite(row[i])])
        return negatives

    def fit_weight(self, queries: Sequence[Query], rewrites: Sequence[Sequence[str]]) -> float:
        """The rewrites' weight in ``fused`` that these queries show to gain, 0 where they show none (``fusion.fit_weight``)."""
        retriever = self.retriever
        by_query = retriever.vectors([q.text for q in queries])
        weight, _ = fit_weight(
            by_query, retriever.mean_vectors(rewrites), retriever.dense.vectors, retriever.dense.tool_ids, list(queries)
        )
        return weight

    def figures(self, queries: Sequence[Query], rewrites: Sequence[Sequence[str]] | None, weight: float) -> list[float]:
        """nDCG@5 of each query as it would be served: fused with ``weight``, raw without rewrites. Equivalents count as wrong."""
        texts = None if rewrites is None else [list(samples) for samples in rewrites]
        mode: Mode = "raw" if texts is None or weight == 0 else "fused"
        rankings = self.retriever.rank([q.text for q in queries], texts, mode, weight, DEV_K)
        return [ndcg([tool_id for tool_id, _ in found], query.gold, DEV_K) for query, found in zip(queries, rankings, strict=True)]

    def limits(self, queries: Sequence[Query], rewrites: Sequence[Sequence[str]] | None, weight: float) -> Limits:
        """How much serving should answer, fitted on ``queries`` (``limits.fit``); without rewrites or weight none ever pays."""
        texts = [q.text for q in queries]
        raw = self.retriever.rank(texts, None, "raw", 0.0, limits.DEPTH)
        fused = None
        if rewrites is not None and weight:
            fused = self.retriever.rank(texts, [list(samples) for samples in rewrites], "fused", weight, limits.DEPTH)
        without_gold: list[float] = []
        for part, cosines in self._products(self.retriever.vectors(texts)):
            for row, query in zip(cosines, queries[part], strict=True):
                row[self._rows(self._catalog.never_negative(list(query.gold)))] = -1.0
                without_gold.append(float(row.max()))
        return limits.fit(queries, raw, fused, without_gold)

    def rankings(self, queries: Sequence[str], depth: int) -> list[Ranking]:
        """The first ``depth`` tools of each query by its own vector, with their cosines."""
        return self.retriever.rank(list(queries), None, "raw", 0.0, depth)

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Query vectors, [n, d]."""
        return self.retriever.vectors(texts)

    def _judge(self, vectors: Vectors, queries: Sequence[Query], k: int) -> Iterator[tuple[list[str], float]]:
        """First ``k`` tools (equivalents left out) and margin (best gold minus best wrong cosine) of each row."""
        for part, cosines in self._products(vectors):
            margins = []
            for row, query in zip(cosines, queries[part], strict=True):
                gold = self._rows(query.gold)
                right = row[gold].copy()
                row[self._rows(self._catalog.never_negative(list(query.gold)))] = -np.inf
                wrong = float(row.max())
                # A catalog of nothing but right tools has no wrong one to be told from.
                margins.append(float(right.max()) - wrong if np.isfinite(wrong) else 0.0)
                row[gold] = right
            for row, columns, margin in zip(cosines, top(cosines, k), margins, strict=True):
                yield [self.retriever.dense.tool_ids[i] for i in columns if np.isfinite(row[i])], margin

    def _products(self, vectors: Vectors) -> Iterator[tuple[slice, Vectors]]:
        """Cosines with every tool, a bounded number of rows at a time; the arrays may be written to."""
        for start in range(0, len(vectors), _ROWS_PER_PRODUCT):
            part = slice(start, start + _ROWS_PER_PRODUCT)
            yield part, vectors[part] @ self.retriever.dense.vectors.T

    def _rows(self, tool_ids: Sequence[str] | set[str] | dict[str, int]) -> NDArray[np.int64]:
        return np.array([self._row[t] for t in tool_ids if t in self._row], dtype=np.int64)


def context_titles(retriever: Retriever, catalog: Catalog, queries: Sequence[str], k: int) -> list[list[str]]:
    """Titles of the first ``k`` tools of each query's raw ranking; empty lists where ``k`` is 0."""
    if k == 0:
        return [[] for _ in queries]
    rankings = retriever.rank(list(queries), None, "raw", 0.0, k)
    return [[catalog.by_id[tool_id].title for tool_id, _ in ranking] for ranking in rankings]
