"""Fusing vectors and rankings; fitting the weight."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from actors.core import fusion
from actors.core.types import Query, QueryKind


def _rows(*rows: list[float]) -> fusion.Vectors:
    return np.array(rows, dtype=np.float32)


def test_fuse_weighs_and_normalises() -> None:
    fused = fusion.fuse(_rows([1, 0]), _rows([0, 1]), 0.25)
    assert fused[0] == pytest.approx(np.array([0.75, 0.25]) / np.hypot(0.75, 0.25))
    assert fusion.fuse(_rows([1, 0]), _rows([0, 0.5]), 1.0)[0] == pytest.approx([0, 1])
    assert fused.dtype == np.float32


def test_fuse_without_rewrite_is_the_query_whatever_the_weight() -> None:
    assert fusion.fuse(_rows([0.6, 0.8]), _rows([0, 0]), 1.0)[0] == pytest.approx([0.6, 0.8])


def test_a_found_tool_moves_towards_the_mean_of_its_tenants_means() -> None:
    tools = _rows([1, 0], [0, 1], [0, -1])
    queries = _rows([0, 1], [0, 1], [0, -1], [1, 0])
    found, moved = fusion.moved_tools(tools, [0, 0, 0, 1], queries, ["loud", "loud", "quiet", "quiet"], 0.5)
    assert found.tolist() == [0, 1]
    # Tool 0: two tenants of opposite minds, however often one speaks. Tool 1: (0.5, 1), normalised.
    assert moved[0] == pytest.approx([1, 0])
    assert moved[1] == pytest.approx(np.array([0.5, 1]) / np.hypot(0.5, 1))
    assert tools[1].tolist() == [0, 1]
    nothing, none = fusion.moved_tools(tools, [], queries[:0], [], 0.5)
    assert (nothing.shape, none.shape) == ((0,), (0, 2))


def test_reciprocal_rank_by_hand() -> None:
    joined = dict(fusion.reciprocal_rank([["a", "b"], ["b", "c"]]))
    assert list(joined) == ["b", "a", "c"]
    assert joined["b"] == pytest.approx(1 / 62 + 1 / 61)
    assert joined["a"] == pytest.approx(1 / 61)
    assert joined["c"] == pytest.approx(1 / 62)


def test_top_is_sorted_and_bounded() -> None:
    assert fusion.top(_rows([0.1, 0.9, 0.5]), 2).tolist() == [[1, 2]]
    assert fusion.top(_rows([0.1, 0.9]), 5).tolist() == [[1, 0]]


def _query(query_id: str, kind: QueryKind, gold: str) -> Query:
    return Query(query_id, query_id, kind, "dev", {gold: 1})


TOOLS = _rows([1, 0], [0, 1])
IDS = ["right", "other"]


def test_fit_weight_takes_the_weight_that_helps() -> None:
    # Query points at the wrong tool, rewrite at the right one: right from a weight above 0.5 on.
    weight, figures = fusion.fit_weight(_rows([0, 1]), _rows([1, 0]), TOOLS, IDS, [_query("q", "vague", "right")], [0.4, 0.6, 0.8])
    assert weight == 0.6
    assert figures == pytest.approx({0.0: 0.6309, 0.4: 0.6309, 0.6: 1.0, 0.8: 1.0}, abs=1e-4)


def test_fit_weight_is_zero_where_rewrites_hurt_or_are_missing() -> None:
    query = [_query("q", "standard", "right")]
    assert fusion.fit_weight(_rows([1, 0]), _rows([0, 1]), TOOLS, IDS, query, [0.6])[0] == 0.0
    assert fusion.fit_weight(_rows([1, 0]), _rows([0, 0]), TOOLS, IDS, query, [0.6, 1.0])[0] == 0.0


def test_fit_weight_gives_standard_and_vague_equal_halves() -> None:
    # At 0.6 one of two standard queries loses as much as the only vague one wins: even by queries, a gain by halves.
    queries = [_query("s1", "standard", "right"), _query("s2", "standard", "other"), _query("v", "vague", "right")]
    by_query = _rows([1, 0], [0, 1], [0, 1])
    by_rewrite = _rows([0, 1], [0, 1], [1, 0])
    weight, figures = fusion.fit_weight(by_query, by_rewrite, TOOLS, IDS, queries, [0.6])
    lost = (0.6309 + 1) / 2
    assert figures == pytest.approx({0.0: (1 + 0.6309) / 2, 0.6: (lost + 1) / 2}, abs=1e-4)
    assert weight == 0.6


def test_fit_weight_leaves_a_gain_within_its_standard_error() -> None:
    # Three queries win by the rewrite and two lose as much: a gain, but not one that five queries can show.
    queries = [_query(f"v{i}", "vague", gold) for i, gold in enumerate(["right"] * 3 + ["other"] * 2)]
    weight, figures = fusion.fit_weight(_rows(*[[0, 1]] * 5), _rows(*[[1, 0]] * 5), TOOLS, IDS, queries, [0.6])
    assert figures[0.6] > figures[0.0]
    assert weight == 0.0


def test_fit_weight_needs_queries() -> None:
    with pytest.raises(ValueError, match="no dev queries"):
        fusion.fit_weight(TOOLS, TOOLS, TOOLS, IDS, [])


def test_a_reranking_reorders_the_tools_that_were_read_and_no_others() -> None:
    ranking = [("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.6)]
    found = fusion.reranked(ranking, [-3.0, -1.0], 0.1)
    assert [tool for tool, _ in found] == ["b", "a", "c", "d"]
    assert found[0][1] == pytest.approx(0.7)
    assert all(one > two for (_, one), (_, two) in pairwise(found))
    assert [tool for tool, _ in fusion.reranked(ranking, [-3.0, -1.0], 0.0)] == ["a", "b", "c", "d"]
    assert [tool for tool, _ in fusion.reranked(ranking, [], 1.0)] == ["a", "b", "c", "d"]
    assert fusion.reranked([], [], 1.0) == []


def test_the_reranker_s_weight_is_the_one_that_helps_and_0_where_it_hurts() -> None:
    queries = [_query(f"q{n}", "vague", "right") for n in range(10)]
    rankings = [[("wrong", 0.5), ("right", 0.44)]] * 10
    weight, figures = fusion.fit_rerank_weight(rankings, [[-3.0, -2.5]] * 10, queries)
    # 0.06 apart: 0.1 * 0.5 is not enough, 0.2 * 0.5 is the smallest of the grid that turns them.
    assert (weight, figures[0.2]) == (0.2, 1.0)
    assert fusion.fit_rerank_weight(rankings, [[-2.5, -3.0]] * 10, queries)[0] == 0.0
    with pytest.raises(ValueError, match="no dev queries"):
        fusion.fit_rerank_weight([], [], [])
