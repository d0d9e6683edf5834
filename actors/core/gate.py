"""Whether a candidate release may take over: never worse, by a paired test.

Invariants: pure; every slice, and all of them together, is held against the served release, against the frozen base, and against
the best that was served, so that many small falls do not add up; a refusal says which slice, against whom, by how much. What the
candidate is judged by was never trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from actors.core.ranking import paired_test

Figures = Mapping[str, float]
"""Query id -> nDCG@5 of one release."""

TOGETHER = "together"
"""The slice of all slices' queries: falls that no slice alone could tell from chance add up there."""
SIGNIFICANCE = 0.1
"""One-sided: of candidates that fall by just the tolerance, this share is refused; of those that fall by more, more."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The candidate against one rival on one slice; figures are shares (0..1), ``p_value`` that of their difference, two-sided.

    ``falls``: the paired test says that the slice falls by more than the tolerance.
    """

    slice: str
    against: str
    n: int
    candidate: float
    rival: float
    difference: float
    p_value: float
    falls: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """``promote``, and in one line why, or why not."""

    promote: bool
    reason: str
    comparisons: tuple[Comparison, ...]


def judge(candidate: Figures, rivals: Mapping[str, Figures], slices: Mapping[str, Sequence[str]], tolerance: float) -> Verdict:
    """Hold ``candidate`` against each rival ("served", "frozen", "best") on each slice (name -> query ids; empty ones left out).

    Refused where the paired test says that a slice, or all of them together, falls by more than ``tolerance``. A fall that chance
    explains does not refuse, nor is a gain asked for: with some hundred queries either would keep half of the candidates that are
    as good as what is served, which would grow stale. Raises ``ValueError`` where all slices are empty.
    """
    filled = {name: list(ids) for name, ids in slices.items() if ids}
    if not filled:
        raise ValueError("a gate needs held-out queries; there are none")
    if len(filled) > 1:
        filled[TOGETHER] = [query for ids in filled.values() for query in ids]
    comparisons = tuple(
        _compare(name, ids, against, candidate, figures, tolerance)
        for against, figures in rivals.items()
        for name, ids in filled.items()
    )
    falling = [c for c in comparisons if c.falls]
    if falling:
        worst = min(falling, key=lambda c: c.difference)
        return Verdict(False, f"{worst.slice} falls {_points(worst)} against the {worst.against} release", comparisons)
    gains = [c for c in comparisons if c.against == "served"]
    told = ", ".join(f"{c.slice} {_points(c)}" for c in gains or comparisons)
    return Verdict(True, f"against the {'served' if gains else 'frozen'} release: {told}", comparisons)


def _compare(name: str, ids: Sequence[str], against: str, candidate: Figures, rival: Figures, tolerance: float) -> Comparison:
    ours, theirs = [candidate[q] for q in ids], [rival[q] for q in ids]
    difference, p_value = paired_test(ours, theirs)
    beyond, two_sided = paired_test([value + tolerance for value in ours], theirs)
    falls = beyond < 0 and two_sided / 2 < SIGNIFICANCE
    return Comparison(name, against, len(ids), fmean(ours), fmean(theirs), difference, p_value, falls)


def _points(comparison: Comparison) -> str:
    return f"{100 * comparison.difference:+.1f} points (n {comparison.n}, p {comparison.p_value:.3f})"
