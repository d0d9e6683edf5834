"""Some test queries of a run as its report shows them: what they ask for, their rewrites of each round, and what was found.

Invariants: the same queries for the same seed, the tiers in turn; nothing here is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from actors.core.types import Corpus, Query
from actors.retriever import Retriever

SAMPLES = 20
SHOWN_TOOLS = 3


class Samples:
    """``rows`` is what ``samples.json`` holds."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        """Draw them from the test queries."""
        self._titles = {tool_id: tool.title for tool_id, tool in corpus.catalog.by_id.items()}
        self.rows = [self._about(query) for query in drawn(corpus.select("test"), seed)]

    def add(self, arm: str, number: int | None, retriever: Retriever, rewrites: Mapping[str, Sequence[str]], weight: float) -> None:
        """What an arm (CoHyDE: a round of it) found for them. ``rewrites`` by query id, empty where the arm writes none."""
        queries = [sample["query"] for sample in self.rows]
        texts = [list(rewrites[sample["query_id"]]) for sample in self.rows] if rewrites else None
        raw = retriever.rank(queries, None, "raw", 0.0, SHOWN_TOOLS)
        fused = retriever.rank(queries, texts, "fused", weight, SHOWN_TOOLS) if texts else raw
        for place, sample in enumerate(self.rows):
            gold = {tool["tool_id"] for tool in sample["gold"]}
            shown = [
                [{"tool_id": t, "title": self._titles[t], "gold": t in gold} for t, _ in found[place]] for found in (raw, fused)
            ]
            if arm == "cohyde":
                text = texts[place][0] if texts else ""
                sample["rounds"].append({"round": number, "rewrite": text, "raw": shown[0], "fused": shown[1]})
            else:
                sample["frozen" if arm == "frozen" else "baseline"] = shown[0]

    def _about(self, query: Query) -> dict[str, Any]:
        gold = [{"tool_id": t, "title": self._titles[t]} for t in query.gold]
        about = {"query_id": query.query_id, "query": query.text, "tier": query.tier, "tools": query.novelty, "gold": gold}
        return {**about, "rounds": []}


def drawn(queries: Sequence[Query], seed: int) -> list[Query]:
    """Up to ``SAMPLES`` queries, vague tiers and standard in turn, the same ones for the same seed."""
    shuffled = [queries[i] for i in np.random.default_rng(seed).permutation(len(queries))]
    by_tier: dict[str, list[Query]] = {}
    for query in shuffled:
        by_tier.setdefault(query.tier, []).append(query)
    turns = [query for turn in zip(*(tier[:SAMPLES] for tier in by_tier.values()), strict=False) for query in turn]
    return turns[:SAMPLES]
