"""Preference pairs from scored rewrites.

Invariants: pure; the two texts of a pair differ and their rewards lie at least ``min_reward_gap`` (and more than 0) apart; a text
stands in one pair of its query at most; every pair keeps both rewards and the versions that made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from configs.schema import RewriterConfig


def make_pairs(rows: Iterable[Mapping[str, Any]], config: RewriterConfig, reference_version: int) -> list[dict[str, Any]]:
    """Rows of ``types.PAIRS`` from rows of ``types.SCORED``: best with worst, second best with second worst, and so on.

    At most ``max_pairs_per_query`` a query; queries in the order of their first row. ``reference_version`` is DPO's reference.
    """
    by_query: dict[tuple[int, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        texts = by_query.setdefault((row["unit"], row["query_id"]), {})
        # Of samples with one text the first stands for all.
        texts.setdefault(" ".join(row["text"].split()), row)
    return [
        _pair(best, worst, reference_version)
        for texts in by_query.values()
        for best, worst in _best_and_worst(list(texts.values()), config)
    ]


def _best_and_worst(rows: list[Mapping[str, Any]], config: RewriterConfig) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    ranked = sorted(rows, key=lambda row: -row["reward"])
    couples = [(ranked[i], ranked[-1 - i]) for i in range(min(len(ranked) // 2, config.max_pairs_per_query))]
    gaps = [best["reward"] - worst["reward"] for best, worst in couples]
    return [couple for couple, gap in zip(couples, gaps, strict=True) if gap > 0 and gap >= config.min_reward_gap]


def _pair(best: Mapping[str, Any], worst: Mapping[str, Any], reference_version: int) -> dict[str, Any]:
    kept = {name: best[name] for name in ("unit", "query_id", "prompt", "rewriter_version", "retriever_version")}
    return kept | {
        "chosen": best["text"],
        "rejected": worst["text"],
        "chosen_reward": best["reward"],
        "rejected_reward": worst["reward"],
        "reference_version": reference_version,
    }
