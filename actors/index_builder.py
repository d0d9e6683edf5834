"""From an encoder and a catalog to a retriever's directory: encoder weights, tool vectors, ids, catalog hash.

Invariants: the directory is complete when ``build`` returns and is published by the caller; what the frozen base
encoder makes of a text is kept in the user's cache (``actors/kept_vectors.py``) and not made twice. Where queries alone were
trained, it says which tools of other catalogs are familiar (``actors/core/familiarity.py``).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from actors.core import familiarity
from actors.core.fusion import Vectors
from actors.core.types import Catalog, InputError
from actors.encoder import Encoder
from actors.index import ENCODER_DIR, DenseIndex
from actors.interfaces import Progress
from actors.kept_vectors import BaseVectors
from configs.schema import EncoderConfig


class IndexBuilder:
    """Embeds one catalog and builds its index; holds no model between two builds."""

    def __init__(
        self,
        config: EncoderConfig,
        catalog: Catalog,
        precision: Literal["float32", "bfloat16"],
        threads: int | None,
        base_dir: Path | None = None,
    ) -> None:
        """``precision`` and ``threads`` as for ``Encoder``; ``base_dir``: the frozen base, whose vectors are kept between runs.

        Raises InputError for an empty catalog.
        """
        if not catalog.tools:
            raise InputError("catalog: holds no tools; nothing can be indexed")
        self._config = config
        self._catalog = catalog
        self._base_dir = base_dir
        self._precision = precision
        self._threads = threads

    def build(self, encoder_dir: Path, out_dir: Path, progress: Progress | None = None) -> dict[str, Any]:
        """Write the retriever made of ``encoder_dir`` into ``out_dir``; return {tools, seconds, embedded}.

        Raises InputError for a directory without a model.
        """
        start = time.perf_counter()
        encoder = Encoder(encoder_dir, self._config, self._precision, self._threads)
        embedded, documents = len(self._catalog.tools), encoder.documents
        if documents.model_dir == self._base_dir:
            vectors, embedded = embed_catalog(documents, self._catalog, progress)
        else:
            vectors = encoder.encode_documents([tool.document for tool in self._catalog.tools], progress)
        encoder.save(out_dir / ENCODER_DIR)
        dense = DenseIndex.build([t.tool_id for t in self._catalog.tools], vectors, self._config.index)
        about = {"catalog_hash": self._catalog.catalog_hash, "document_tokens": encoder.document_tokens}
        if self._config.sides == "queries":
            about["familiar_from"] = familiarity.border(vectors, [tool.namespace for tool in self._catalog.tools])
        dense.save(out_dir, about)
        return {"tools": len(self._catalog.tools), "seconds": round(time.perf_counter() - start, 3), "embedded": embedded}


def embed_catalog(encoder: Encoder, catalog: Catalog, progress: Progress | None = None) -> tuple[Vectors, int]:
    """Tool vectors [n, d] in the catalog's order; and how many texts had to be embedded, the others being kept of earlier times."""
    kept = BaseVectors(encoder.model_dir, encoder.document_tokens, encoder.precision)
    return kept.of([tool.document for tool in catalog.tools], encoder.encode_documents, progress)
