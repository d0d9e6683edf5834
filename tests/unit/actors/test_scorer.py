"""Rewards of a whole batch, contexts and hard negatives, with hand-made vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from actors.core.types import Catalog, Completion, InputError, Query, Tool
from actors.index import DenseIndex
from actors.retriever import Retriever
from actors.scorer import Scorer
from configs.schema import Config, EncoderConfig, RetrievalConfig
from tests.fakes_retrieval import TableEncoder

IDS = ["gold", "twin", "wrong", "far"]
# Cosine with (1, 0): 0.8, 0.96, 0.6, -1.
TOOLS = np.array([[0.8, 0.6], [0.96, 0.28], [0.6, 0.8], [-1, 0]], dtype=np.float32)
QUERY = Query("q", "ask", "vague", "train", {"gold": 1})
TABLE = {"ask": [1.0, 0.0], "good": [0.8, 0.6], "bad": [0.6, 0.8]}


def _scorer(equivalents: bool = True, mode: str = "rewrite", margin: float = 0.05) -> Scorer:
    near = {"gold": frozenset({"twin"})} if equivalents else {}
    catalog = Catalog(tuple(Tool(i, i, f"Title {i}", "") for i in IDS), near)
    retrieval = RetrievalConfig(reward_mode=mode, reward_k=2, margin_weight=0.5, penalty=0.5, fusion_weight=0.5)  # type: ignore[arg-type]
    config = Config(retrieval=retrieval, encoder=EncoderConfig(negative_margin=margin))
    scorer = Scorer(config, catalog, "float32", None)
    scorer.use(Retriever(3, TableEncoder(TABLE), DenseIndex.build(IDS, TOOLS, "exact"), catalog))
    return scorer


def _done(*texts: str) -> list[Completion]:
    return [Completion(text, 3, True) for text in texts]


def test_reward_of_each_rewrite_by_hand() -> None:
    [[good, bad]] = _scorer().score([QUERY], [_done("good", "bad")])
    # "good" = the gold vector: cosines gold 1, wrong 0.48 + 0.48 = 0.96; the twin (0.936) counts as neither.
    assert (good.ndcg, good.penalty) == (1.0, 0.0)
    assert good.margin == pytest.approx(0.04, abs=1e-6)
    assert good.reward == pytest.approx(1 + 0.5 * 0.04)
    # "bad" = the wrong vector: gold second.
    assert bad.ndcg == pytest.approx(1 / math.log2(3))
    assert bad.margin == pytest.approx(-0.04, abs=1e-6)


def test_equivalents_neither_hurt_nor_count_as_wrong() -> None:
    # The query's own vector ranks twin 0.96, gold 0.8, wrong 0.6.
    blank = [Completion("", 0, True)]
    [[with_twin]] = _scorer(equivalents=True).score([QUERY], [blank])
    [[without]] = _scorer(equivalents=False).score([QUERY], [blank])
    assert (with_twin.ndcg, with_twin.margin) == (1.0, pytest.approx(0.2))
    assert (without.ndcg, without.margin) == (pytest.approx(1 / math.log2(3)), pytest.approx(-0.16))
    assert with_twin.penalty == 0.5


def test_fused_reward_ranks_query_and_rewrite_together() -> None:
    [[score]] = _scorer(mode="fused").score([QUERY], [_done("bad")])
    # 0.5 * (1, 0) + 0.5 * (0.6, 0.8) = (0.8, 0.4), length sqrt(0.8): gold 0.88, wrong 0.8 before division.
    assert score.ndcg == 1.0
    assert score.margin == pytest.approx(0.08 / math.sqrt(0.8))


def test_the_shape_follows_the_rewrites() -> None:
    other = Query("q2", "bad", "vague", "train", {"wrong": 1})
    scores = _scorer().score([QUERY, other], [_done("good", "bad", "good"), _done("bad")])
    assert [len(row) for row in scores] == [3, 1]
    assert scores[0][0] == scores[0][2]
    assert scores[1][0].ndcg == 1.0
    assert _scorer().score([], []) == []


def test_a_catalog_of_right_tools_has_no_margin() -> None:
    everything = Query("q", "ask", "vague", "train", dict.fromkeys(IDS, 1))
    assert _scorer().score([everything], [_done("good")])[0][0].margin == 0.0


def test_contexts_are_titles_of_the_raw_ranking() -> None:
    assert _scorer().contexts(["ask"], 2) == [["Title twin", "Title gold"]]
    assert _scorer().contexts(["ask"], 0) == [[]]


def test_negatives_are_wrong_and_below_the_positive() -> None:
    # Gold 0.8: below 0.95 * 0.8 = 0.76 are wrong (0.6) and far (-1); the twin never.
    assert _scorer().mine_negatives([QUERY], 3) == [["wrong", "far"]]
    assert _scorer().mine_negatives([QUERY], 1) == [["wrong"]]
    # A margin of 0.3 drops wrong as well (0.56).
    assert _scorer(margin=0.3).mine_negatives([QUERY], 3) == [["far"]]


def test_without_retriever_it_says_so() -> None:
    with pytest.raises(InputError, match="no retriever is loaded"):
        Scorer(Config(), Catalog(()), "float32", None).contexts(["ask"], 1)


def test_figures_as_served_and_the_weight_that_pays() -> None:
    scorer = _scorer()
    # Raw, the twin stands first; the rewrite's vector is the gold tool's own.
    assert scorer.figures([QUERY], None, 0.5) == [pytest.approx(1 / math.log2(3))]
    assert scorer.figures([QUERY], [["good"]], 0.0) == scorer.figures([QUERY], None, 0.0)
    assert scorer.figures([QUERY], [["good"]], 1.0) == [1.0]
    assert scorer.fit_weight([QUERY], [["good"]]) > 0
    assert scorer.fit_weight([QUERY], [["ask"]]) == 0.0


def test_limits_are_fitted_on_what_serving_would_answer() -> None:
    scorer = _scorer()
    limits = scorer.limits([QUERY], [["good"]], 1.0)
    # Raw: the twin first, gold second; without both of them the best scores less.
    raw = scorer.retriever.rank(["ask"], None, "raw", 0.0, 2)[0]
    assert limits.abstain_below == pytest.approx(raw[0][1])
    assert limits.wrong_spared == 1.0
    assert limits.keep_within == pytest.approx(raw[0][1] - raw[1][1], abs=1e-6)
    # The rewrite puts the gold tool first.
    assert limits.auto_gain == pytest.approx(1 - 1 / math.log2(3))
    assert scorer.limits([QUERY], None, 0.0).rewrite_below == 0.0
