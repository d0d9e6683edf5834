from __future__ import annotations

import pyarrow as pa
import pytest

from actors.core.types import PAIRS, REWRITES, SCORED, Completion, Query, Score, Unit
from configs.schema import RewriterConfig
from pipelines import stages

UNIT = Unit(index=4, seed=9, query_ids=("b", "a", "c"))
QUERIES = {q: Query(q, f"text {q}", "standard", "train", {"t": 1}) for q in "abc"}


def rewrites() -> pa.Table:
    block = pa.concat_tables(stages.query_blocks(UNIT, QUERIES, 3))
    completions = [[Completion(f"{q}{k}", 5 + k, k == 0) for k in range(2)] for q in UNIT.query_ids]
    return stages.rewrite_rows(UNIT, block, ["P1", "P2", "P3"], completions, rewriter_version=3, context_version=None)


def scored() -> pa.Table:
    scores = [[Score(0.9, 0.8, 0.1, 0.0), Score(0.2, 0.5, 0.2, 0.5)] for _ in range(3)]
    return stages.score_rows(rewrites(), scores, retriever_version=5)


def test_query_blocks_keep_the_units_order() -> None:
    first, second = stages.query_blocks(UNIT, QUERIES, 2)
    assert first.to_pylist() == [
        {"position": 0, "query_id": "b", "query": "text b"},
        {"position": 1, "query_id": "a", "query": "text a"},
    ]
    assert second["position"].to_pylist() == [2]


def test_rewrite_rows_carry_their_versions() -> None:
    rows = rewrites()
    assert rows.schema.equals(REWRITES)
    assert rows.slice(1, 1).to_pylist() == [
        {
            "unit": 4,
            "query_id": "b",
            "query": "text b",
            "sample": 1,
            "prompt": "P1",
            "text": "b1",
            "token_count": 6,
            "finished": False,
            "rewriter_version": 3,
            "context_retriever_version": None,
        }
    ]


def test_blocks_are_cut_between_queries() -> None:
    blocks = stages.whole_query_blocks(rewrites(), 2)
    assert [block["query_id"].to_pylist() for block in blocks] == [["b", "b", "a", "a"], ["c", "c"]]
    assert stages.completions_by_query(blocks[1]) == {"c": [Completion("c0", 5, True), Completion("c1", 6, False)]}


def test_scores_stand_with_their_rewrites() -> None:
    rows = scored()
    assert rows.schema.equals(SCORED)
    assert rows["reward"].to_pylist() == [0.9, 0.2] * 3
    assert rows["text"].to_pylist() == ["b0", "b1", "a0", "a1", "c0", "c1"]
    with pytest.raises(ValueError, match="1 scores for 6 rewrites"):
        stages.score_rows(rewrites(), [[Score(0, 0, 0, 0)]], 5)


def test_pairs_and_their_metrics() -> None:
    pairs = stages.pair_rows(scored(), RewriterConfig(), reference_version=0)
    assert pairs.schema.equals(PAIRS)
    assert [(p["chosen"], p["rejected"], p["rewriter_version"], p["retriever_version"]) for p in pairs.to_pylist()] == [
        ("b0", "b1", 3, 5),
        ("a0", "a1", 3, 5),
        ("c0", "c1", 3, 5),
    ]
    metrics = stages.score_metrics(scored(), pairs)
    assert metrics["pairs"] == 3 and metrics["retriever_version"] == 5
    assert metrics["rewards_mean"] == pytest.approx(0.55)
    assert metrics["reward_gap_mean"] == pytest.approx(0.7)
    assert metrics["penalty_share"] == 0.5
    assert stages.score_metrics(scored(), PAIRS.empty_table())["reward_gap_mean"] is None


def test_rewrite_metrics() -> None:
    metrics = stages.rewrite_metrics(rewrites())
    assert metrics == {"rewriter_version": 3, "rewrites": 6, "tokens": 33, "cut_share": 0.5, "distinct_share": 1.0}


def test_rows_of_a_unit_carry_one_version() -> None:
    mixed = pa.concat_tables([rewrites(), rewrites().set_column(8, "rewriter_version", pa.array([2] * 6, pa.int32()))])
    with pytest.raises(ValueError, match=r"rewriter_version: rows of one unit carry versions \[2, 3\]"):
        stages.rewrite_metrics(mixed)
