"""Indexes and the retriever, with hand-made vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from actors.core.fusion import Vectors
from actors.core.types import Catalog, Found, InputError, Tool
from actors.index import DenseIndex, familiar_from, read_about
from actors.interfaces import Progress
from actors.lexical import LexicalIndex
from actors.retriever import Retriever
from tests.fakes_retrieval import TableEncoder

IDS = ["east", "north", "west"]
TOOLS = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
ENTRIES = {"east?": [1.0, 0.0], "north?": [0.0, 1.0], "north-east?": [0.8, 0.6], "west!": [-1.0, 0.0]}


def _retriever(encoder: TableEncoder | None = None) -> Retriever:
    lexical = LexicalIndex(IDS, ["sunrise morning", "polar cold", "sunset evening"])
    return Retriever(0, encoder or TableEncoder(ENTRIES), DenseIndex.build(IDS, TOOLS, "exact"), lexical)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_dense_search_and_round_trip(kind: str, tmp_path: Path) -> None:
    index = DenseIndex.build(IDS, TOOLS, kind)  # type: ignore[arg-type]
    index.save(tmp_path / "new", {"catalog_hash": "abc"})
    for searched in (index, DenseIndex.load(tmp_path / "new")):
        ids, cosines = searched.search(np.array([[0.8, 0.6]], dtype=np.float32), 2)
        assert ids == [["east", "north"]]
        assert cosines[0] == pytest.approx([0.8, 0.6])
        assert searched.kind == kind
    assert read_about(tmp_path / "new")["catalog_hash"] == "abc"


@pytest.mark.parametrize("kind", ["exact", "half", "hnsw"])
def test_a_changed_index_finds_what_is_new_and_not_what_is_gone(kind: str) -> None:
    index = DenseIndex.build(IDS, TOOLS, kind)  # type: ignore[arg-type]
    query = np.array([[0.8, 0.6]], dtype=np.float32)
    gone = [IDS.index("west"), IDS.index("north")]
    other = index.changed(gone, ["west", "new"], np.array([[0.8, 0.6], [-1, 0]], dtype=np.float32))
    ids, cosines = other.search(query, 3)
    assert ids == [["west", "east", "new"]]
    assert cosines[0][:3] == pytest.approx([1.0, 0.8, -0.8], abs=1e-3)
    assert other.kind == kind
    assert other.search(query, 10)[0] == ids
    assert index.search(query, 2)[0] == [["east", "north"]]
    without = index.changed(gone, [], np.zeros((0, 2), dtype=np.float32))
    assert without.search(query, 2)[0] == [["east"]]


@pytest.mark.parametrize("kind", ["exact", "half", "hnsw"])
@pytest.mark.parametrize("k", [5, 2, 1])
def test_a_search_among_some_rows(kind: str, k: int) -> None:
    index = DenseIndex.build(IDS, TOOLS, kind)  # type: ignore[arg-type]
    rows = np.array([IDS.index("west"), IDS.index("north")])
    found = index.search_among(np.array([0.8, 0.6], dtype=np.float32), rows, k)
    assert [tool for tool, _ in found] == ["north", "west"][:k]
    assert found[0][1] == pytest.approx(0.6, abs=1e-3)


def test_numbers_of_16_bits_rank_as_the_exact_index_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(500, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact = DenseIndex.build([f"t{i}" for i in range(500)], vectors, "exact")
    exact.save(tmp_path)
    half = DenseIndex.load(tmp_path, half=True)
    assert half.kind == "half"
    assert half.vectors.dtype == np.float16
    assert np.abs(half.rows([3, 7]) - vectors[[3, 7]]).max() < 1e-3
    wanted, cosines = exact.search(vectors[:20], 5)
    found, others = half.search(vectors[:20], 5)
    assert [row[0] for row in found] == [row[0] for row in wanted]
    assert np.abs(cosines - others).max() < 1e-3
    some = np.arange(0, 500, 3)
    assert [t for t, _ in half.search_among(vectors[5], some, 3)] == [t for t, _ in exact.search_among(vectors[5], some, 3)]
    with pytest.raises(ValueError, match="is not kept"):
        half.save(tmp_path / "other")


def test_an_exact_index_holds_its_vectors_once() -> None:
    index = DenseIndex.build(IDS, TOOLS, "exact")
    assert not np.shares_memory(index.vectors, TOOLS)
    assert index.vectors.tolist() == TOOLS.tolist()


def test_a_retriever_follows_what_users_found_and_passes_over_what_the_catalog_does_not_have() -> None:
    retriever = _retriever()
    query = "north-east?"
    before = retriever.rank([query], None, "raw", 0.0, 3)
    last = before[0][-1][0]
    assert retriever.follow([Found("t", query, (last, "gone"))], 5.0) == 1
    assert retriever.rank([query], None, "raw", 0.0, 3)[0][0][0] == last
    assert retriever.follow([Found("t", query, (last,))], 0.0) == 0
    assert retriever.follow([], 5.0) == 0
    assert retriever.rank([query], None, "raw", 0.0, 3) == before


def test_dense_search_deeper_than_the_catalog() -> None:
    ids, cosines = DenseIndex.build(IDS, TOOLS, "exact").search(np.array([[1.0, 0.1]], dtype=np.float32), 10)
    assert ids == [["east", "north", "west"]]
    assert cosines.shape == (1, 3)


def test_ids_and_vectors_must_agree() -> None:
    with pytest.raises(ValueError, match="2 tool ids for 3 vectors"):
        DenseIndex.build(IDS[:2], TOOLS, "exact")


def test_loading_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no retriever"):
        DenseIndex.load(tmp_path)


def test_bm25_splits_identifiers_and_stems() -> None:
    index = LexicalIndex(["a", "b", "c"], ["CreateBucket", "get_current_weather", "DescribeDBInstances"])
    found = index.search(["creating buckets", "the weather", "db instance", "nothing known", "the"], 3)
    assert [[tool for tool, _ in ranking] for ranking in found] == [["a"], ["b"], ["c"], [], []]


def test_bm25_score_by_hand() -> None:
    # Lucene's BM25, N = 2, df = 1: idf = ln(1 + 1.5 / 1.5); tf part = 1 / (1 + 1.5 * (0.25 + 0.75 * 1)) at average length.
    [[(tool, score)]] = LexicalIndex(["a", "b"], ["alpha", "beta"]).search(["alpha"], 2)
    assert tool == "a"
    assert score == pytest.approx(np.log(2) / 2.5, rel=1e-5)


def _ids(rankings: list[list[tuple[str, float]]]) -> list[list[str]]:
    return [[tool for tool, _ in ranking] for ranking in rankings]


def test_each_mode_ranks_by_its_own_evidence() -> None:
    retriever = _retriever()
    queries, rewrites = ["north-east?"], [["west!"]]
    assert _ids(retriever.rank(queries, rewrites, "raw", 0.9, 3)) == [["east", "north", "west"]]
    assert _ids(retriever.rank(queries, rewrites, "rewrite", 0.0, 1)) == [["west"]]
    # 0.5 * (0.8, 0.6) + 0.5 * (-1, 0) = (-0.1, 0.3): north first, then west.
    fused = retriever.rank(queries, rewrites, "fused", 0.5, 3)
    assert _ids(fused) == [["north", "west", "east"]]
    assert fused[0][0][1] == pytest.approx(0.3 / np.hypot(0.1, 0.3))


def test_hybrid_joins_words_and_vectors() -> None:
    encoder = TableEncoder({"polar": [0.9, 0.1]})
    [ranking] = _retriever(encoder).rank(["polar"], None, "hybrid", 0.3, 2)
    # Dense: east, north; BM25: north.
    assert [tool for tool, _ in ranking] == ["north", "east"]
    assert ranking[0][1] == pytest.approx(1 / 62 + 1 / 61)


def test_rewrites_are_averaged_and_blank_ones_ignored() -> None:
    retriever = _retriever()
    means = retriever.mean_vectors([["east?", "north?"], ["", " "], ["west!", ""]])
    assert means.tolist() == [[0.5, 0.5], [0.0, 0.0], [-1.0, 0.0]]
    assert _ids(retriever.rank(["north?"], [[""]], "rewrite", 0.3, 1)) == [["north"]]


def test_rewrite_modes_need_rewrites() -> None:
    with pytest.raises(ValueError, match="needs rewrites"):
        _retriever().rank(["east?"], None, "fused", 0.3, 1)


def test_a_text_is_embedded_once() -> None:
    encoder = TableEncoder(ENTRIES)
    retriever = _retriever(encoder)
    retriever.rank(["east?", "east?"], [["west!"], ["west!"]], "fused", 0.3, 1)
    retriever.rank(["east?", "north?"], None, "raw", 0.3, 1)
    assert encoder.asked == ["east?", "west!", "north?"]


def test_no_queries_no_rankings() -> None:
    for mode in ("bm25", "raw", "fused", "hybrid"):
        assert _retriever().rank([], [], mode, 0.3, 5) == []  # type: ignore[arg-type]


class OtherEncoder(TableEncoder):
    """Stands in for ``Encoder`` where a retriever is loaded."""

    def __init__(self, *_: object) -> None:
        super().__init__({"Up. ": [0.0, 1.0], "Left. ": [-1.0, 0.0]})
        self.document_tokens = 128
        self.frozen: TableEncoder | None = None

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        return super().encode_documents([f"{text} " if not text.endswith(" ") else text for text in texts], progress)


def test_loading_over_another_catalog_embeds_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from configs.schema import Config

    monkeypatch.setattr("actors.retriever.Encoder", OtherEncoder)
    catalog = Catalog((Tool("up", "up", "Up", ""), Tool("left", "left", "Left", "")))
    about = {"catalog_hash": catalog.catalog_hash, "document_tokens": 128}
    DenseIndex.build(["up", "left"], TOOLS[:2], "exact").save(tmp_path, about)

    def load(over: Catalog) -> Retriever:
        return Retriever.load(tmp_path, Config(), over, version=4, precision="float32", threads=None)

    same = load(catalog)
    assert same.version == 4
    assert same.dense.vectors.tolist() == TOOLS[:2].tolist()
    other = load(Catalog(catalog.tools[::-1][:1]))
    assert (other.dense.tool_ids, other.dense.vectors.tolist()) == (["left"], [[-1.0, 0.0]])


def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Retriever:
    """Trained on a tool in the east, loaded over one near it and two that are not; the trained encoder turns all queries left."""
    from configs.schema import Config

    class Trained(TableEncoder):
        def __init__(self, *_: object) -> None:
            super().__init__({"east?": [1.0, 0.0], "north?": [-0.6, 0.8], "south?": [-0.6, -0.8], "up": [-0.28, 0.96]})
            self.document_tokens = 128
            self.frozen = TableEncoder({"north?": [0.8, 0.6], "south?": [0.0, -1.0], "up": [1.0, 0.0]})

    vectors = np.array([[0.96, 0.28], [0, 1], [-1, 0]], dtype=np.float32)
    monkeypatch.setattr("actors.retriever.Encoder", Trained)
    monkeypatch.setattr("actors.retriever.embed_catalog", lambda encoder, catalog, progress: (vectors, 3))
    about = {"catalog_hash": "other", "document_tokens": 128, "familiar_from": 0.9}
    DenseIndex.build(["e"], TOOLS[:1], "exact").save(tmp_path, about)
    catalog = Catalog(tuple(Tool(name, name, name, "") for name in IDS))
    return Retriever.load(tmp_path, Config(), catalog, version=4, precision="float32", threads=None)


def test_what_finds_an_unfamiliar_tool_first_is_the_frozen_encoder_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = strangers(tmp_path, monkeypatch)
    vectors, frozen = retriever.asked(["east?", "north?", "south?"])
    assert np.allclose(vectors, [[1, 0], [0.8, 0.6], [0, -1]])
    assert frozen.tolist() == [False, True, True]
    assert _ids(retriever.rank(["east?", "north?"], None, "raw", 0.0, 2)) == [["east", "north"], ["east", "north"]]
    assert _ids(retriever.trained().rank(["east?", "north?"], None, "raw", 0.0, 2)) == [["east", "north"], ["north", "west"]]
    rewritten = [["up"], ["up"]]
    assert _ids(retriever.rank(["east?", "north?"], rewritten, "rewrite", 0.0, 1)) == [["north"], ["east"]]
    assert _ids(retriever.rank(["north?"], [[" "]], "fused", 0.5, 1)) == [["east"]]
    assert retriever.asked([])[0].shape == (0, 2)


def test_a_retriever_that_cannot_tell_new_tools_apart_is_refused_in_one_line(tmp_path: Path) -> None:
    DenseIndex.build(["e"], TOOLS[:1], "exact").save(tmp_path, {})
    with pytest.raises(InputError, match=r"has no familiar_from.*train the run anew"):
        familiar_from(tmp_path)


def test_a_part_of_the_catalog_knows_what_is_unfamiliar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = strangers(tmp_path, monkeypatch).over(Catalog(tuple(Tool(name, name, name, "") for name in ("east", "west"))))
    assert part.asked(["south?", "east?"])[1].tolist() == [True, False]


def test_many_rows_are_scanned_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(50, 8)).astype(np.float32)
    index = DenseIndex.build([f"t{i}" for i in range(50)], vectors, "exact")
    queries = rng.normal(size=(21, 8)).astype(np.float32)
    monkeypatch.setattr("actors.index._PRODUCT_CELLS", 120)
    together = index.search(queries, 7)
    alone = [index.search(queries[i : i + 1], 7) for i in range(21)]
    assert together[0] == [ids[0] for ids, _ in alone]
    assert together[1] == pytest.approx(np.concatenate([cosines for _, cosines in alone]), abs=1e-5)
    assert [len(row) for row in index.search(queries, 60)[0]] == [50] * 21
