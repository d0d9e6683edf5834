"""The gate: never worse on any slice, against anybody."""

import random

import pytest

from actors.core.gate import Figures, judge

IDS = [f"q{i}" for i in range(40)]
SLICES = {"standard": IDS[:20], "vague": IDS[20:]}


def figures(standard: float, vague: float, zeros: int = 0) -> dict[str, float]:
    """Constant on each slice, but for ``zeros`` queries of the vague one."""
    values = dict.fromkeys(IDS[:20], standard) | dict.fromkeys(IDS[20:], vague)
    return values | dict.fromkeys(IDS[20 : 20 + zeros], 0.0)


BASE = figures(0.7, 0.2)


def verdict(candidate: Figures, served: Figures | None = None, tolerance: float = 0.01) -> tuple[bool, str]:
    rivals = {"frozen": BASE} | ({} if served is None else {"served": served})
    found = judge(candidate, rivals, SLICES, tolerance)
    return found.promote, found.reason


def test_better_everywhere_is_promoted_with_its_figures() -> None:
    promote, reason = verdict(figures(0.75, 0.3), figures(0.7, 0.25))
    assert promote
    gains = "standard +5.0 points (n 20, p 0.000), vague +5.0 points (n 20, p 0.000), together +5.0 points (n 40, p 0.000)"
    assert reason == f"against the served release: {gains}"


def test_a_fall_on_one_slice_is_refused_whatever_the_other_gains() -> None:
    assert verdict(figures(0.6, 0.9), BASE) == (
        False,
        "standard falls -10.0 points (n 20, p 0.000) against the frozen release",
    )


def test_a_fall_against_the_frozen_base_is_refused_though_the_served_one_is_beaten() -> None:
    promote, reason = verdict(figures(0.65, 0.3), figures(0.5, 0.2))
    assert not promote
    assert "frozen" in reason


def test_a_fall_counts_beyond_the_tolerance_and_where_chance_does_not_explain_it() -> None:
    assert verdict(figures(0.695, 0.4), BASE, tolerance=0.02)[0]
    assert not verdict(figures(0.67, 0.4), BASE, tolerance=0.02)[0]
    # One vague query of twenty lost: a fall of one point that chance explains. Eight of them: one that it does not.
    assert verdict(figures(0.8, 0.2, zeros=1), BASE, tolerance=0.005)[0]
    assert not verdict(figures(0.8, 0.2, zeros=8), BASE, tolerance=0.005)[0]


def test_candidates_that_are_as_good_are_rarely_refused_for_a_fall() -> None:
    rng = random.Random(4)
    refused = 0
    for _ in range(200):
        served = {q: rng.random() for q in IDS}
        candidate = {q: min(1.0, max(0.0, value + rng.gauss(0.01, 0.2))) for q, value in served.items()}
        found = judge(candidate, {"frozen": served}, SLICES, 0.01)
        refused += any(c.falls for c in found.comparisons)
    assert refused < 200 * 0.2


def test_falls_that_chance_explains_on_each_slice_refuse_where_they_add_up() -> None:
    assert verdict(BASE, BASE)[0]
    served = figures(0.7, 0.4)
    # That three lost queries and two lost ones all fell is one toss of eight and of four; five together one of thirty-two.
    candidate = {q: 0.0 if q in IDS[:3] + IDS[20:22] else value for q, value in served.items()}
    found = judge(candidate, {"served": served}, SLICES, 0.01)
    assert [c.slice for c in found.comparisons if c.falls] == ["together"]
    assert (found.promote, found.reason) == (
        False,
        "together falls -7.2 points (n 40, p 0.062) against the served release",
    )


def test_the_first_release_needs_only_not_to_fall() -> None:
    assert verdict(BASE)[0]
    assert not verdict(figures(0.7, 0.1))[0]


def test_slices_without_queries_are_left_out() -> None:
    found = judge(BASE, {"frozen": BASE}, {"standard": IDS[:20], "log": []}, 0.01)
    assert [c.slice for c in found.comparisons] == ["standard"]
    with pytest.raises(ValueError, match="held-out queries"):
        judge(BASE, {"frozen": BASE}, {"log": []}, 0.01)
