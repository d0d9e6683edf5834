"""How query, rewrites and lexical match become one ranking, and the weight that is fitted on dev.

Invariants: pure (numpy only); vectors are rows, float32; a query without rewrites has a zero mean rewrite vector and is ranked by
itself whatever the weight.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from actors.core.ranking import ndcg
from actors.core.types import Query

Vectors = NDArray[np.float32]
DEV_K = 5
RRF_K = 60
"""Constant of reciprocal rank fusion, as its authors have it (Cormack et al., SIGIR 2009)."""
RERANK_WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
MEMORY_WEIGHTS = (0.1, 0.25, 0.5, 1.0, 2.0)
WEIGHTS = tuple(round(0.05 * i, 2) for i in range(21))


def fuse(query_vectors: Vectors, rewrite_vectors: Vectors, weight: float) -> Vectors:
    """Unit rows of ``(1 - weight) * query + weight * rewrite``, both [n, d]; ``weight`` 1 is the rewrite alone.

    A mean of several rewrites is given as it is: shorter than 1 where they disagree, so that disagreement weighs less by itself.
    """
    mixed = (1.0 - weight) * query_vectors + weight * rewrite_vectors
    without = ~rewrite_vectors.any(axis=1)
    mixed[without] = query_vectors[without]
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    unit: Vectors = (mixed / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


def moved_tools(
    tools: Vectors, rows: Sequence[int], queries: Vectors, tenants: Sequence[str], weight: float
) -> tuple[NDArray[np.int64], Vectors]:
    """The rows of ``tools`` [n, d] that were found, and their unit vectors after ``weight`` times the mean query is added to each.

    Relevance feedback on the document's side (Brauen, "Document vector modification", 1971). Query i [m, d] of ``tenants[i]`` found
    tool ``rows[i]``. A tool's mean is one of its tenants' means, so that a tenant who asks often has one voice; where the queries
    disagree it is short and moves little.
    """
    asked: defaultdict[int, defaultdict[str, list[Vectors]]] = defaultdict(lambda: defaultdict(list))
    for row, query, tenant in zip(rows, queries, tenants, strict=True):
        asked[row][tenant].append(query)
    found = np.array(sorted(asked), dtype=np.int64)
    means = [np.mean([np.mean(own, axis=0) for own in asked[row].values()], axis=0) for row in found.tolist()]
    moved = tools[found] + weight * np.array(means, dtype=np.float32).reshape(len(found), tools.shape[1])
    unit: Vectors = (moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return found, unit


def reciprocal_rank(rankings: Sequence[Sequence[str]]) -> list[tuple[str, float]]:
    """Rankings of one query as one: score = sum of 1 / (RRF_K + rank), rank from 1; ties by first seen."""
    scores: defaultdict[str, float] = defaultdict(float)
    for ranking in rankings:
        for rank, tool_id in enumerate(ranking, start=1):
            scores[tool_id] += 1.0 / (RRF_K + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def fit_weight(
    query_vectors: Vectors,
    rewrite_vectors: Vectors,
    tool_vectors: Vectors,
    tool_ids: Sequence[str],
    queries: Sequence[Query],
    grid: Sequence[float] = WEIGHTS,
) -> tuple[float, dict[float, float]]:
    """The weight of the rewrite with the best dev figure, and the figure of every weight of the grid; 0 is always tried.

    The figure is the mean of NDCG@5 on standard and on all other (vague) queries, equal halves; one half where only one kind is
    there. Of equal weights the smallest wins. The best of many weights looks better than it is: one that does not gain more than
    the standard error of its paired difference to 0 is not taken, and the weight is 0. Rows of the vectors are those of
    ``queries``. Raises ValueError without queries.
    """
    if not queries:
        raise ValueError("no dev queries to fit the fusion weight on")
    sums: dict[float, dict[bool, list[float]]] = {w: {True: [], False: []} for w in sorted({0.0, *grid})}
    for start in range(0, len(queries), 256):
        part = slice(start, start + 256)
        by_query = query_vectors[part] @ tool_vectors.T
        by_rewrite = rewrite_vectors[part] @ tool_vectors.T
        by_rewrite[~rewrite_vectors[part].any(axis=1)] = by_query[~rewrite_vectors[part].any(axis=1)]
        for weight, halves in sums.items():
            # The length of the fused vector is the same for all tools of a query, so it does not touch their order.
            tops = top(((1.0 - weight) * by_query + weight * by_rewrite), DEV_K)
            for query, row in zip(queries[part], tops, strict=True):
                halves[query.kind == "standard"].append(ndcg([tool_ids[i] for i in row], query.gold, DEV_K))
    return _best(sums)


def reranked(ranking: Sequence[tuple[str, float]], likelihoods: Sequence[float], weight: float) -> list[tuple[str, float]]:
    """The first ``len(likelihoods)`` tools by cosine + ``weight`` * likelihood, the others below them as they were.

    ``likelihoods``: mean log-likelihood of a token of the query given each tool (``actors.reranker``), in nats.
    """
    seen = len(likelihoods)
    first = [(tool_id, score + weight * own) for (tool_id, score), own in zip(ranking[:seen], likelihoods, strict=True)]
    first.sort(key=lambda item: -item[1])
    below = (first[-1][1] if first else 0.0) - (ranking[seen][1] if len(ranking) > seen else 0.0) - 1.0
    return [*first, *((tool_id, score + below) for tool_id, score in ranking[seen:])]


def fit_rerank_weight(
    rankings: Sequence[Sequence[tuple[str, float]]],
    likelihoods: Sequence[Sequence[float]],
    queries: Sequence[Query],
) -> tuple[float, dict[float, float]]:
    """The weight of likelihoods in ``reranked`` with the best dev figure, by the rules of ``fit_weight``."""
    return fit_order(queries, RERANK_WEIGHTS, lambda i, weight: reranked(rankings[i], likelihoods[i], weight))


def fit_order(
    queries: Sequence[Query], weights: Sequence[float], order: Callable[[int, float], Sequence[tuple[str, float]]]
) -> tuple[float, dict[float, float]]:
    """The weight with the best dev figure, by the rules of ``fit_weight``; ``order`` ranks query i by a weight, 0 is always tried.

    Raises ValueError without queries.
    """
    if not queries:
        raise ValueError("no dev queries to fit a weight on")
    sums: dict[float, dict[bool, list[float]]] = {w: {True: [], False: []} for w in (0.0, *weights)}
    for i, query in enumerate(queries):
        for weight, halves in sums.items():
            found = [tool_id for tool_id, _ in order(i, weight)[:DEV_K]]
            halves[query.kind == "standard"].append(ndcg(found, query.gold, DEV_K))
    return _best(sums)


def _best(sums: Mapping[float, Mapping[bool, list[float]]]) -> tuple[float, dict[float, float]]:
    """Weight -> (is standard -> figures): the weight whose gain over 0 exceeds its standard error, else 0; means of all."""
    figures = {w: float(np.mean([np.mean(h) for h in halves.values() if h])) for w, halves in sums.items()}
    best = max(figures, key=lambda w: (round(figures[w], 9), -w))
    gains = [np.subtract(sums[best][kind], sums[0.0][kind]) for kind in (True, False) if sums[best][kind]]
    error = math.sqrt(sum(float(np.var(gain)) / len(gain) for gain in gains)) / len(gains)
    return (best if figures[best] - figures[0.0] > error else 0.0), figures


def top(scores: Vectors, k: int) -> NDArray[np.int64]:
    """Columns of the ``k`` highest scores of each row, best first; [n, min(k, columns)]."""
    k = min(k, scores.shape[1])
    if k == 0:
        return np.zeros((len(scores), 0), dtype=np.int64)
    found = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    ranked: NDArray[np.int64] = np.take_along_axis(found, order, axis=1)
    return ranked
