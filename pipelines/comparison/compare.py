"""The comparison the paper makes: per-query figures of every arm in, rows of ``results.json`` and tables of them out.

Invariants: pure (no ray, no torch); nothing is fitted or chosen for CoHyDE here. What CoHyDE is held against, the strongest
single component, is picked on the very test slice it is compared on, which favours the component: the difference is conservative.
Figures are kept as shares (0..1) in rows and shown in percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypedDict

from actors.core.ranking import paired_test
from actors.core.types import Mode, Query, Weighed

ArmMode = Mode | Weighed | Literal["auto"]
"""``reranked``: by cosine and the reranker's likelihood; ``remembered``: by cosine and the nearness of labelled queries; ``named``:
tools that another's description names follow it (reranked, where there is a reranker); ``auto``:
what serving chooses for each query."""
SINGLE_ARMS = ("bm25", "frozen", "encoder_alone", "zero_shot", "sft", "qta")
COHYDE = "cohyde"
RERANKED = "encoder_reranked"
"""The encoder that trained alone beside the rewriter as reranker: both halves, without co-training."""
REMEMBERED = "encoder_remembered"
"""The encoder that trained alone beside the labelled queries themselves."""
METRICS = ("nDCG@5", "R@10", "COMP@10", "Success@10")
VAGUE_TIERS = ("V1", "V2", "V3")
SIGNIFICANCE = 0.05
LABELS = {
    "bm25": "BM25",
    "frozen": "frozen encoder",
    "encoder_alone": "encoder alone",
    "zero_shot": "zero-shot HyDE",
    "sft": "SFT rewriter",
    "qta": "QTA",
    RERANKED: "encoder alone",
    REMEMBERED: "encoder alone",
    COHYDE: "CoHyDE",
}

Tools = Literal["all", "seen", "unseen"]
TOOLS: tuple[Tools, ...] = ("all", "seen", "unseen")


@dataclass(frozen=True)
class ArmResult:
    """One arm in one mode on the test queries. ``per_query``: query id -> metric -> value (0..1). ``round`` is CoHyDE's only.

    ``weight``, fitted on dev, is the rewrite's in ``fused``, the likelihood's in ``reranked`` and that of labelled queries in
    ``remembered``; 0 says that dev did not show a gain and the ranking is the raw one.
    """

    arm: str
    round: int | None
    mode: ArmMode
    per_query: dict[str, dict[str, float]]
    weight: float | None = None


class Row(TypedDict):
    """One line of ``results.json``. The last three are null where the arm is itself a single component.

    ``weight`` is that of ``ArmResult``, null where the mode has none. ``difference`` is ``value`` minus that of ``against``
    (arm and mode of the strongest single component on this slice).
    """

    arm: str
    round: int | None
    mode: ArmMode
    weight: float | None
    slice: str
    tools: Tools
    metric: str
    value: float
    n: int
    difference: float | None
    p_value: float | None
    against: str | None


def compare(results: Sequence[ArmResult], queries: Sequence[Query]) -> list[Row]:
    """Rows for every arm, slice, tools and metric; CoHyDE's carry the paired test against the strongest single component.

    Slices are the tiers of ``queries`` and ``vague`` (V1, V2, V3 pooled); those without queries are left out. The strongest single
    component has the highest mean nDCG@5 on the slice; ``hybrid`` modes are held against everything, other modes against all but
    ``hybrid``. Raises KeyError where an arm lacks a figure of a query.
    """
    rows: list[Row] = []
    for slice_name, tools, query_ids in _slices(queries):
        singles = [r for r in results if r.arm in SINGLE_ARMS]
        plain = _strongest([r for r in singles if r.mode != "hybrid"], query_ids)
        strongest = _strongest(singles, query_ids)
        for result in results:
            rival = (strongest if result.mode == "hybrid" else plain) if result.arm == COHYDE else None
            for metric in METRICS:
                ours = _values(result, query_ids, metric)
                difference = p_value = None
                if rival is not None:
                    difference, p_value = paired_test(ours, _values(rival, query_ids, metric))
                rows.append(
                    Row(
                        arm=result.arm,
                        round=result.round,
                        mode=result.mode,
                        weight=result.weight,
                        slice=slice_name,
                        tools=tools,
                        metric=metric,
                        value=fmean(ours),
                        n=len(query_ids),
                        difference=difference,
                        p_value=p_value,
                        against=f"{rival.arm} {rival.mode}" if rival else None,
                    )
                )
    return rows


def verdict(difference: float, p_value: float) -> Literal["better", "worse", "not distinguishable"]:
    """What the paired test lets one say, at 5 %."""
    if p_value >= SIGNIFICANCE or difference == 0:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


def last_round(rows: Sequence[Row]) -> int | None:
    """The newest CoHyDE round among the rows; None where CoHyDE was not run."""
    return max((r["round"] for r in rows if r["arm"] == COHYDE and r["round"] is not None), default=None)


def _slices(queries: Sequence[Query]) -> Iterable[tuple[str, Tools, list[str]]]:
    tiers = list(dict.fromkeys(q.tier for q in queries))
    order = [t for t in ("standard", *VAGUE_TIERS) if t in tiers] + sorted(t for t in tiers if t not in ("standard", *VAGUE_TIERS))
    groups = {tier: (tier,) for tier in order} | ({"vague": VAGUE_TIERS} if set(tiers) & set(VAGUE_TIERS) else {})
    for slice_name, members in groups.items():
        for tools in TOOLS:
            query_ids = [q.query_id for q in queries if q.tier in members and tools in ("all", q.novelty)]
            if query_ids:
                yield slice_name, tools, query_ids


def _values(result: ArmResult, query_ids: Sequence[str], metric: str) -> list[float]:
    return [result.per_query[query_id][metric] for query_id in query_ids]


def _strongest(results: Sequence[ArmResult], query_ids: Sequence[str]) -> ArmResult | None:
    return max(results, key=lambda r: fmean(_values(r, query_ids, "nDCG@5")), default=None)
