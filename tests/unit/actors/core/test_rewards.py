"""The reward and its parts."""

from __future__ import annotations

import math

import pytest

from actors.core.rewards import is_degenerate, score_rewrite
from actors.core.types import Completion
from configs.schema import RetrievalConfig

CONFIG = RetrievalConfig(reward_k=2, margin_weight=0.1, penalty=0.5)
GOOD = Completion("Amazon S3: Create Bucket.", 6, True)


def test_reward_is_ndcg_plus_weighted_margin() -> None:
    score = score_rewrite(GOOD, "where do files go", ["x", "gold", "y"], {"gold": 1}, -0.2, CONFIG)
    assert score.ndcg == pytest.approx(1 / math.log2(3))
    assert score.reward == pytest.approx(1 / math.log2(3) - 0.02)
    assert score.penalty == 0.0


def test_gold_below_the_depth_earns_the_margin_only() -> None:
    assert score_rewrite(GOOD, "q", ["x", "y", "gold"], {"gold": 1}, -0.3, CONFIG).reward == pytest.approx(-0.03)


def test_degenerate_text_pays_once() -> None:
    empty_and_cut = Completion(" \n.", 32, False)
    score = score_rewrite(empty_and_cut, "q", ["gold"], {"gold": 1}, 0.0, CONFIG)
    assert (score.reward, score.penalty) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("completion", "degenerate"),
    [
        (Completion("", 0, True), True),
        (Completion("Where do FILES go?", 4, True), True),
        (Completion("Where do files go? Amazon S3.", 8, True), False),
        (Completion("Amazon S3: Create", 32, False), True),
        (GOOD, False),
    ],
)
def test_what_is_degenerate(completion: Completion, degenerate: bool) -> None:
    assert is_degenerate(completion, "where do files go") is degenerate
