"""Figures of several seeds into one table: means, spread over seeds, paired tests against the strongest single component.

Invariants: pure (no ray, no torch); a test pairs queries, each with its mean over the seeds, so that seeds are not counted as
queries; the strongest single component is picked on the very slice that it is compared on, which favours it; a macro average is a
mean of categories' means.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import get_args

from actors.core.ranking import FOUND_NDCG, interval, paired_test
from actors.core.types import Novelty, Query
from pipelines.comparison.compare import COHYDE, LABELS, SINGLE_ARMS, VAGUE_TIERS, ArmMode

METRICS = ("nDCG@5", "R@10", "Success@5", "COMP@5", FOUND_NDCG)
"""Success@5 and COMP@5 differ where a query has several golds; MTRB's S@5 is COMP@5."""
MICRO, MACRO = "all", "macro"

Figures = Mapping[str, Mapping[str, float]]
"""Query id -> metric -> value (0..1)."""


@dataclass(frozen=True, order=True)
class Line:
    """A row of the table: an arm in one mode; ``round`` is -1 but for CoHyDE in training."""

    arm: str
    round: int
    mode: ArmMode

    @property
    def label(self) -> str:
        """As the table shows it."""
        name = LABELS.get(self.arm, self.arm) + (f" round {self.round}" if self.round >= 0 else "")
        return name if self.mode == "bm25" else f"{name}, {self.mode}"


FROZEN = Line("frozen", -1, "raw")


@dataclass(frozen=True)
class Cell:
    """One figure; the last three are null for a single component.

    ``spread``: standard deviation over the seeds' means; ``low`` and ``high``: 95 % confidence interval over queries.
    """

    arm: str
    round: int
    mode: ArmMode
    slice: str
    metric: str
    queries: int
    seeds: int
    value: float
    spread: float
    low: float
    high: float
    difference: float | None = None
    p_value: float | None = None
    against: str | None = None


def slices(queries: Sequence[Query]) -> dict[str, dict[str, float]]:
    """Slice -> query id -> weight (of mean 1).

    Tiers, vague ones together and by whether training met their tools, queries of new providers, categories and the macro
    average over them.
    """
    found: dict[str, list[str]] = {}
    tiers = list(dict.fromkeys(q.tier for q in queries))
    if len(tiers) > 1:
        for tier in [t for t in ("standard", *VAGUE_TIERS) if t in tiers] + sorted(set(tiers) - {"standard", *VAGUE_TIERS}):
            found[tier] = [q.query_id for q in queries if q.tier == tier]
    vague = [q for q in queries if q.tier in VAGUE_TIERS]
    for name, novelty in (("vague", get_args(Novelty)), ("vague seen", ("seen",)), ("vague unseen", ("unseen",))):
        if ids := [q.query_id for q in vague if q.novelty in novelty]:
            found[name] = ids
    for name, kept in (("new providers", queries), ("new providers, vague", vague)):
        if ids := [q.query_id for q in kept if q.novelty == "new provider"]:
            found[name] = ids
    if len(tiers) == 1:
        found[MICRO] = [q.query_id for q in queries]
    weighted = {name: dict.fromkeys(ids, 1.0) for name, ids in found.items()}
    by_category: dict[str, list[str]] = defaultdict(list)
    for query in queries:
        if query.group:
            by_category[query.group.partition("/")[0]].append(query.query_id)
    if len(by_category) > 1:
        total = sum(map(len, by_category.values()))
        weighted |= {name: dict.fromkeys(ids, 1.0) for name, ids in sorted(by_category.items())}
        share = total / len(by_category)
        weighted[MACRO] = {q: share / len(ids) for ids in by_category.values() for q in ids}
    return weighted


def cells(seeds: Sequence[Mapping[Line, Figures]], queries: Sequence[Query], against: Line | None = None) -> list[Cell]:
    """Every line, slice and metric; ``seeds`` has the figures of each seed, ``queries`` are all that any seed has.

    CoHyDE's lines are held against the strongest single component, or all of them ``against`` one line that is named.
    Raises KeyError where a seed lacks a line that another has.
    """
    lines = list(dict.fromkeys(line for figures in seeds for line in figures))
    found = []
    for name, weights in slices(queries).items():
        means = {line: {m: [_mean(figures[line], weights, m) for figures in seeds] for m in METRICS} for line in lines}
        for line in lines:
            rival = _rival(line, means) if against is None or line.arm != COHYDE else against
            for metric in METRICS:
                values = means[line][metric]
                ours = _over_seeds([figures[line] for figures in seeds], weights, metric)
                low, high = interval(list(ours.values()))
                cell = Cell(
                    *(line.arm, line.round, line.mode, name, metric, len(weights), len(seeds), fmean(values)),
                    spread=stdev(values) if len(values) > 1 else 0.0,
                    low=low,
                    high=high,
                )
                if rival is not None:
                    theirs = _over_seeds([figures[rival] for figures in seeds], weights, metric)
                    shared = sorted(ours)
                    difference, p_value = paired_test([ours[q] for q in shared], [theirs[q] for q in shared])
                    cell = Cell(**{**asdict(cell), "difference": difference, "p_value": p_value, "against": rival.label})
                found.append(cell)
    return found


def _rival(line: Line, means: Mapping[Line, Mapping[str, Sequence[float]]]) -> Line | None:
    """The strongest single component that a line of CoHyDE is held against: hybrid ones against all, others against the rest."""
    if line.arm != COHYDE:
        return None
    singles = [x for x in means if x.arm in SINGLE_ARMS and (line.mode == "hybrid" or x.mode != "hybrid")]
    return max(singles, key=lambda x: fmean(means[x]["nDCG@5"]), default=None)


def _mean(figures: Figures, weights: Mapping[str, float], metric: str) -> float:
    """Weighted mean over the queries that the seed has (a subset is drawn by the seed)."""
    present = [q for q in weights if q in figures]
    return sum(weights[q] * figures[q][metric] for q in present) / sum(weights[q] for q in present)


def _over_seeds(seeds: Sequence[Figures], weights: Mapping[str, float], metric: str) -> dict[str, float]:
    """Query -> its weighted mean over the seeds that have it."""
    found: dict[str, list[float]] = defaultdict(list)
    for figures in seeds:
        for query_id in weights:
            if query_id in figures:
                found[query_id].append(weights[query_id] * figures[query_id][metric])
    return {query_id: fmean(values) for query_id, values in found.items()}
