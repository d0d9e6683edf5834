"""Which tools are like those of the training."""

from __future__ import annotations

import numpy as np
import pytest

from actors.core import familiarity
from actors.core.fusion import Vectors


def circle(*degrees: float) -> Vectors:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


TRAINED = circle(0, 10, 30, 40)


def test_the_border_is_how_near_another_namespace_is() -> None:
    found = familiarity.border(TRAINED, ["a", "a", "b", "b"])
    # 0 and 40 have theirs 30 away, 10 and 30 have them 20 away.
    assert found == pytest.approx(np.cos(np.deg2rad(30)), abs=1e-3)
    assert familiarity.border(TRAINED, [""] * 4) == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-3), "any other tool"
    assert familiarity.border(circle(0), ["a"]) == -1.0, "nothing is told from a single tool"


def test_the_border_lets_all_but_a_few_pass() -> None:
    many = circle(*(20 * place + side for place in range(17) for side in (0, 10)), 345)
    names = ["ab"[place % 2] for place in range(len(many))]
    near = familiarity.border(many, names)
    assert np.cos(np.deg2rad(10)) >= near > np.cos(np.deg2rad(15))


def test_unfamiliar_is_what_no_tool_of_the_training_is_near() -> None:
    border = familiarity.border(TRAINED, ["a", "a", "b", "b"])
    assert familiarity.unfamiliar(circle(20, 65, 75, 180, -25), TRAINED, border).tolist() == [False, False, True, True, False]
    assert not familiarity.unfamiliar(TRAINED, TRAINED, border).any()
    assert familiarity.unfamiliar(circle(), TRAINED, border).tolist() == []


def test_many_tools_are_asked_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = circle(*range(0, 90, 3))
    names = [str(place % 3) for place in range(30)]
    whole = familiarity.border(vectors, names), familiarity.unfamiliar(circle(*range(200)), vectors, 0.999).tolist()
    monkeypatch.setattr(familiarity, "_ROWS", 7)
    assert (familiarity.border(vectors, names), familiarity.unfamiliar(circle(*range(200)), vectors, 0.999).tolist()) == whole
