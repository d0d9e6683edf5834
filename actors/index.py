"""Searching the catalog by vectors (FAISS), and vectors and words (BM25) behind one ``Retriever`` with a version.

Invariants: encoder and index belong together and are loaded and swapped as one; the exact scan is the reference; rankings are best
first and hold a tool at most once.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.core.fusion import Vectors, fuse, moved_tools, reciprocal_rank, top
from actors.core.types import Catalog, Found, InputError, Mode
from actors.encoder import Encoder
from actors.interfaces import Progress
from actors.lexical import LexicalIndex, Ranking
from configs.schema import Config

ENCODER_DIR = "encoder"
_VECTORS = "vectors.npy"
_INDEX = "index.json"
_HNSW = "hnsw.faiss"
_HNSW_LINKS = 32
_HNSW_BREADTH = 128
_MEMO_TEXTS = 20_000
_PRODUCT_FROM = 4
_PRODUCT_CELLS = 8_000_000
"""Numbers of a product at once: 32 MB."""

IndexKind = Literal["exact", "half", "hnsw"]
"""A scan of all; the same over numbers of 16 bits, as a scan of few rows takes as long as reading them; a graph."""


class TextEncoder(Protocol):
    """What a retriever needs of an encoder: unit float32 rows, [n, d]."""

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of queries or rewrites."""

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of tool documents."""


class DenseIndex:
    """Tool vectors [n, d] with a FAISS index over them, never changed; inner product, so cosine for unit vectors.

    ``vectors`` are float32, float16 for "half".
    """

    def __init__(self, tool_ids: Sequence[str], vectors: Vectors, kind: IndexKind, graph: Any) -> None:
        """Use ``build`` or ``load``."""
        self.tool_ids = list(tool_ids)
        self.vectors = vectors
        self.kind = kind
        self._graph = graph
        self._hidden: NDArray[np.int64] | None = None
        """Rows of the graph that a search passes over; rows of ``vectors`` behind the graph's last are looked at one by one."""

    @classmethod
    def build(cls, tool_ids: Sequence[str], vectors: Vectors, kind: IndexKind) -> DenseIndex:
        """Index the rows of ``vectors`` under ``tool_ids``. Raises ValueError where their numbers differ."""
        import faiss

        if len(tool_ids) != len(vectors):
            raise ValueError(f"{len(tool_ids)} tool ids for {len(vectors)} vectors")
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        graph: Any
        if kind == "exact":
            graph = faiss.IndexFlatIP(vectors.shape[1])
            graph.add(vectors)
            # One copy of the vectors: FAISS' own.
            vectors = _stored(graph.get_xb(), vectors.shape, np.float32)
        elif kind == "half":
            form = faiss.ScalarQuantizer.QT_fp16
            graph = faiss.IndexScalarQuantizer(vectors.shape[1], form, faiss.METRIC_INNER_PRODUCT)
            graph.add(vectors)
            vectors = _stored(graph.codes.data(), vectors.shape, np.float16)
        else:
            graph = faiss.IndexHNSWFlat(vectors.shape[1], _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efConstruction = graph.hnsw.efSearch = _HNSW_BREADTH
            graph.add(vectors)
        return cls(tool_ids, vectors, kind, graph)

    def changed(self, rows: Sequence[int], tool_ids: Sequence[str], vectors: Vectors) -> DenseIndex:
        """This index without ``rows`` and with ``tool_ids`` under ``vectors`` [m, d] at its end; this one stays as it is.

        A scanned index is made anew (a copy), a graph is shared: it is searched past ``rows``, and the new vectors one by one.
        Raises ValueError for an index that was itself made by this from a graph.
        """
        if self._hidden is not None:
            raise ValueError("an index over a shared graph cannot be changed again; change the one it was made from")
        vectors = np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1, self.vectors.shape[1])
        gone = np.array(sorted(rows), dtype=np.int64)
        if self.kind != "hnsw":
            kept = np.setdiff1d(np.arange(len(self.tool_ids)), gone)
            ids = [self.tool_ids[i] for i in kept] + list(tool_ids)
            return DenseIndex.build(ids, np.concatenate([self.vectors[kept], vectors]), self.kind)
        other = DenseIndex([*self.tool_ids, *tool_ids], np.concatenate([self.vectors, vectors]), "hnsw", self._graph)
        other._hidden = gone
        return other

    def search(self, vectors: Vectors, k: int) -> tuple[list[list[str]], Vectors]:
        """The ``min(k, tools)`` nearest tools of each row and their cosines [n, k], best first."""
        k = min(k, len(self.tool_ids))
        if k == 0 or len(vectors) == 0:
            return [[] for _ in range(len(vectors))], np.zeros((len(vectors), 0), dtype=np.float32)
        cosines, rows = self._nearest(np.ascontiguousarray(vectors, dtype=np.float32), k)
        # FAISS marks what it did not find with -1.
        return [[self.tool_ids[i] for i in row if i >= 0] for row in rows], cosines

    def search_among(self, vector: Vectors, rows: NDArray[np.int64], k: int) -> Ranking:
        """The ``k`` nearest tools of one vector [d] among ``rows``, exactly, best first."""
        if self.kind == "half" and len(rows) > k:
            # Making float32 of many rows would take longer than the search.
            faiss: Any = importlib.import_module("faiss")
            shown = np.zeros(len(self.tool_ids), dtype=bool)
            shown[rows] = True
            selector = faiss.IDSelectorBitmap(np.packbits(shown, bitorder="little"))
            found, places = self._graph.search(vector[None], k, params=faiss.SearchParameters(sel=selector))
            return [(self.tool_ids[i], float(cosine)) for i, cosine in zip(places[0], found[0], strict=True)]
        cosines = self.rows(rows) @ vector
        best = np.argsort(-cosines, kind="stable")[:k]
        return [(self.tool_ids[rows[i]], float(cosines[i])) for i in best]

    def rows(self, rows: Sequence[int] | NDArray[np.int64]) -> Vectors:
        """Some rows of ``vectors``, float32 [m, d]."""
        return self.vectors[rows].astype(np.float32, copy=False)

    def _nearest(self, vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Cosines and rows of the ``k`` nearest tools."""
        if self._hidden is None:
            if self.kind == "exact" and len(vectors) >= _PRODUCT_FROM:
                return self._by_product(vectors, k)
            cosines, rows = self._graph.search(vectors, k)
            return cosines, rows
        # Its type stubs do not know searches with parameters.
        faiss: Any = importlib.import_module("faiss")
        shown = faiss.IDSelectorNot(faiss.IDSelectorBatch(self._hidden))
        params = faiss.SearchParametersHNSW(sel=shown, efSearch=_HNSW_BREADTH)
        cosines, rows = self._graph.search(vectors, k, params=params)
        first = self._graph.ntotal
        more = np.arange(first, len(self.tool_ids), dtype=np.int64)
        cosines = np.concatenate([cosines, vectors @ self.vectors[first:].T], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(more, (len(vectors), len(more)))], axis=1)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(cosines, best, axis=1), np.take_along_axis(rows, best, axis=1)

    def _by_product(self, vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """The exact scan of several rows as matrix products: faster than FAISS' own for some rows and more."""
        cosines = np.empty((len(vectors), k), dtype=np.float32)
        rows = np.empty((len(vectors), k), dtype=np.int64)
        step = max(1, _PRODUCT_CELLS // len(self.tool_ids))
        for start in range(0, len(vectors), step):
            # This way round BLAS is twice as fast for few rows.
            products = np.ascontiguousarray((self.vectors @ vectors[start : start + step].T).T)
            rows[start : start + step] = top(products, k)
            cosines[start : start + step] = np.take_along_axis(products, rows[start : start + step], axis=1)
        return cosines, rows

    def save(self, directory: Path, about: Mapping[str, Any] | None = None) -> None:
        """Write vectors, ids and, for hnsw, the graph; ``about`` is kept in ``index.json`` (catalog hash and the like).

        Raises ValueError for kind "half", which is made of an exact one.
        """
        import faiss

        if self.kind == "half":
            raise ValueError("an index of kind half is not kept; keep the exact one that it was made of")

        directory.mkdir(parents=True, exist_ok=True)
        np.save(directory / _VECTORS, self.vectors)
        if self.kind == "hnsw":
            faiss.write_index(self._graph, str(directory / _HNSW))
        record = {**(about or {}), "kind": self.kind, "tool_ids": self.tool_ids}
        (directory / _INDEX).write_text(json.dumps(record), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, half: bool = False) -> DenseIndex:
        """What ``save`` wrote; ``half``: an exact index becomes one of kind "half".

        Raises InputError where the directory holds no index.
        """
        import faiss

        about = read_about(directory)
        vectors = np.load(directory / _VECTORS)
        if about["kind"] == "exact":
            return cls.build(about["tool_ids"], vectors, "half" if half else "exact")
        return cls(about["tool_ids"], vectors, "hnsw", faiss.read_index(str(directory / _HNSW)))


def _stored(start: Any, shape: tuple[int, ...], number: type[np.generic]) -> Vectors:
    """The vectors at ``start``, in an index's own memory, as an array over it; valid as long as the index is."""
    faiss: Any = importlib.import_module("faiss")
    count = int(np.prod(shape))
    if number is np.float16:
        # FAISS holds these as bytes.
        count *= 2
    found: Vectors = faiss.rev_swig_ptr(start, count).view(number).reshape(shape)
    return found


def read_about(directory: Path) -> dict[str, Any]:
    """``index.json`` of a retriever's directory. Raises InputError where there is none."""
    path = directory / _INDEX
    if not path.is_file():
        raise InputError(f"{directory}: holds no retriever ({_INDEX} is missing); build the index anew")
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return about


class Retriever:
    """One encoder version and the index built with it; ranks the catalog for queries, with or without rewrites."""

    def __init__(self, version: int, encoder: TextEncoder, dense: DenseIndex, lexical: LexicalIndex | Catalog, rrf_k: int) -> None:
        """``lexical`` may be the catalog: then BM25 is indexed at its first use. ``rrf_k``: constant of ``hybrid``."""
        self.version = version
        self.encoder = encoder
        self.dense = self._unmoved = dense
        self.rrf_k = rrf_k
        self._lexical_source = lexical
        self._memo: dict[str, Vectors] = {}

    @classmethod
    def load(
        cls,
        directory: Path,
        config: Config,
        catalog: Catalog,
        *,
        version: int,
        precision: Literal["float32", "bfloat16"],
        threads: int | None,
        progress: Progress | None = None,
    ) -> Retriever:
        """A published retriever over ``catalog``; where that is not the catalog it was built with, the tools are embedded anew.

        Raises InputError where the directory holds no retriever.
        """
        about = read_about(directory)
        encoder = Encoder(directory / ENCODER_DIR, config.encoder, precision, threads)
        if about.get("catalog_hash") == catalog.catalog_hash and about.get("document_tokens") == encoder.document_tokens:
            dense = DenseIndex.load(directory)
        else:
            vectors = encoder.encode_documents([t.document for t in catalog.tools], progress)
            dense = DenseIndex.build([t.tool_id for t in catalog.tools], vectors, config.encoder.index)
        return cls(version, encoder, dense, catalog, config.retrieval.rrf_k)

    @cached_property
    def lexical(self) -> LexicalIndex:
        """The BM25 side."""
        source = self._lexical_source
        if isinstance(source, Catalog):
            return LexicalIndex([t.tool_id for t in source.tools], [t.document for t in source.tools])
        return source

    def over(self, catalog: Catalog) -> Retriever:
        """The same encoder and vectors over a part of the catalog. Raises KeyError for a tool that this one does not have."""
        place = {tool_id: row for row, tool_id in enumerate(self.dense.tool_ids)}
        ids = [t.tool_id for t in catalog.tools]
        dense = DenseIndex.build(ids, self.dense.rows([place[t] for t in ids]), self.dense.kind)
        part = Retriever(self.version, self.encoder, dense, catalog, self.rrf_k)
        part._memo = self._memo
        return part

    def vectors(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Query vectors, [n, d]; a text that was embedded lately is not embedded again."""
        missing = list(dict.fromkeys(t for t in texts if t not in self._memo))
        if missing:
            found = self.encoder.encode_queries(missing, progress)
            if len(self._memo) + len(missing) > _MEMO_TEXTS:
                kept = {t: self._memo[t] for t in texts if t in self._memo}
                self._memo = kept
            self._memo.update(zip(missing, found, strict=True))
        if not texts:
            return np.zeros((0, self.dense.vectors.shape[1]), dtype=np.float32)
        return np.stack([self._memo[t] for t in texts])

    def follow(self, found: Sequence[Found], weight: float) -> int:
        """Move the tools that users found towards the queries they found them by, and all others back; return how many moved.

        ``weight`` as in ``fusion.moved_tools``. Tools that the catalog does not have are passed over.
        """
        own = self._unmoved
        place = {tool_id: row for row, tool_id in enumerate(own.tool_ids)}
        moved = moved_by(lambda tool_id: own.vectors[place[tool_id]] if tool_id in place else None, found, weight, self.vectors)
        ids = list(moved)
        self.dense = own.changed([place[t] for t in ids], ids, np.stack([moved[t] for t in ids])) if ids else own
        return len(ids)

    def mean_vectors(self, rewrites: Sequence[Sequence[str]], progress: Progress | None = None) -> Vectors:
        """Mean rewrite vector of each query, [n, d], not brought to length 1; zero where a query has no rewrite but blank ones."""
        usable = [[text for text in texts if text.strip()] for texts in rewrites]
        flat = self.vectors([text for texts in usable for text in texts], progress)
        means = np.zeros((len(rewrites), self.dense.vectors.shape[1]), dtype=np.float32)
        start = 0
        for row, texts in enumerate(usable):
            if texts:
                means[row] = flat[start : start + len(texts)].mean(axis=0)
            start += len(texts)
        return means

    def rank(self, queries: list[str], rewrites: list[list[str]] | None, mode: Mode, fusion_weight: float, k: int) -> list[Ranking]:
        """The first ``k`` tools of each query with their scores, best first.

        ``rewrite`` ranks by the mean rewrite vector, ``fused`` by its weighted sum with the query vector, ``hybrid`` joins
        ``fused`` and BM25 by reciprocal rank. A query without rewrites is ranked by its own vector; ``rewrite``
        and ``fused`` need the argument (ValueError).
        """
        if mode == "bm25":
            return self.lexical.search(queries, k)
        if rewrites is None and mode in ("rewrite", "fused"):
            raise ValueError(f"mode {mode} needs rewrites")
        vectors = self.vectors(queries)
        if rewrites is not None and mode != "raw":
            vectors = fuse(vectors, self.mean_vectors(rewrites), 1.0 if mode == "rewrite" else fusion_weight)
        ids, cosines = self.dense.search(vectors, k)
        if mode != "hybrid":
            return [list(zip(row, map(float, values[: len(row)]), strict=True)) for row, values in zip(ids, cosines, strict=True)]
        by_words = [[tool_id for tool_id, _ in ranking] for ranking in self.lexical.search(queries, k)]
        return [reciprocal_rank(both, self.rrf_k)[:k] for both in zip(ids, by_words, strict=True)]


def moved_by(
    vector_of: Callable[[str], Vectors | None], found: Sequence[Found], weight: float, embed: Callable[[Sequence[str]], Vectors]
) -> dict[str, Vectors]:
    """Tool id -> where a tool that users found is moved to (``fusion.moved_tools``).

    ``vector_of`` gives a tool's own vector, None where there is no such tool; ``embed`` embeds queries.
    """
    pairs = [(one, tool_id) for one in found for tool_id in one.tool_ids if vector_of(tool_id) is not None] if weight else []
    if not pairs:
        return {}
    ids = sorted({tool_id for _, tool_id in pairs})
    own = np.stack([vector for vector in map(vector_of, ids) if vector is not None])
    place = {tool_id: row for row, tool_id in enumerate(ids)}
    queries, tenants = embed([one.query for one, _ in pairs]), [one.tenant for one, _ in pairs]
    _, vectors = moved_tools(own, [place[tool_id] for _, tool_id in pairs], queries, tenants, weight)
    return dict(zip(ids, vectors, strict=True))
