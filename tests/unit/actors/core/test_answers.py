from __future__ import annotations

import random
from collections import Counter

import pytest

from actors.core.answers import explore, put_first, within_budget

RANKING = [("a", 0.9), ("b", 0.8), ("c", 0.7)]


def test_pinned_come_first_then_exact_names_then_the_ranking() -> None:
    found = put_first(RANKING, ["b"], ["z", "c"], {"z": 0.1, "c": 0.7}.__getitem__)
    assert found == [("z", 0.1), ("c", 0.7), ("b", 1.0), ("a", 0.9)]
    assert put_first(RANKING, [], [], lambda t: 0.0) == RANKING


def test_a_budget_takes_the_first_tool_in_any_case() -> None:
    assert within_budget([100, 100, 100], 250) == 2
    assert within_budget([100, 100], 200) == 2
    assert within_budget([500, 1], 10) == 1
    assert within_budget([], 10) == 0


def test_exploring_says_how_likely_each_tool_was_to_stand_there() -> None:
    rng = random.Random(5)
    seen: Counter[tuple[int, str]] = Counter()
    told: dict[tuple[int, str], float] = {}
    rounds = 20_000
    for _ in range(rounds):
        tools, propensities, tried = explore(RANKING, [("x", 0.5), ("y", 0.4)], 1, 0.4, rng)
        assert (tried is None) == (tools == RANKING)
        for place, ((tool, _score), propensity) in enumerate(zip(tools, propensities, strict=True)):
            seen[place, tool] += 1
            told[place, tool] = propensity
    assert set(told) == {(0, "a"), (1, "b"), (2, "c"), (1, "x"), (1, "y"), (2, "x"), (2, "y")}
    for key, propensity in told.items():
        assert seen[key] / rounds == pytest.approx(propensity, abs=0.01), key


def test_nothing_is_tried_where_there_is_nothing_to_try() -> None:
    rng = random.Random(0)
    for shown, further, share in ((RANKING, [], 1.0), (RANKING[:1], [("x", 0.1)], 1.0), (RANKING, [("x", 0.1)], 0.0)):
        assert explore(shown, further, 1, share, rng) == (list(shown), [1.0] * len(shown), None)
