"""Queries made of a catalog's own descriptions."""

from __future__ import annotations

import pytest

from actors.core.types import Catalog, Corpus, InputError, Query, Tool
from pipelines.catalogs import described

TOOLS = tuple(
    Tool(f"t{n}", f"T{n}", f"T{n}", f"Finds the film number {n} of a list. Then more.\nParameters:\n- x") for n in range(30)
)


def test_a_tool_s_first_sentence_asks_for_it_in_one_split() -> None:
    test = Query("q", "who made it", "standard", "test", {"t1": 1})
    bare = [
        Tool("p", "p", "p", "Parameters:\n- x (required) of some kind"),
        Tool("s", "s", "s", "Too short."),
        Tool("e", "e", "e", ""),
    ]
    corpus = described.with_described(Corpus(Catalog((*TOOLS, *bare)), (test,)))
    made = [q for q in corpus.queries if q.split != "test"]
    assert [(q.text, q.gold) for q in made] == [(f"Finds the film number {n} of a list.", {f"t{n}": 1}) for n in range(30)]
    assert 4 <= sum(q.split == "dev" for q in made) <= 16
    assert test in corpus.queries
    assert corpus == described.with_described(Corpus(corpus.catalog, (test,)))


def test_a_folder_with_labels_of_its_own_and_one_without_descriptions_are_refused() -> None:
    own = tuple(Query(split, "who made it", "standard", split, {"t1": 1}) for split in ("train", "dev"))
    with pytest.raises(InputError, match="training and dev queries of its own; leave -described out"):
        described.with_described(Corpus(Catalog(TOOLS), own))
    filled = described.with_described(Corpus(Catalog(TOOLS), own[:1]))
    assert [q.query_id for q in filled.queries if q.split == "train"] == ["train"]
    assert any(q.split == "dev" for q in filled.queries)
    with pytest.raises(InputError, match="0 tools are described"):
        described.with_described(Corpus(Catalog((Tool("e", "e", "e", ""),)), ()))
