"""The dense encoder at work: texts to unit vectors, fast on few cores.

Invariants: rows are float32 of length 1, in the order of the texts; weights stay float32 whatever the precision; a text is cut at
the configured number of tokens, never above the model's own maximum. Where ``encoder.sides`` is ``queries``, documents are embedded
by the base model, whichever model embeds queries: the catalog of the training cut as there, others (``frozen``) as the model is
published. torch is imported when an encoder is made, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from actors.core.fusion import Vectors
from actors.core.types import InputError
from actors.interfaces import Progress
from actors.models import resolve_encoder
from configs.schema import EncoderConfig

_BATCH = {"cpu": 32, "cuda": 256}
_TEXTS_PER_STEP = 512


class Encoder:
    """A sentence-transformers model that embeds queries and documents."""

    def __init__(
        self, model_dir: Path, config: EncoderConfig, precision: Literal["float32", "bfloat16"], threads: int | None
    ) -> None:
        """Load the model; ``threads`` None leaves torch's own number. Raises InputError where the directory holds no model."""
        if not (model_dir / "modules.json").is_file() and not (model_dir / "config.json").is_file():
            raise InputError(f"encoder.model={model_dir}: not a sentence-transformers directory (no modules.json); give one")
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        if threads:
            torch.set_num_threads(threads)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = SentenceTransformer(
            str(model_dir), device=self._device, local_files_only=True, model_kwargs={"dtype": torch.float32}
        )
        self._model.eval()
        self._bfloat16 = precision == "bfloat16"
        own = int(self._model.max_seq_length or 512)
        self.query_tokens = min(config.query_tokens, own)
        self.document_tokens = min(config.document_tokens, own)
        self.precision = precision
        self.model_dir = model_dir
        self._config, self._threads = config, threads
        self._documents: Encoder | None = None
        self._frozen: Encoder | None = None

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._model.get_embedding_dimension() or 0)

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of queries or rewrites, [n, d]."""
        return self._encode(texts, self.query_tokens, progress)

    @property
    def documents(self) -> Encoder:
        """The encoder of documents: this one, or the base model's."""
        if self._config.sides == "both" or (base := resolve_encoder(self._config.model)) == self.model_dir:
            return self
        if self._documents is None:
            self._documents = Encoder(base, self._config, self.precision, self._threads)
        return self._documents

    @property
    def frozen(self) -> Encoder | None:
        """The base model as it is published (float32, nothing cut) where it shares this one's index; None where this is all."""
        if self._config.sides == "both" or (base := resolve_encoder(self._config.model)) == self.model_dir:
            return None
        if self._frozen is None:
            self._frozen = Encoder(base, self._config.uncut(), "float32", self._threads)
        return self._frozen

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Vectors of tool documents, [n, d]."""
        return self.documents._encode(texts, self.document_tokens, progress)

    def save(self, directory: Path) -> None:
        """Write the model as a sentence-transformers directory, nothing else (no optimizer state)."""
        self._model.save(str(directory), create_model_card=False)

    def _encode(self, texts: Sequence[str], tokens: int, progress: Progress | None) -> Vectors:
        import torch

        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        # Longest first: batches of one length waste no padding, and the time left shown is never too short.
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        self._model.max_seq_length = tokens
        for start in range(0, len(order), _TEXTS_PER_STEP):
            part = order[start : start + _TEXTS_PER_STEP]
            with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=self._bfloat16):
                raw = self._model.encode(
                    [texts[i] for i in part],
                    batch_size=_BATCH[self._device],
                    convert_to_tensor=True,
                    show_progress_bar=False,
                )
            vectors[part] = torch.nn.functional.normalize(raw.float(), dim=-1).cpu().numpy()
            if progress:
                progress(start + len(part), len(order))
        return vectors
