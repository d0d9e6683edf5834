"""Searching the catalog: by vectors (FAISS), by words (BM25), and both behind one ``Retriever`` with a version.

Invariants: encoder and index belong together and are loaded and swapped as one; the exact scan is the reference; rankings are best
first and hold a tool at most once; BM25 lists only tools that share a word with the query.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.core.fusion import Vectors, fuse, moved_tools, reciprocal_rank
from actors.core.types import Catalog, Found, InputError, Mode
from actors.encoder import Encoder
from actors.interfaces import Progress
from configs.schema import Config

ENCODER_DIR = "encoder"
_VECTORS = "vectors.npy"
_INDEX = "index.json"
_HNSW = "hnsw.faiss"
_HNSW_LINKS = 32
_HNSW_BREADTH = 128
_MEMO_TEXTS = 20_000
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")

Ranking = list[tuple[str, float]]


class TextEncoder(Protocol):
    """What a retriever needs of an encoder: unit float32 rows, [n, d]."""

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of queries or rewrites."""

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of tool documents."""


class DenseIndex:
    """Tool vectors [n, d] with a FAISS index over them; inner product, so cosine for unit vectors.

    ``vectors`` are what the tools' own texts say; a search meets those rows elsewhere that were moved.
    """

    def __init__(self, tool_ids: Sequence[str], vectors: Vectors, kind: Literal["exact", "hnsw"], graph: Any) -> None:
        """Use ``build`` or ``load``."""
        self.tool_ids = list(tool_ids)
        self.vectors = vectors
        self.kind = kind
        self._graph = graph
        self._moved: tuple[NDArray[np.int64], Vectors] | None = None

    def move(self, rows: NDArray[np.int64], vectors: Vectors) -> None:
        """From now on search ``rows`` by ``vectors`` [len(rows), d] and all others by their own; nothing is written."""
        self._moved = (rows, np.ascontiguousarray(vectors, dtype=np.float32)) if len(rows) else None

    @classmethod
    def build(cls, tool_ids: Sequence[str], vectors: Vectors, kind: Literal["exact", "hnsw"]) -> DenseIndex:
        """Index the rows of ``vectors`` under ``tool_ids``. Raises ValueError where their numbers differ."""
        import faiss

        if len(tool_ids) != len(vectors):
            raise ValueError(f"{len(tool_ids)} tool ids for {len(vectors)} vectors")
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        graph: Any
        if kind == "exact":
            graph = faiss.IndexFlatIP(vectors.shape[1])
        else:
            graph = faiss.IndexHNSWFlat(vectors.shape[1], _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efConstruction = graph.hnsw.efSearch = _HNSW_BREADTH
        graph.add(vectors)
        return cls(tool_ids, vectors, kind, graph)

    def search(self, vectors: Vectors, k: int) -> tuple[list[list[str]], Vectors]:
        """The ``min(k, tools)`` nearest tools of each row and their cosines [n, k], best first."""
        k = min(k, len(self.tool_ids))
        if k == 0 or len(vectors) == 0:
            return [[] for _ in range(len(vectors))], np.zeros((len(vectors), 0), dtype=np.float32)
        cosines, rows = self._nearest(np.ascontiguousarray(vectors, dtype=np.float32), k)
        # FAISS marks what it did not find with -1.
        return [[self.tool_ids[i] for i in row if i >= 0] for row in rows], cosines

    def _nearest(self, vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Cosines and rows of the ``k`` nearest tools: what FAISS finds among the unmoved, joined with all moved ones."""
        # Its type stubs do not know searches with parameters.
        faiss: Any = importlib.import_module("faiss")
        # Read once: another thread may move the tools meanwhile.
        now = self._moved
        if now is None:
            cosines, rows = self._graph.search(vectors, k)
            return cosines, rows
        moved, theirs = now
        unmoved = faiss.IDSelectorNot(faiss.IDSelectorBatch(moved))
        params = faiss.SearchParameters(sel=unmoved)
        if self.kind == "hnsw":
            params = faiss.SearchParametersHNSW(sel=unmoved, efSearch=_HNSW_BREADTH)
        cosines, rows = self._graph.search(vectors, k, params=params)
        cosines = np.concatenate([cosines, vectors @ theirs.T], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(moved, (len(vectors), len(moved)))], axis=1)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(cosines, best, axis=1), np.take_along_axis(rows, best, axis=1)

    def save(self, directory: Path, about: Mapping[str, Any] | None = None) -> None:
        """Write vectors, ids and, for hnsw, the graph; ``about`` is kept in ``index.json`` (catalog hash and the like)."""
        import faiss

        directory.mkdir(parents=True, exist_ok=True)
        np.save(directory / _VECTORS, self.vectors)
        if self.kind == "hnsw":
            faiss.write_index(self._graph, str(directory / _HNSW))
        record = {**(about or {}), "kind": self.kind, "tool_ids": self.tool_ids}
        (directory / _INDEX).write_text(json.dumps(record), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> DenseIndex:
        """What ``save`` wrote. Raises InputError where the directory holds no index."""
        import faiss

        about = read_about(directory)
        vectors = np.load(directory / _VECTORS)
        if about["kind"] == "exact":
            return cls.build(about["tool_ids"], vectors, "exact")
        return cls(about["tool_ids"], vectors, "hnsw", faiss.read_index(str(directory / _HNSW)))


def read_about(directory: Path) -> dict[str, Any]:
    """``index.json`` of a retriever's directory. Raises InputError where there is none."""
    path = directory / _INDEX
    if not path.is_file():
        raise InputError(f"{directory}: holds no retriever ({_INDEX} is missing); build the index anew")
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return about


class LexicalIndex:
    """BM25 (bm25s, k1 1.5, b 0.75) with English stop words and stemmer; identifiers are split into their words."""

    def __init__(self, tool_ids: Sequence[str], documents: Sequence[str]) -> None:
        """Index ``documents`` under ``tool_ids``."""
        import bm25s
        import Stemmer

        self.tool_ids = list(tool_ids)
        self._stemmer = Stemmer.Stemmer("english")
        self._bm25 = bm25s.BM25(k1=1.5, b=0.75)
        self._bm25.index(self._tokens(documents), show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """Up to ``k`` tools with a positive score for each query, best first."""
        k = min(k, len(self.tool_ids))
        if not queries or not k:
            return [[] for _ in queries]
        rows, scores = self._bm25.retrieve(self._tokens(queries), k=k, show_progress=False)
        return [
            [(self.tool_ids[i], float(score)) for i, score in zip(row, values, strict=True) if score > 0]
            for row, values in zip(rows, scores, strict=True)
        ]

    def _tokens(self, texts: Sequence[str]) -> Any:
        import bm25s

        split = [_CAMEL.sub(" ", text) for text in texts]
        return bm25s.tokenize(split, stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False)


class Retriever:
    """One encoder version and the index built with it; ranks the catalog for queries, with or without rewrites."""

    def __init__(self, version: int, encoder: TextEncoder, dense: DenseIndex, lexical: LexicalIndex | Catalog, rrf_k: int) -> None:
        """``lexical`` may be the catalog: then BM25 is indexed at its first use. ``rrf_k``: constant of ``hybrid``."""
        self.version = version
        self.encoder = encoder
        self.dense = dense
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
        rows = {tool_id: row for row, tool_id in enumerate(self.dense.tool_ids)}
        pairs = [(one, rows[tool_id]) for one in found for tool_id in one.tool_ids if tool_id in rows] if weight else []
        queries = self.vectors([one.query for one, _ in pairs])
        tenants = [one.tenant for one, _ in pairs]
        moved = moved_tools(self.dense.vectors, [row for _, row in pairs], queries, tenants, weight)
        self.dense.move(*moved)
        return len(moved[0])

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
