"""Which rewrites become preference pairs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from actors.core.preferences import make_pairs
from actors.core.types import PAIRS
from configs.schema import RewriterConfig


def _rows(query_id: str, *samples: tuple[str, float]) -> list[dict[str, Any]]:
    versions = {"rewriter_version": 2, "retriever_version": 3, "context_retriever_version": 2}
    return [
        {"unit": 2, "query_id": query_id, "prompt": f"prompt {query_id}", "text": text, "reward": reward, **versions}
        for text, reward in samples
    ]


def _config(gap: float = 0.1, most: int = 1) -> RewriterConfig:
    return RewriterConfig(min_reward_gap=gap, max_pairs_per_query=most)


def test_best_against_worst_with_rewards_and_versions() -> None:
    pairs = make_pairs(_rows("q", ("a", 0.2), ("b", 0.9), ("c", 0.5), ("d", 0.1)), _config(), reference_version=0)
    assert pairs == [
        {
            "unit": 2,
            "query_id": "q",
            "prompt": "prompt q",
            "chosen": "b",
            "rejected": "d",
            "chosen_reward": 0.9,
            "rejected_reward": 0.1,
            "rewriter_version": 2,
            "retriever_version": 3,
            "reference_version": 0,
        }
    ]
    assert pa.Table.from_pylist(pairs, PAIRS).num_rows == 1


def test_more_pairs_never_use_a_text_twice() -> None:
    rows = _rows("q", ("a", 0.2), ("b", 0.9), ("c", 0.5), ("d", 0.1))
    assert [(p["chosen"], p["rejected"]) for p in make_pairs(rows, _config(most=3), 0)] == [("b", "d"), ("c", "a")]


def test_small_gaps_and_ties_are_dropped() -> None:
    rows = _rows("near", ("a", 0.50), ("b", 0.45)) + _rows("tied", ("a", 0.5), ("b", 0.5)) + _rows("far", ("a", 0.5), ("b", 0.25))
    assert [p["query_id"] for p in make_pairs(rows, _config(0.1), 0)] == ["far"]
    assert [p["query_id"] for p in make_pairs(rows, _config(0.0), 0)] == ["near", "far"]


def test_a_gap_of_exactly_the_minimum_counts() -> None:
    assert len(make_pairs(_rows("q", ("a", 0.5), ("b", 0.25)), _config(0.25), 0)) == 1


def test_identical_texts_are_one() -> None:
    assert make_pairs(_rows("q", ("same  text", 0.9), ("same text\n", 0.1)), _config(), 0) == []
    rows = _rows("q", ("same", 0.9), ("same", 0.9), ("other", 0.1))
    assert [(p["chosen"], p["rejected"]) for p in make_pairs(rows, _config(most=2), 0)] == [("same", "other")]


def test_queries_are_never_mixed() -> None:
    assert make_pairs(_rows("q1", ("a", 0.9)) + _rows("q2", ("b", 0.1)), _config(), 0) == []
