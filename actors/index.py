"""Searching the catalog by vectors (FAISS).

Invariants: an index never changes; the exact scan is the reference; rankings are best first and hold a tool at most once.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from actors.core.fusion import Vectors, top
from actors.core.types import InputError
from actors.lexical import Ranking

ENCODER_DIR = "encoder"
_VECTORS = "vectors.npy"
_INDEX = "index.json"
_HNSW = "hnsw.faiss"
_HNSW_LINKS = 32
_HNSW_BREADTH = 128
_PRODUCT_FROM = 4
_PRODUCT_CELLS = 8_000_000
"""Numbers of a product at once: 32 MB."""

IndexKind = Literal["exact", "half", "hnsw"]
"""A scan of all; the same over numbers of 16 bits, as a scan of few rows takes as long as reading them; a graph."""


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


def familiar_from(directory: Path) -> float:
    """The border (``familiarity.border``) of a retriever whose queries alone were trained. Raises InputError where it has none."""
    about = read_about(directory)
    if "familiar_from" not in about:
        raise InputError(f"{directory}: {_INDEX} has no familiar_from, which tells new tools apart; train the run anew")
    return float(about["familiar_from"])
