"""What labelled queries say of new ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from actors import found
from actors.core import fusion
from actors.core.fusion import Vectors
from actors.core.types import Catalog, Found, Query, Tool
from actors.index import DenseIndex
from actors.memory import Memory, labelled, recall, recall_all
from actors.retriever import Retriever
from tests.fakes_retrieval import TableEncoder

LABELS = [Found("", "rightwards", ("east", "north")), Found("", "ahead", ("north",)), Found("", "back", ("west",))]
TABLE = {"rightwards": [1.0, 0.0], "ahead": [0.8, 0.6], "back": [-1.0, 0.0], "q": [0.6, 0.8], "right now": [0.96, 0.28]}
TOOLS = {"east": [0.0, 1.0], "north": [0.0, -1.0], "west": [0.6, 0.8], "south": [0.28, 0.96]}


def embed(texts: Sequence[str]) -> Vectors:
    return np.array([TABLE[text] for text in texts], dtype=np.float32)


def retriever() -> Retriever:
    tools = tuple(Tool(name, name, name, name, (), "", "") for name in TOOLS)
    dense = DenseIndex.build(list(TOOLS), np.array(list(TOOLS.values()), dtype=np.float32), "exact")
    return Retriever(0, TableEncoder(TABLE), dense, Catalog(tools))


def test_a_tool_is_as_near_as_the_nearest_of_its_queries_and_never_negatively() -> None:
    [near] = Memory(LABELS, embed).near(embed(["q"]))
    assert near == pytest.approx({"north": 0.96, "east": 0.6})
    assert Memory([], lambda texts: np.zeros((0, 2), dtype=np.float32)).near(embed(["q"])) == [{}]


def test_what_was_asked_before_is_found_though_the_raw_ranking_lacks_it() -> None:
    [one] = recall_all(retriever(), Memory(LABELS, embed), ["right now"], 2)
    assert [tool for tool, _ in one.ranking] == ["west", "south"]
    assert one.ranked(0.0) == one.ranking
    assert one.ranked(2.0)[0] == ("east", pytest.approx(0.28 + 2 * 0.96))
    assert [tool for tool, _ in one.ranked(2.0)] == ["east", "north", "west", "south"]


def test_a_tool_that_may_not_be_found_is_not_recalled() -> None:
    one = recall([("west", 0.5)], {"east": 0.9, "north": 0.8}, lambda ids: [0.1] * len(ids), lambda tool: tool != "east")
    assert one.ranked(1.0) == [("north", pytest.approx(0.9)), ("west", 0.5)]


@pytest.mark.parametrize(("gold", "wanted"), [("east", True), ("south", False)])
def test_the_weight_is_0_where_dev_loses_by_it(gold: str, wanted: bool) -> None:
    dev = [Query(f"q{n}", "right now", "standard", "dev", {gold: 1}) for n in range(4)]
    own = recall_all(retriever(), Memory(LABELS, embed), [q.text for q in dev], 4)
    weight, figures = fusion.fit_order(dev, fusion.MEMORY_WEIGHTS, lambda i, w: own[i].ranked(w))
    assert bool(weight) is wanted
    assert set(figures) == {0.0, *fusion.MEMORY_WEIGHTS}


def test_labelled_queries_are_kept_apart_from_what_users_found(tmp_path: object) -> None:
    kept = labelled([Query("a", "rightwards", "standard", "train", {"east": 1, "north": 1})])
    found.publish(str(tmp_path), kept, found.LABELS)
    assert found.read(str(tmp_path), found.LABELS) == LABELS[:1]
    assert found.read(str(tmp_path)) == []
