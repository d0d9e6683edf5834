"""What serving's rounding costs in quality: nDCG@5 on dev queries, 8-bit encoder and 16-bit tool vectors beside the model itself.

Invariants: raw rankings of all labelled dev queries of the run's catalog; test queries are not looked at.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from actors.core.ranking import ndcg, paired_test
from actors.core.types import LABELLED_KINDS, Query
from actors.encoder import Encoder
from actors.index import DenseIndex
from actors.onnx_encoder import OnnxEncoder
from actors.retriever import TextEncoder
from pipelines import catalogs
from pipelines.speed.scan import EXPORT_TIMEOUT_S, Released


def measure(served: Released) -> dict[str, float]:
    """{queries, model, int8 (means, 0..1), delta_pp, p_value (paired)}."""
    corpus = catalogs.load(served.config.catalog, served.config.seed)
    queries = corpus.select("dev", LABELLED_KINDS)
    exact, half = (DenseIndex.build(served.tool_ids, np.load(served.vectors), kind) for kind in ("exact", "half"))
    model = _figures(Encoder(served.encoder_dir, served.config.encoder, "float32", None), exact, queries)
    with tempfile.TemporaryDirectory(prefix="cohyde-int8-") as scratch:
        exported = Path(scratch) / "onnx"
        command = [sys.executable, "-m", "actors.onnx_encoder", str(served.encoder_dir), str(exported)]
        subprocess.run(command, check=True, capture_output=True, timeout=EXPORT_TIMEOUT_S)
        int8 = _figures(OnnxEncoder(exported, served.config.encoder, 1), half, queries)
    difference, p_value = paired_test(int8, model)
    return {
        "queries": len(queries),
        "model": float(np.mean(model)),
        "int8": float(np.mean(int8)),
        "delta_pp": 100 * difference,
        "p_value": p_value,
    }


def _figures(encoder: TextEncoder, dense: DenseIndex, queries: list[Query]) -> list[float]:
    found, _ = dense.search(encoder.encode_queries([q.text for q in queries]), 5)
    return [ndcg(ids, query.gold, 5) for ids, query in zip(found, queries, strict=True)]
