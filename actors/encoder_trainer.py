"""The encoder as a learner: InfoNCE by the trainer of sentence-transformers, on batches that we make.

Invariants: the same state, rows, shares and seed give the same weights, whether or not the process was started anew in between
(weights, AdamW's moments and the frozen base's vectors are in the state); weights are float32 whatever the precision; a loss or
gradient that is not finite ends training with ``TrainingDiverged`` and nothing is saved.

Decisions. Dropout is off: with it, attention on a CPU takes a path that makes a step 15 % slower, and gradient caching would have
to replay it. The pull holds documents, not anchors: their base vectors are computed once and then looked up, 3 to 5 % of
training time; a frozen copy in each step would cost 30 %, and holding anchors would hold back what vague queries must learn.
The learning rate warms up over the first tenth of each call and falls to a tenth along a cosine: each published version is
annealed, in rounds and in small units alike, and no call depends on how many follow.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from transformers.trainer_callback import PrinterCallback

from actors.core.batches import BatchRow, EncoderRow, make_batches
from actors.core.types import Catalog
from actors.encoder import Encoder
from actors.interfaces import Progress
from actors.losses import AnchoredInfoNCE, CachedAnchoredInfoNCE
from actors.training import LossCurve, Precision, moments_of, resume_optimizer, schedule, summary
from configs.schema import EncoderConfig

OPTIMIZER_FILE = "optimizer.pt"
BASE_FILE = "base_vectors.npz"
ANCHOR, POSITIVE = "anchor", "positive"


class EncoderTrainer:
    """Owns the encoder's weights while it learns."""

    def __init__(
        self, config: EncoderConfig, catalog: Catalog, base_dir: Path, precision: Precision, threads: int | None = None
    ) -> None:
        """Start from the frozen model in ``base_dir``, which also is what the pull pulls towards."""
        if threads:
            torch.set_num_threads(threads)
        self._config, self._catalog, self._base_dir = config, catalog, base_dir
        self._precision, self._threads = precision, threads
        self._base: Encoder | None = None
        self.load(base_dir)

    def load(self, state_dir: Path) -> None:
        """Take a saved state; of a directory with weights alone (the base), a fresh optimizer."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = SentenceTransformer(
            str(state_dir), device=device, local_files_only=True, model_kwargs={"dtype": torch.float32}
        )
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        optimizer = state_dir / OPTIMIZER_FILE
        self._optimizer: dict[Any, Any] = torch.load(optimizer, weights_only=True) if optimizer.exists() else {}
        self._base_vectors: dict[str, NDArray[np.float32]] = {}
        if (state_dir / BASE_FILE).exists():
            with np.load(state_dir / BASE_FILE) as saved:
                self._base_vectors = dict(zip(saved["tool_ids"].tolist(), saved["vectors"], strict=True))

    def save(self, state_dir: Path) -> None:
        """Write a sentence-transformers directory, with the optimizer's state and the base vectors beside it."""
        self.model.save(str(state_dir), create_model_card=False)
        torch.save(self._optimizer, state_dir / OPTIMIZER_FILE)
        vectors = np.stack(list(self._base_vectors.values())) if self._base_vectors else np.zeros((0, 0), np.float32)
        np.savez(state_dir / BASE_FILE, tool_ids=np.array(list(self._base_vectors), dtype=str), vectors=vectors)

    def train(
        self,
        rows: Sequence[EncoderRow],
        shares: Mapping[str, float],
        steps: int,
        seed: int,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Train ``steps`` steps on ``rows``, groups mixed by ``shares``.

        Returns {steps, loss_first, loss_last, losses, seconds, step_s, base_s}. Raises ``TrainingDiverged``; ``InputError`` where
        the rows make no batch.
        """
        if steps == 0:
            return {"steps": 0}
        started = time.monotonic()
        config = self._config
        batches = make_batches(rows, shares, self._catalog, steps, config.pairs_per_step, config.mined_negatives, seed)
        base, label_of = self._base_matrix(batches)
        based = time.monotonic()
        curve = LossCurve(steps, progress)
        with tempfile.TemporaryDirectory(prefix="cohyde-") as scratch:
            trainer = self._trainer(batches, base, label_of, seed, Path(scratch), curve)
            resume_optimizer(trainer, self._optimizer)
            trainer.train()
            self._optimizer = moments_of(trainer)
            # Each trainer wraps the model's forward once more unless it is unwrapped.
            trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        return summary(curve, time.monotonic() - based) | {"base_s": based - started}

    def _base_matrix(self, batches: Sequence[Sequence[BatchRow]]) -> tuple[torch.Tensor, dict[str, int]]:
        """Base vectors of all positives, [n, d], and the row of each; empty where nothing is pulled."""
        positives = list(dict.fromkeys(row.tool_ids[0] for batch in batches for row in batch))
        if not self._config.anchor_weight:
            return torch.zeros(0, 1), dict.fromkeys(positives, 0)
        missing = [tool_id for tool_id in positives if tool_id not in self._base_vectors]
        if missing:
            self._base = self._base or Encoder(self._base_dir, self._config, self._precision, self._threads)
            texts = [self._catalog.by_id[tool_id].document for tool_id in missing]
            self._base_vectors |= dict(zip(missing, self._base.encode_documents(texts), strict=True))
        matrix = np.stack([self._base_vectors[tool_id] for tool_id in positives])
        return torch.from_numpy(matrix), {tool_id: i for i, tool_id in enumerate(positives)}

    def _trainer(
        self,
        batches: Sequence[Sequence[BatchRow]],
        base: torch.Tensor,
        label_of: Mapping[str, int],
        seed: int,
        scratch: Path,
        curve: LossCurve,
    ) -> SentenceTransformerTrainer:
        config = self._config
        arguments = SentenceTransformerTrainingArguments(
            output_dir=str(scratch),
            max_steps=len(batches),
            per_device_train_batch_size=config.pairs_per_step,
            batch_sampler=partial(_Prepared, sizes=[len(batch) for batch in batches]),
            learning_rate=config.learning_rate,
            **schedule(len(batches)),
            bf16=self._precision == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            seed=seed % 2**32,
        )
        scale = 1.0 / config.temperature
        loss: torch.nn.Module = AnchoredInfoNCE(self.model, scale, base, config.anchor_weight)
        if config.pairs_per_chunk:
            loss = CachedAnchoredInfoNCE(self.model, scale, base, config.anchor_weight, config.pairs_per_chunk)
        trainer = _Trainer(
            model=self.model,
            args=arguments,
            train_dataset=self._dataset([row for batch in batches for row in batch], label_of),
            loss=loss,
            data_collator=_Collator(
                self.model.preprocess, query_tokens=config.query_tokens, document_tokens=config.document_tokens
            ),
            callbacks=[curve],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _dataset(self, rows: Sequence[BatchRow], label_of: Mapping[str, int]) -> Dataset:
        """Columns in the order that the loss expects; any column more would be taken for a negative."""
        columns: dict[str, list[Any]] = {ANCHOR: [row.anchor for row in rows]}
        for place in range(len(rows[0].tool_ids)):
            name = f"negative_{place}" if place else POSITIVE
            columns[name] = [self._catalog.by_id[row.tool_ids[place]].document for row in rows]
        return Dataset.from_dict(columns | {"label": [label_of[row.tool_ids[0]] for row in rows]})


class _Trainer(SentenceTransformerTrainer):
    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No model card: making one reads the data again at each call."""


class _Prepared(DefaultBatchSampler):
    """The dataset's rows in their order, cut into batches of the given sizes."""

    def __init__(self, *args: Any, sizes: Sequence[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ends = np.cumsum(sizes)
        self._batches = [list(range(end - size, end)) for size, end in zip(sizes, ends.tolist(), strict=True)]

    def __iter__(self) -> Any:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class _Collator(SentenceTransformerDataCollator):
    """Cuts anchors and documents each at their own length."""

    def __init__(self, preprocess: Any, query_tokens: int, document_tokens: int) -> None:
        super().__init__(preprocess)
        self._tokens = {True: query_tokens, False: document_tokens}

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = {"label": torch.tensor([row["label"] for row in features])}
        for column in (name for name in features[0] if name != "label"):
            inputs = self.preprocess_fn([row[column] for row in features], max_length=self._tokens[column == ANCHOR])
            batch |= {f"{column}_{key}": value for key, value in inputs.items()}
        return batch
