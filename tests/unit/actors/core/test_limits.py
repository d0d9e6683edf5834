from __future__ import annotations

import pytest

from actors.core.limits import DEPTH, Limits, adaptive_count, fit
from actors.core.types import Query


def query(number: int) -> Query:
    return Query(f"q{number}", "text", "vague", "dev", {"gold": 1}, "V1")


def ranking(first: float, step: float, gold_at: int) -> list[tuple[str, float]]:
    """Ten tools, ``step`` apart; the gold tool at place ``gold_at`` (from 0; 10 and more: not there)."""
    return [("gold" if place == gold_at else f"t{place}", first - step * place) for place in range(10)]


def test_it_abstains_below_what_right_answers_score() -> None:
    queries = [query(i) for i in range(100)]
    raw = [ranking(0.30 + i / 100, 0.01, 0) for i in range(100)]
    limits = fit(queries, raw, None, [0.2 + i / 100 for i in range(100)])
    # The two lowest of a hundred right answers may be lost.
    assert limits.abstain_below == pytest.approx(0.32)
    assert limits.right_lost == pytest.approx(0.02)
    assert limits.wrong_spared == pytest.approx(0.12)


def test_queries_that_are_answered_wrongly_do_not_hold_the_threshold_down() -> None:
    raw = [ranking(0.1, 0.001, 9), *(ranking(0.5, 0.001, 0) for _ in range(9))]
    assert fit([query(i) for i in range(10)], raw, None, [0.3] * 10).abstain_below == pytest.approx(0.5)


def test_an_adaptive_answer_reaches_down_to_where_gold_tools_stood() -> None:
    queries = [query(i) for i in range(4)]
    raw = [ranking(0.9, 0.1, 0), ranking(0.9, 0.1, 2), ranking(0.9, 0.1, 1), ranking(0.9, 0.1, 99)]
    limits = fit(queries, raw, None, [0.0] * 4)
    assert limits.keep_within == pytest.approx(0.2)
    assert limits.mean_tools == pytest.approx(3.0)
    assert limits.recall_kept == 1.0
    assert adaptive_count([0.9, 0.8, 0.71, 0.69], limits) == 3
    assert adaptive_count([], limits) == 0


def test_auto_rewrites_where_the_lead_is_small_and_rewriting_pays() -> None:
    queries = [query(i) for i in range(20)]
    # Narrow leads are helped by the rewrite, wide ones harmed.
    raw = [ranking(0.5, 0.01, 3) for _ in range(10)] + [ranking(0.5, 0.1, 0) for _ in range(10)]
    fused = [ranking(0.5, 0.01, 0) for _ in range(10)] + [ranking(0.5, 0.1, 3) for _ in range(10)]
    limits = fit(queries, raw, fused, [0.0] * 20)
    assert 0.01 < limits.rewrite_below <= 0.1
    assert limits.rewritten == 0.5
    assert limits.auto_gain > 0.2
    assert fit(queries, raw, raw, [0.0] * 20).rewrite_below == 0.0


def test_without_rewrites_or_queries_nothing_is_held_back() -> None:
    assert fit([], [], None, []) == Limits(rewrite_below=0.0)
    assert fit([], [], [], []) == Limits()
    assert adaptive_count([0.5 - i / 100 for i in range(20)], Limits()) == DEPTH
    with pytest.raises(ValueError, match="as many"):
        fit([query(0)], [], None, [])
