"""Providers that training never meets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from actors.core.types import Catalog, Corpus, InputError, Query, Split, Tool
from pipelines.catalogs import providers


def corpus_of(names: Sequence[str]) -> Corpus:
    tools = tuple(Tool(f"{name}.run", "run", "Run", "Runs.", namespace=name) for name in names)
    splits: tuple[Split, ...] = ("train", "dev", "test")
    queries = [
        Query(f"{split} {tool.namespace}", "x", "vague", split, {tool.tool_id: 1}, "V1", novelty="" if split == "train" else "seen")
        for tool in tools
        for split in splits
    ]
    queries += [Query(f"sentence {tool.namespace}", "x", "sentence", "train", {tool.tool_id: 1}, "sentence") for tool in tools]
    return Corpus(Catalog(tools), tuple(queries))


def test_no_training_query_of_any_kind_has_a_tool_of_a_provider_held_out() -> None:
    corpus = corpus_of([f"p{n}" for n in range(20)])
    left, out = providers.hold_out(corpus, 0.15), providers.held_out(corpus.catalog, 0.15)
    assert len(out) == 3
    met = {tool_id.split(".")[0] for q in left.queries if q.split == "train" for tool_id in q.gold}
    assert met == {tool.namespace for tool in corpus.catalog.tools} - out
    new = {tool_id.split(".")[0] for q in left.queries if q.novelty == "new provider" for tool_id in q.gold}
    assert new == out
    assert {q.split for q in left.queries if q.novelty == "new provider"} == {"dev", "test"}
    assert left.catalog is corpus.catalog
    assert out < providers.held_out(corpus.catalog, 0.4)


def test_a_query_with_tools_of_old_and_new_providers_is_neither_trained_on_nor_called_new() -> None:
    corpus = corpus_of([f"p{n}" for n in range(20)])
    out = providers.held_out(corpus.catalog, 0.15)
    both = {f"{sorted(out)[0]}.run": 1, next(t.tool_id for t in corpus.catalog.tools if t.namespace not in out): 1}
    mixed = [Query("a", "x", "vague", "train", both), Query("b", "x", "vague", "test", both, novelty="unseen")]
    left = {q.query_id: q for q in providers.hold_out(Corpus(corpus.catalog, (*corpus.queries, *mixed)), 0.15).queries}
    assert "a" not in left
    assert left["b"].novelty == "unseen"


def test_nothing_is_held_out_by_default_and_one_provider_cannot_be() -> None:
    corpus = corpus_of(["only"])
    assert providers.hold_out(corpus, 0.0) is corpus
    with pytest.raises(InputError, match=r"catalog\.unseen_providers=0\.15: the tools have 1 namespace.*set it to 0"):
        providers.hold_out(corpus, 0.15)
