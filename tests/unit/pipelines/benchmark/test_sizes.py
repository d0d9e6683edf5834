"""Catalogs of growing size: nested, with every right tool; the table and the picture of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from actors.core.types import Catalog, Corpus, InputError, Query, Tool
from actors.index import DenseIndex
from actors.retriever import Retriever
from pipelines.benchmark import sizes, tables
from pipelines.benchmark.aggregate import Line
from tests.fakes_retrieval import TableEncoder

NAMES = [f"t{i}" for i in range(8)]
TABLE = {f"tool {name}": [1.0, 0.1 * i] for i, name in enumerate(NAMES)} | {"which": [0.1, 1.0]}
CORPUS = Corpus(
    Catalog(tuple(Tool(name, name, name, "", ready_document=f"tool {name}") for name in NAMES)),
    (Query("q", "which", "standard", "test", {"t5": 1}), Query("v", "which", "vague", "test", {"t1": 1}, tier="V1")),
)


def test_a_larger_catalog_holds_the_smaller_one_and_all_right_tools() -> None:
    drawn = [{t.tool_id for t in sizes.catalog_of(CORPUS, CORPUS.queries, size).tools} for size in (2, 4, 7, 20)]
    assert [len(ids) for ids in drawn] == [2, 4, 7, 8]
    assert {"t1", "t5"} == drawn[0]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(drawn))
    with pytest.raises(InputError, match="--sizes 1: the test queries have 2 right tools"):
        sizes.catalog_of(CORPUS, CORPUS.queries, 1)


def test_each_line_is_measured_on_each_size() -> None:
    encoder = TableEncoder(TABLE)
    vectors = encoder.encode_documents([t.document for t in CORPUS.catalog.tools])
    retriever = Retriever(0, encoder, DenseIndex.build(NAMES, vectors, "exact"), CORPUS.catalog)
    rows = sizes.measure(CORPUS, list(CORPUS.queries), [2, 8], {Line("frozen", -1, "raw"): (retriever, None, 0.0)})
    by_place = {(p.line, p.slice, p.place): p.value for p in rows}
    # Of two tools the steeper is first; of eight, two more are steeper than t5.
    assert by_place["frozen encoder, raw", "standard", "2"] == 1.0
    assert by_place["frozen encoder, raw", "standard", "8"] == pytest.approx(1 / np.log2(4))
    grid = tables.points(rows, "by size")
    slices = ("standard (1)", "V1 (1)")
    assert [name for name, _ in grid.lines] == [
        f"{slice_}: {line}" for slice_ in slices for line in ("BM25", "frozen encoder, raw")
    ]
    assert grid.columns == (("2", ""), ("8", ""))
    assert len(tables.points_curve(rows, "tools").axes) == 2
