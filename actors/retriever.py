"""Vectors and words (BM25) behind one ``Retriever`` with a version.

Invariants: encoder and index belong together and are loaded and swapped as one; rankings are best first and hold a tool at most
once; a query whose first tool is unfamiliar (``actors/core/familiarity.py``) is the frozen encoder's in every mode but bm25.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.core import familiarity
from actors.core.fusion import Vectors, fuse, moved_tools, reciprocal_rank
from actors.core.types import Catalog, Found, Mode
from actors.encoder import Encoder
from actors.index import ENCODER_DIR, DenseIndex, familiar_from, read_about
from actors.index_builder import embed_catalog
from actors.interfaces import Progress
from actors.lexical import LexicalIndex, Ranking
from configs.schema import Config

_MEMO_TEXTS = 20_000


class TextEncoder(Protocol):
    """What a retriever needs of an encoder: unit float32 rows, [n, d]."""

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of queries or rewrites."""

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of tool documents."""


class Embedder:
    """Query vectors of one encoder; a text that was embedded lately is not embedded again."""

    def __init__(self, encoder: TextEncoder) -> None:
        """Nothing is embedded yet."""
        self._encoder = encoder
        self._memo: dict[str, Vectors] = {}

    def __call__(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Unit rows, [n, d]; n is 1 at least."""
        missing = list(dict.fromkeys(t for t in texts if t not in self._memo))
        if missing:
            found = self._encoder.encode_queries(missing, progress)
            if len(self._memo) + len(missing) > _MEMO_TEXTS:
                self._memo = {t: self._memo[t] for t in texts if t in self._memo}
            self._memo.update(zip(missing, found, strict=True))
        return np.stack([self._memo[t] for t in texts])


@dataclass(frozen=True)
class Unfamiliar:
    """Tools of a catalog that are unlike those of the training, and the encoder whose queries they are."""

    tool_ids: frozenset[str]
    frozen: Embedder


class Retriever:
    """One encoder version and the index built with it; ranks the catalog for queries, with or without rewrites."""

    def __init__(
        self,
        version: int,
        encoder: TextEncoder,
        dense: DenseIndex,
        lexical: LexicalIndex | Catalog,
        unfamiliar: Unfamiliar | None = None,
    ) -> None:
        """``lexical`` may be the catalog: then BM25 is indexed at its first use."""
        self.version = version
        self.encoder = encoder
        self.dense = self._unmoved = dense
        self._lexical_source = lexical
        self._unfamiliar = unfamiliar
        self._embed = Embedder(encoder)

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
            return cls(version, encoder, DenseIndex.load(directory), catalog)
        ids, frozen, unfamiliar = [t.tool_id for t in catalog.tools], encoder.frozen, None
        if frozen is None:
            vectors = encoder.encode_documents([t.document for t in catalog.tools], progress)
        else:
            vectors, _ = embed_catalog(frozen, catalog, progress)
            trained = DenseIndex.load(directory)
            strange = familiarity.unfamiliar(vectors, trained.vectors, familiar_from(directory))
            unfamiliar = Unfamiliar(frozenset(ids[row] for row in np.flatnonzero(strange)), Embedder(frozen))
        return cls(version, encoder, DenseIndex.build(ids, vectors, config.encoder.index), catalog, unfamiliar)

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
        part = Retriever(self.version, self.encoder, dense, catalog, self._unfamiliar)
        part._embed = self._embed
        return part

    def trained(self) -> Retriever:
        """The same with all queries by its own encoder, whatever tools they find."""
        own = Retriever(self.version, self.encoder, self.dense, self._lexical_source)
        own._embed = self._embed
        return own

    def vectors(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Query vectors by this one's own encoder, [n, d]; a text that was embedded lately is not embedded again."""
        return self._embed(texts, progress) if texts else np.zeros((0, self.dense.vectors.shape[1]), dtype=np.float32)

    def asked(self, queries: Sequence[str]) -> tuple[Vectors, NDArray[np.bool_]]:
        """Vectors that queries are searched by, [n, d], and which of them are the frozen encoder's."""
        vectors, frozen = self.vectors(queries), np.zeros(len(queries), dtype=bool)
        if self._unfamiliar is not None and len(queries):
            first, _ = self.dense.search(vectors, 1)
            frozen = np.array([tool_id in self._unfamiliar.tool_ids for (tool_id,) in first])
            if frozen.any():
                vectors[frozen] = self._unfamiliar.frozen([query for query, own in zip(queries, frozen, strict=True) if own])
        return vectors, frozen

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
        return self._means(self._embed, rewrites, progress)

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
        vectors, frozen = self.asked(queries)
        if rewrites is not None and mode != "raw":
            means = self.mean_vectors(rewrites)
            if self._unfamiliar is not None and frozen.any():
                strange = [samples for samples, own in zip(rewrites, frozen, strict=True) if own]
                means[frozen] = self._means(self._unfamiliar.frozen, strange)
            vectors = fuse(vectors, means, 1.0 if mode == "rewrite" else fusion_weight)
        ids, cosines = self.dense.search(vectors, k)
        if mode != "hybrid":
            return [list(zip(row, map(float, values[: len(row)]), strict=True)) for row, values in zip(ids, cosines, strict=True)]
        by_words = [[tool_id for tool_id, _ in ranking] for ranking in self.lexical.search(queries, k)]
        return [reciprocal_rank(both)[:k] for both in zip(ids, by_words, strict=True)]

    def _means(self, embed: Embedder, rewrites: Sequence[Sequence[str]], progress: Progress | None = None) -> Vectors:
        usable = [[text for text in texts if text.strip()] for texts in rewrites]
        means = np.zeros((len(rewrites), self.dense.vectors.shape[1]), dtype=np.float32)
        if not any(usable):
            return means
        flat = embed([text for texts in usable for text in texts], progress)
        start = 0
        for row, texts in enumerate(usable):
            if texts:
                means[row] = flat[start : start + len(texts)].mean(axis=0)
            start += len(texts)
        return means


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
