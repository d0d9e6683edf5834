"""Metrics against numbers worked by hand, and the paired test."""

from __future__ import annotations

import math

import pytest

from actors.core import ranking

LOG3 = math.log2(3)


def _run(*tools: str) -> list[tuple[str, float]]:
    return [(tool, 1.0 - i / 100) for i, tool in enumerate(tools)]


def test_metrics_of_a_hand_worked_query() -> None:
    # Gold a and b at ranks 2 and 6: DCG@5 = 1/log2(3); ideal = 1 + 1/log2(3).
    values = ranking.evaluate({"q": _run("x", "a", "y", "z", "u", "b")}, {"q": {"a": 1, "b": 1}})["q"]
    ideal = 1 + 1 / LOG3
    assert values["nDCG@5"] == pytest.approx((1 / LOG3) / ideal)
    assert values["nDCG@10"] == pytest.approx((1 / LOG3 + 1 / math.log2(7)) / ideal)
    assert (values["R@5"], values["R@10"]) == (0.5, 1.0)
    assert (values["COMP@5"], values["COMP@10"]) == (0.0, 1.0)
    assert (values["Success@5"], values["Success@10"]) == (1.0, 1.0)
    assert values["RR"] == 0.5
    assert values[ranking.FOUND_NDCG] == pytest.approx(1 / LOG3), "of the two, one is there: best would be rank 1"
    assert tuple(sorted(values)) == tuple(sorted(ranking.METRICS))


def test_grades_are_gains() -> None:
    # The tool of grade 1 stands before that of grade 3: DCG = 1 + 3/log2(3), ideal = 3 + 1/log2(3).
    values = ranking.evaluate({"q": _run("low", "high")}, {"q": {"low": 1, "high": 3}})["q"]
    assert values["nDCG@5"] == pytest.approx((1 + 3 / LOG3) / (3 + 1 / LOG3))


def test_a_query_without_ranking_scores_zero_and_stays() -> None:
    values = ranking.evaluate({"q1": _run("a")}, {"q1": {"a": 1}, "q2": {"a": 1}})
    assert set(values["q2"].values()) == {0.0}
    assert ranking.mean(values)["nDCG@5"] == 0.5
    assert ranking.mean(values, ["q1"])["nDCG@5"] == 1.0


def test_order_decides_where_scores_tie() -> None:
    values = ranking.evaluate({"q": [("z", 0.5), ("a", 0.5)]}, {"q": {"z": 1}})
    assert values["q"]["RR"] == 1.0


def test_own_ndcg_equals_ir_measures() -> None:
    gold = {"a": 2, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}
    ranked = ["x", "b", "a", "y", "f", "c"]
    expected = ranking.evaluate({"q": _run(*ranked)}, {"q": gold})["q"]
    assert ranking.ndcg(ranked, gold, 5) == pytest.approx(expected["nDCG@5"])
    assert ranking.ndcg(ranked, gold, 10) == pytest.approx(expected["nDCG@10"])
    assert ranking.ndcg(ranked, {}, 5) == 0.0


def test_paired_test_is_exact_on_few_queries() -> None:
    # Three differences of one sign: of 8 sign patterns only all-plus and all-minus reach the sum.
    difference, p_value = ranking.paired_test([0.5, 0.6, 0.7, 0.2], [0.4, 0.4, 0.4, 0.2])
    assert difference == pytest.approx(0.15)
    assert p_value == 0.25


def test_paired_test_tells_a_shift_from_noise() -> None:
    a = [0.1 * (i % 7) for i in range(200)]
    shifted = [value + 0.05 for value in a]
    noisy = [value + (0.05 if i % 2 else -0.05) for i, value in enumerate(a)]
    assert ranking.paired_test(shifted, a)[1] < 0.001
    assert ranking.paired_test(noisy, a)[1] > 0.9
    assert ranking.paired_test(a, shifted) == (pytest.approx(-0.05), ranking.paired_test(shifted, a)[1])


def test_paired_test_of_equal_systems() -> None:
    assert ranking.paired_test([0.3, 0.4], [0.3, 0.4]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="equally long"):
        ranking.paired_test([0.1], [])


def test_an_interval_holds_the_mean_and_narrows_with_more_queries() -> None:
    few, many = [0.0, 1.0] * 45, [0.0, 1.0] * 4_000
    low, high = ranking.interval(few)
    # Half of ninety yes or no: 1.96 standard errors of 0.0527 to each side.
    assert low == pytest.approx(0.5 - 0.103, abs=0.02)
    assert high == pytest.approx(0.5 + 0.103, abs=0.02)
    narrow = ranking.interval(many)
    assert narrow[1] - narrow[0] < 0.03
    assert ranking.interval([0.3]) == pytest.approx((0.3, 0.3))
    assert ranking.interval(few) == (low, high)
    with pytest.raises(ValueError, match="no values"):
        ranking.interval([])
