"""From an encoder and a catalog to a retriever's directory: encoder weights, tool vectors, ids, catalog hash.

Invariants: the directory is complete when ``build`` returns and is published by the caller; vectors of the frozen base encoder are
kept in the user's cache, keyed by weights, texts, token limit and precision, and written atomically.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from actors.core.fusion import Vectors
from actors.core.types import Catalog, InputError
from actors.encoder import Encoder
from actors.index import ENCODER_DIR, DenseIndex
from actors.interfaces import Progress
from actors.models import cache_dir
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
        """Write the retriever made of ``encoder_dir`` into ``out_dir``; return {tools, seconds, cached}.

        Raises InputError for a directory without a model.
        """
        start = time.perf_counter()
        encoder = Encoder(encoder_dir, self._config, self._precision, self._threads)
        cached, documents = False, encoder.documents
        if documents.model_dir == self._base_dir:
            vectors, cached = embed_catalog(documents, self._catalog, progress)
        else:
            vectors = _embed(encoder, self._catalog, progress)
        encoder.save(out_dir / ENCODER_DIR)
        dense = DenseIndex.build([t.tool_id for t in self._catalog.tools], vectors, self._config.index)
        about = {"catalog_hash": self._catalog.catalog_hash, "document_tokens": encoder.document_tokens}
        dense.save(out_dir, about)
        return {"tools": len(self._catalog.tools), "seconds": round(time.perf_counter() - start, 3), "cached": cached}


def embed_catalog(encoder: Encoder, catalog: Catalog, progress: Progress | None = None) -> tuple[Vectors, bool]:
    """Tool vectors [n, d] in the catalog's order, from the user's cache where it has them; and whether it had."""
    path = cache_dir() / "vectors" / f"{_key(encoder, catalog)}.npy"
    if path.is_file():
        found: Vectors = np.load(path)
        return found, True
    vectors = _embed(encoder, catalog, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(temporary, vectors)
    temporary.replace(path)
    return vectors, False


def _embed(encoder: Encoder, catalog: Catalog, progress: Progress | None) -> Vectors:
    return encoder.encode_documents([tool.document for tool in catalog.tools], progress)


def _key(encoder: Encoder, catalog: Catalog) -> str:
    digest = hashlib.sha256(f"{encoder.document_tokens} {encoder.precision}".encode())
    for weights in sorted(encoder.model_dir.rglob("*.safetensors")) or sorted(encoder.model_dir.rglob("*.bin")):
        digest.update(weights.read_bytes())
    for tool in catalog.tools:
        digest.update(tool.document.encode() + b"\0")
    return digest.hexdigest()[:24]
