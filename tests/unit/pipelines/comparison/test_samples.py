"""What the report shows of single queries."""

from __future__ import annotations

import numpy as np

from actors.core.types import Catalog, Corpus, Query, Tool
from actors.index import DenseIndex
from actors.retriever import Retriever
from pipelines.comparison.samples import Samples, drawn
from tests.fakes_retrieval import TableEncoder

QUERIES = tuple(
    Query(f"{tier}{n}", "ask", "vague" if tier else "standard", "test", {"b": 1}, tier or "standard")
    for tier in ("", "V1")
    for n in range(30)
)


def test_tiers_take_turns_and_a_seed_draws_the_same() -> None:
    chosen = drawn(QUERIES, 17)
    assert sorted(q.tier for q in chosen[:2]) == sorted(q.tier for q in chosen[2:4]) == ["V1", "standard"]
    assert (len(chosen), drawn(QUERIES, 17)) == (20, chosen)
    assert drawn(QUERIES, 18) != chosen


def test_a_round_shows_its_rewrite_and_what_was_found_with_and_without() -> None:
    tools = tuple(Tool(name, name, f"Title {name}", name, (), "", "") for name in "ab")
    dense = DenseIndex.build(["a", "b"], np.eye(2, dtype=np.float32), "exact")
    encoder = TableEncoder({"ask": [1.0, 0.0], "an entry": [0.0, 1.0]})
    retriever = Retriever(0, encoder, dense, Catalog(tools))
    samples = Samples(Corpus(Catalog(tools), QUERIES[:1]), 17)
    samples.add("frozen", None, retriever, {}, 0.0)
    samples.add("cohyde", 2, retriever, {"0": ["an entry"]}, 0.9)
    [row] = samples.rows
    assert [tool["tool_id"] for tool in row["frozen"]] == ["a", "b"]
    [shown] = row["rounds"]
    assert (shown["round"], shown["rewrite"]) == (2, "an entry")
    assert [tool["gold"] for tool in shown["raw"]] == [False, True]
    assert shown["fused"][0] == {"tool_id": "b", "title": "Title b", "gold": True}
