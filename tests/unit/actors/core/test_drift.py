"""Drift: silent where nothing changed, loud where something did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from actors.core.drift import LEAST, Drift, Vectors, centroid_distance, has_drifted, mmd
from actors.core.events import ShownTool
from actors.core.joining import Interaction


def directions(count: int, seed: int, towards: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 16)) + 2.0 * np.eye(16)[towards]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def search(number: int, margin: float = 0.1, called: bool = True, topic: str = "a") -> Interaction:
    tools = (
        ShownTool(tool_id="x", rank=1, score=0.5 + margin, propensity=1.0),
        ShownTool(tool_id="y", rank=2, score=0.5, propensity=0.5),
    )
    return Interaction(f"{topic}{number}", float(number), "t", f"{topic} {number}", tools, {"x": "succeeded"} if called else {})


def embed(texts: Sequence[str]) -> Vectors:
    return np.concatenate([directions(1, int(text.split()[1]), 0 if text.startswith("a") else 5) for text in texts])


def windows(recent: Sequence[Interaction]) -> Drift:
    drift = Drift()
    for number in range(100):
        drift.note(search(number, margin=0.1 + 0.001 * (number % 7), called=number % 5 != 0))
    drift.settle()
    for interaction in recent:
        drift.note(interaction)
    return drift


def test_mmd_is_about_zero_for_one_distribution_and_significant_for_two() -> None:
    same, p_same = mmd(directions(80, 1), directions(60, 2), 3)
    other, p_other = mmd(directions(80, 1), directions(60, 2, towards=5), 3)
    assert abs(same) < 0.01 < other
    assert p_same > 0.05 > p_other
    assert mmd(directions(80, 1), directions(60, 2), 3) == (same, p_same)


def test_mmd_by_hand() -> None:
    before, after = np.array([[1, 0], [1, 0]], np.float32), np.array([[0, 1], [0, 1]], np.float32)
    # Squared distances: 0 within, 2 across; the median of (0, 2, 2, 2, 2, 0) is 2, so kernels are 1 and exp(-1).
    assert mmd(before, after, 1)[0] == pytest.approx(1 + 1 - 2 * np.exp(-1))


def test_false_alarms_are_as_rare_as_promised() -> None:
    alarms = sum(mmd(directions(40, 2 * seed), directions(40, 2 * seed + 1), seed)[1] < 0.05 for seed in range(60))
    assert alarms <= 8


def test_nothing_is_said_of_too_little() -> None:
    assert windows([search(200 + n) for n in range(LEAST - 1)]).figures(embed, 1) == {}
    assert not has_drifted({}, 0.01)


@pytest.mark.parametrize(
    ("recent", "drifted"),
    [
        ([search(200 + n, margin=0.1 + 0.001 * (n % 7), called=n % 5 != 0) for n in range(60)], False),
        ([search(200 + n, margin=0.1 + 0.001 * (n % 7), called=n % 5 != 0, topic="b") for n in range(60)], True),
        ([search(200 + n, margin=0.02 + 0.001 * (n % 7), called=n % 5 != 0) for n in range(60)], True),
        ([search(200 + n, margin=0.1 + 0.001 * (n % 7), called=n % 5 == 0) for n in range(60)], True),
        # Users who fare better than before are no reason to hurry.
        ([search(200 + n, margin=0.3 + 0.001 * (n % 7), called=True) for n in range(60)], False),
    ],
    ids=["as before", "other questions", "smaller margin", "fewer calls", "better"],
)
def test_what_changed_is_told(recent: list[Interaction], drifted: bool) -> None:
    figures = windows(recent).figures(embed, 7)
    assert has_drifted(figures, 0.01) == drifted
    assert {"centroid_distance", "mmd2", "margin", "no_call_share"} <= figures.keys()


def test_what_was_recent_becomes_the_reference() -> None:
    drift = windows([search(200 + n, topic="b") for n in range(60)])
    drift.settle()
    assert drift.figures(embed, 1) == {}


def test_centroids() -> None:
    a, b = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    assert centroid_distance(a, a) == pytest.approx(0.0)
    assert centroid_distance(a, b) == pytest.approx(1.0)
