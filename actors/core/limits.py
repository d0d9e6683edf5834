"""How much to answer: below which score to abstain, how many tools a ranking justifies, when a rewrite pays. Fitted on dev.

Invariants: pure; every limit carries what it costs and what it gains on the queries it was fitted on; without queries nothing is
held back (abstain never, ten tools, always rewrite where the rewrites have a weight).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from actors.core.ranking import ndcg
from actors.core.types import Query

DEPTH = 10
"""Tools in an answer that asks for no number."""
RIGHT_WITHIN = 5
"""A query counts as answered where a gold tool is among this many."""
LOST_RIGHT = 0.02
"""Of the queries that were answered, abstaining may lose this share."""
KEPT_RECALL = 0.99
"""Of the recall of ten tools, an adaptive answer keeps this share."""

Ranking = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one release; scores are cosines.

    ``abstain_below``: a first tool that scores less is not likely right (-1: never abstain). ``keep_within``: tools this far below
    the first still belong to the answer (2: all of ten). ``rewrite_below``: a search whose first tool leads the second by less is
    rewritten (0: never, 2: always).
    """

    abstain_below: float = -1.0
    keep_within: float = 2.0
    rewrite_below: float = 2.0
    right_lost: float = 0.0
    """Share of the rightly answered dev queries that abstaining loses."""
    wrong_spared: float = 0.0
    """Share of dev queries, their right tools taken out of the catalog, on which it abstains."""
    mean_tools: float = float(DEPTH)
    """Tools in an adaptive answer, mean over dev."""
    recall_kept: float = 1.0
    """Recall of adaptive answers as a share of that of ten tools."""
    rewritten: float = 1.0
    """Share of dev queries that ``auto`` rewrites."""
    auto_gain: float = 0.0
    """nDCG@5 of ``auto`` minus that of raw, on dev."""


UNFITTED = Limits(rewrite_below=0.0)
"""Of rankings that no limit was fitted on: nothing is held back, nothing is rewritten."""


def rewriting_pays(raw: Ranking, limits: Limits) -> bool:
    """Whether ``auto`` has a search rewritten whose raw ranking this is: its first tool does not clearly lead the second."""
    return len(raw) >= 2 and raw[0][1] - raw[1][1] < limits.rewrite_below


def fit(queries: Sequence[Query], raw: Sequence[Ranking], fused: Sequence[Ranking] | None, without_gold: Sequence[float]) -> Limits:
    """Limits for rankings of at least ``DEPTH`` tools of each dev query.

    ``fused`` is None where the rewrites have no weight. ``without_gold``: the first score of each query's raw ranking once its gold
    tools and their equivalents are taken out of the catalog, which is what a query that no tool answers looks like. Raises
    ``ValueError`` where the lengths differ.
    """
    if not len(queries) == len(raw) == len(without_gold) or (fused is not None and len(fused) != len(queries)):
        raise ValueError(f"{len(queries)} queries, {len(raw)} rankings, {len(without_gold)} first scores: they must be as many")
    if not queries:
        return Limits(rewrite_below=0.0 if fused is None else 2.0)
    threshold, lost, spared = _abstain(queries, raw, without_gold)
    within, tools, kept = _adapt(queries, raw)
    below, share, gain = _rewrite(queries, raw, fused)
    return Limits(threshold, within, below, lost, spared, tools, kept, share, gain)


def _abstain(queries: Sequence[Query], raw: Sequence[Ranking], without_gold: Sequence[float]) -> tuple[float, float, float]:
    """The highest threshold that loses ``LOST_RIGHT`` of the right answers at most."""
    right = sorted(
        ranking[0][1]
        for query, ranking in zip(queries, raw, strict=True)
        if ranking and any(tool_id in query.gold for tool_id, _ in ranking[:RIGHT_WITHIN])
    )
    if not right:
        return -1.0, 0.0, 0.0
    # What scores the threshold itself is answered.
    threshold = float(right[int(LOST_RIGHT * len(right))])
    lost = sum(score < threshold for score in right) / len(right)
    return threshold, lost, fmean(score < threshold for score in without_gold)


def _adapt(queries: Sequence[Query], raw: Sequence[Ranking]) -> tuple[float, float, float]:
    """The least distance to the first score that keeps ``KEPT_RECALL`` of the recall of ``DEPTH`` tools."""
    both = list(zip(queries, raw, strict=True))
    places = [ranking[0][1] - score for query, ranking in both for tool_id, score in ranking[:DEPTH] if tool_id in query.gold]
    if not places:
        return 2.0, float(DEPTH), 1.0
    needed = float(np.quantile(places, KEPT_RECALL, method="higher"))
    sizes = [sum(ranking[0][1] - score <= needed for _, score in ranking[:DEPTH]) for ranking in raw if ranking]
    return needed, fmean(sizes), fmean(place <= needed for place in places)


def _rewrite(queries: Sequence[Query], raw: Sequence[Ranking], fused: Sequence[Ranking] | None) -> tuple[float, float, float]:
    """The lead below which rewriting gains most; of equal gains the one that rewrites least."""
    if fused is None:
        return 0.0, 0.0, 0.0
    leads = [ranking[0][1] - ranking[1][1] if len(ranking) > 1 else 2.0 for ranking in raw]
    gains = [_ndcg(f, q) - _ndcg(r, q) for q, r, f in zip(queries, raw, fused, strict=True)]
    best = (0.0, 0.0, 0.0)
    for below in [*np.quantile(leads, np.linspace(0.1, 0.9, 9)).tolist(), 2.0]:
        gain = sum(g for g, lead in zip(gains, leads, strict=True) if lead < below) / len(queries)
        if gain > best[2] + 1e-9:
            best = (float(below), fmean(lead < below for lead in leads), gain)
    return best


def _ndcg(ranking: Ranking, query: Query) -> float:
    return ndcg([tool_id for tool_id, _ in ranking], query.gold, 5)


def adaptive_count(scores: Sequence[float], limits: Limits) -> int:
    """How many of the first tools (scores best first) belong to an answer that asked for no number: 1 to ``DEPTH``, 0 of none."""
    return sum(scores[0] - score <= limits.keep_within for score in scores[:DEPTH]) if scores else 0
