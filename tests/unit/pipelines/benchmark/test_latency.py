"""What a query takes and gives: amounts beside each other, in a table and a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.core.types import Catalog, Corpus, InputError, Query, Tool
from actors.index import DenseIndex
from actors.retriever import Retriever
from actors.run_dir import OpenedRelease
from configs.schema import Config
from pipelines.benchmark import latency
from pipelines.benchmark.latency import Bench, Spent
from tests.fakes_retrieval import TableEncoder

TOOLS = tuple(Tool(name, name, name, "") for name in ("east", "north"))
QUERIES = (
    Query("d", "up", "vague", "dev", {"north": 1}, "V1"),
    Query("s", "right", "standard", "test", {"east": 1}),
    Query("v", "up", "vague", "test", {"north": 1}, "V1"),
)


class Reader:
    """Half of the tools that it may read are liked: the one that the query asks for."""

    asked = 0

    def likelihoods(self, pairs: list[tuple[str, Tool]], progress: object = None) -> list[float]:
        Reader.asked += 1
        return [-1.0 if t.tool_id == {"up": "north", "right": "east"}[query] else -3.0 for query, t in pairs]


class Store:
    def manifest(self, kind: str, version: int) -> dict[str, str]:
        return {"published": "then"}


def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    config = Config()
    config = config.model_copy(update={"retrieval": config.retrieval.model_copy(update={"rerank_depth": 2})})
    corpus = Corpus(Catalog(TOOLS), QUERIES)
    # The vague query lies nearer to the wrong tool.
    encoder = TableEncoder({"up": [0.8, 0.6], "right": [1.0, 0.0]})
    dense = DenseIndex.build(["east", "north"], np.eye(2, dtype=np.float32), "exact")
    monkeypatch.setattr(latency.catalogs, "load", lambda *given: corpus)
    monkeypatch.setattr(latency.evaluate, "load_retriever", lambda *given: Retriever(0, encoder, dense, corpus.catalog))
    monkeypatch.setattr(latency.Likelihoods, "reranker", lambda self: Reader())
    release = OpenedRelease("round-1", config, Store(), 1, 1, 0.0)  # type: ignore[arg-type]
    return Bench(tmp_path, release, lambda what: lambda done, total: None)


def test_reading_costs_time_and_puts_the_right_tool_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(tmp_path, monkeypatch)
    raw = made.raw()
    assert raw.values == {"standard": 1.0, "vague": pytest.approx(1 / np.log2(3))}
    # One dev query has no standard error: its gain is taken.
    read, known = made.reranked(raw.milliseconds)
    assert (read.line, known.line, known.values) == ("tools read", "tools known", read.values)
    assert (read.amount, read.values) == (2, {"standard": 1.0, "vague": 1.0})
    assert read.milliseconds > raw.milliseconds > 0 and read.weight > 0


def test_the_table_has_a_line_for_each_amount_and_the_picture_a_panel_for_each_slice() -> None:
    values = {"standard": 0.5, "vague": 0.25}
    rows = [Spent("raw", 0, 9.0, 0.0, values), *(Spent("tools read", n, 1000.0 * n, 0.4, values) for n in (2, 4))]
    grid = latency.grid(rows)
    assert [label for label, _ in grid.lines] == ["raw", "tools read: 2", "tools read: 4"]
    assert [cell.text for cell in grid.lines[2][1]] == ["4,000", "0.4", "50.0", "25.0"]
    assert len(latency.curve(rows).axes) == 2


def test_a_finished_run_is_needed() -> None:
    with pytest.raises(InputError, match="RUN_DIR frozen"):
        latency.latency("frozen")
