"""Quality of rankings: metrics by ir-measures (pytrec-eval), completeness by us, and the paired test between two systems.

Invariants: pure; the order of a ranking is what counts, never its scores, so ties are resolved where the ranking is made; a query
without a ranking scores 0 and is never left out of a mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import ir_measures
import numpy as np
from ir_measures import RR, R, Success, nDCG

FOUND_NDCG = "nDCG@5 of found"
"""Against the best order of the right tools that are there, not of all: in what order, not how many. QTA's figures on RestBench
(2410.03212) fit it: the frozen encoder gets 54 by it and 36 by trec_eval's, and 52.55 is published."""
METRICS = ("nDCG@5", "nDCG@10", "R@5", "R@10", "COMP@5", "COMP@10", "Success@5", "Success@10", "RR", FOUND_NDCG)
_MEASURES = [nDCG @ 5, nDCG @ 10, R @ 5, R @ 10, Success @ 5, Success @ 10, RR]
_RESAMPLES = 10_000
_BOOTSTRAPS, _CELLS = 2_000, 4_000_000

Run = Mapping[str, Sequence[tuple[str, float]]]
"""Query id -> (tool id, score), best first."""


def evaluate(run: Run, qrels: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, float]]:
    """Query id -> metric -> value (0..1) for every query of ``qrels``; metrics are those of ``METRICS``.

    nDCG as trec_eval (gain = grade, discount log2), COMP@k = 1 where all gold tools stand in the first k (Sufficiency@k). RR looks
    as deep as the ranking goes.
    """
    by_rank = {q: {tool: -float(i) for i, (tool, _) in enumerate(run.get(q, ()))} for q in qrels}
    graded = {q: dict(gold) for q, gold in qrels.items()}
    values: dict[str, dict[str, float]] = {q: dict.fromkeys(METRICS, 0.0) for q in qrels}
    for found in ir_measures.pytrec_eval.evaluator(_MEASURES, graded).iter_calc(by_rank):
        values[found.query_id][str(found.measure)] = float(found.value)
    for query_id, gold in qrels.items():
        ranked = [tool for tool, _ in run.get(query_id, ())]
        for k in (5, 10):
            values[query_id][f"COMP@{k}"] = float(set(gold) <= set(ranked[:k]))
        there = {tool: gold[tool] for tool in ranked[:5] if tool in gold}
        values[query_id][FOUND_NDCG] = ndcg(ranked, there, 5)
    return values


def mean(per_query: Mapping[str, Mapping[str, float]], query_ids: Sequence[str] | None = None) -> dict[str, float]:
    """Metric -> mean over the queries (all if None). Raises ValueError where there are none."""
    chosen = list(per_query) if query_ids is None else list(query_ids)
    if not chosen:
        raise ValueError("no queries to take a mean over")
    return {metric: fmean(per_query[q][metric] for q in chosen) for metric in METRICS}


def ndcg(ranked: Sequence[str], gold: Mapping[str, int], k: int) -> float:
    """NDCG at k of one ranking (trec_eval's: gain = grade, discount log2(rank + 1)); 0 where nothing is gold."""
    ideal = sum(grade / math.log2(i + 2) for i, grade in enumerate(sorted(gold.values(), reverse=True)[:k]))
    found = sum(gold.get(tool, 0) / math.log2(i + 2) for i, tool in enumerate(ranked[:k]))
    return found / ideal if ideal else 0.0


def paired_test(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """(mean of a - mean of b, two-sided p) of the paired sign-flip permutation test over queries.

    Exact up to 12 queries that differ, else 10,000 random flips with a fixed seed, (hits + 1) / (flips + 1); Smucker et al., CIKM
    2007. Raises ValueError where the lengths differ or are 0.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"a paired test needs two equally long lists of values, not {len(a)} and {len(b)}")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    # A query on which both are equal adds 0 whichever way it is flipped.
    changed = differences[np.abs(differences) > 1e-12]
    if not len(changed):
        return 0.0, 1.0
    if exact := len(changed) <= 12:
        flips = (np.arange(2 ** len(changed))[:, None] >> np.arange(len(changed))) & 1
    else:
        flips = np.random.default_rng(17).integers(0, 2, (_RESAMPLES, len(changed)), dtype=np.int8)
    totals = np.abs((2.0 * flips - 1.0) @ changed)
    hits = int((totals >= abs(changed.sum()) - 1e-9).sum())
    return float(differences.mean()), hits / len(totals) if exact else (hits + 1) / (len(totals) + 1)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean over queries: percentile bootstrap, 2,000 resamples with a fixed seed (Efron 1979).

    Raises ValueError where there are no values.
    """
    if not len(values):
        raise ValueError("no values to take an interval of")
    if len(values) == 1:
        return float(values[0]), float(values[0])
    # It takes half a second to import, and most who import this module never ask.
    from scipy.stats import bootstrap

    how = {"n_resamples": _BOOTSTRAPS, "batch": max(1, _CELLS // len(values)), "method": "percentile", "rng": 17}
    found = bootstrap((np.asarray(values, dtype=np.float64),), np.mean, **how).confidence_interval
    return float(found.low), float(found.high)
