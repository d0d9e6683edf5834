"""The encoder as serving runs it: exported to ONNX, linear layers in 8-bit integers, tokenized in Rust.

Invariants: the export holds the whole of the sentence-transformers model, pooling included, and is checked against it before it is
used; rows are float32 of length 1, in the order of the texts; a text is cut at the configured number of tokens. Each text is run by
itself: on a CPU several at once take as long, padding comes on top, and activations are rounded with one scale a run, so a vector
would move with the texts beside it. torch is imported for the export alone.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.core.fusion import Vectors
from actors.core.types import InputError
from actors.interfaces import Progress
from configs.schema import EncoderConfig

_MODEL = "model.onnx"
_TOKENIZER = "tokenizer.json"
_ABOUT = "about.json"
_INPUT = "input_ids"
_PROBES = (
    "create a bucket",
    "My pictures take forever to load in Australia, and the people there complain.",
    "Lists the keys of an account. Parameters: account id, next token, max results.",
)
LEAST_COSINE = 0.95
"""Of each probe's vector by the export with that of the model itself; rounding to 8 bits costs 0.01 to 0.03."""


class OnnxEncoder:
    """What ``export`` wrote, run by ONNX Runtime."""

    def __init__(self, directory: Path, config: EncoderConfig, threads: int) -> None:
        """Load it. Raises InputError where the directory holds no export."""
        import onnxruntime
        from tokenizers import Tokenizer

        if not (directory / _MODEL).is_file():
            raise InputError(f"{directory}: holds no exported encoder ({_MODEL} is missing); delete it to have it made anew")
        about = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
        self._tokenizer = Tokenizer.from_file(str(directory / _TOKENIZER))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Threads that spin for work would take the cores from the other processes of a small machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(directory / _MODEL), options, providers=["CPUExecutionProvider"])
        self.dimension = int(about["dimension"])
        self.query_tokens = min(config.query_tokens, int(about["max_tokens"]))
        self.document_tokens = min(config.document_tokens, int(about["max_tokens"]))

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of queries or rewrites, [n, d]."""
        return self._encode(texts, self.query_tokens, progress)

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of tool documents, [n, d]."""
        return self._encode(texts, self.document_tokens, progress)

    def _encode(self, texts: Sequence[str], tokens: int, progress: Progress | None) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, encoding in enumerate(self._tokenizer.encode_batch(list(texts))):
            ids = np.array([self._cut(encoding.ids, tokens)], dtype=np.int64)
            found = self._session.run(None, {_INPUT: ids})[0][0]
            vectors[row] = found / max(float(np.linalg.norm(found)), 1e-12)
            if progress:
                progress(row + 1, len(texts))
        return vectors

    @staticmethod
    def _cut(ids: list[int], tokens: int) -> list[int]:
        """The last token is the model's end mark and stays."""
        return ids if len(ids) <= tokens else [*ids[: tokens - 1], ids[-1]]


def export(encoder_dir: Path, directory: Path, threads: int = 1) -> None:
    """Write the encoder in ``encoder_dir`` as ONNX into ``directory``.

    Raises InputError where the model has no fast tokenizer, RuntimeError where the export embeds otherwise than the model.
    """
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    # Plain attention: the fused one is not in every ONNX version.
    plain = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = SentenceTransformer(str(encoder_dir), device="cpu", local_files_only=True, model_kwargs=plain)
    model.eval()
    tokenizer: Any = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"encoder {encoder_dir}: its tokenizer has no {_TOKENIZER}; serving needs a fast one")
    directory.mkdir(parents=True, exist_ok=True)
    whole = directory / "float.onnx"
    _trace(model, whole)
    # By row: one scale for a whole matrix costs a tenth of the cosine.
    quantize_dynamic(whole, directory / _MODEL, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
    for part in directory.glob("float.onnx*"):
        part.unlink()
    tokenizer.backend_tokenizer.save(str(directory / _TOKENIZER))
    about = {
        "dimension": int(model.get_embedding_dimension() or 0),
        "max_tokens": int(model.max_seq_length or 512),
    }
    (directory / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    try:
        _check(model, OnnxEncoder(directory, EncoderConfig(), threads))
    except RuntimeError:
        shutil.rmtree(directory)
        raise


def _trace(model: Any, path: Path) -> None:
    """The model as a graph from the ids of one text, [1, tokens], to its vector, [1, d]."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any) -> Any:
            # One text is never padded.
            return self.model({"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)})["sentence_embedding"]

    sample = model.tokenizer([_PROBES[1]], return_tensors="pt")[_INPUT]
    with torch.inference_mode():
        torch.onnx.export(
            Whole().eval(),
            (sample,),
            str(path),
            input_names=[_INPUT],
            output_names=["vectors"],
            dynamic_axes={_INPUT: {1: "tokens"}},
            dynamo=False,
        )


def _check(model: Any, exported: OnnxEncoder) -> None:
    wanted = model.encode(list(_PROBES), normalize_embeddings=True, show_progress_bar=False)
    worst = float((wanted * exported.encode_queries(list(_PROBES))).sum(axis=1).min())
    if worst < LEAST_COSINE:
        raise RuntimeError(f"the exported encoder embeds otherwise than the model: cosine {worst:.3f} < {LEAST_COSINE}")


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
