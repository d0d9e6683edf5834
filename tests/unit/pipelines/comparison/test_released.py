"""A release's own orders over a catalog."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from actors.core.types import Catalog, InputError, Query, Tool
from actors.index import DenseIndex
from actors.retriever import Retriever
from actors.run_dir import OpenedRelease
from configs.schema import Config
from pipelines.comparison.released import reordered
from tests.fakes_retrieval import TableEncoder

CATALOG = Catalog((Tool("a", "get_a", "A", "Call get_c first."), Tool("b", "get_b", "B", ""), Tool("c", "get_c", "C", "")))
VECTORS = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], dtype=np.float32)
RELEASE = OpenedRelease("r", Config(), None, 0, 0, 0.0, named_follow=True)
ASKED = [Query("q", "ask", "standard", "test", {"a": 1})]


def ordered(mode: str, release: OpenedRelease) -> list[str]:
    dense = DenseIndex.build(["a", "b", "c"], VECTORS, "exact")
    retriever = Retriever(0, TableEncoder({"ask": [1.0, 0.0]}), dense, CATALOG)
    [ranking] = reordered(mode, "runs/r", release, CATALOG, retriever, ASKED, 3, lambda what: lambda done, total: None)  # type: ignore[arg-type]
    return [tool_id for tool_id, _ in ranking]


def test_named_tools_follow_where_the_release_says_so() -> None:
    assert ordered("named", RELEASE) == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("mode", "missing"), [("named", "no gain"), ("reranked", "no reranker"), ("remembered", "no labelled queries")]
)
def test_a_mode_that_dev_did_not_give_the_release_is_refused(mode: str, missing: str) -> None:
    with pytest.raises(InputError, match=f"--mode {mode}: .*{missing}.* use --mode raw"):
        ordered(mode, replace(RELEASE, named_follow=False))
