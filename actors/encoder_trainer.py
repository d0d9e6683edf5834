"""The encoder as a learner: InfoNCE by the trainer of sentence-transformers, on batches that we make.

Invariants: the same state, rows, shares and seed give the same weights, whether or not the process was started anew in between
(weights, those that are published and those that are trained where the two differ, and AdamW's moments are the state); weights are
float32 whatever the precision; a loss or gradient that is not finite ends training with ``TrainingDiverged``.

Decisions. Dropout is off: with it, attention on a CPU takes a path that makes a step 15 % slower, and gradient caching would have
to replay it. Where queries alone learn, the base vectors of the whole catalog are the other side of each batch; rows of one tool
still never meet in one, so that no tool is asked for twice in a step. The pull holds documents, not anchors: their base vectors
are those of the frozen index, which is there already, so it costs nothing; a frozen copy in each step would cost 30 %, and holding
anchors would hold back what vague queries must learn. Rehearsal holds requests that have nothing to do with the catalog, a few a
step: without it an encoder forgets what other catalogs are asked for (docs/experiments.md, 26). The learning rate warms up over the
first tenth of each call and falls to a tenth along a cosine: each published version is annealed, in rounds and in small units
alike, and no call depends on how many follow. Where units are small, what is published may be a running mean of the weights (Polyak
and Juditsky, 1992), while training goes on from the last ones: a few noisy steps then move what is served by little.
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
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from transformers.trainer_callback import PrinterCallback

from actors.core.batches import BatchRow, EncoderRow, make_batches
from actors.core.types import Catalog
from actors.encoder import Encoder
from actors.index_builder import embed_catalog
from actors.interfaces import Progress
from actors.losses import AnchoredInfoNCE, CachedAnchoredInfoNCE, CatalogInfoNCE, Rehearsed
from actors.training import LossCurve, Precision, check_finite, moments_of, resume_optimizer, schedule, summary
from configs.schema import EncoderConfig

STATE_FILE = "training.pt"
ANCHOR, POSITIVE = "anchor", "positive"


class EncoderTrainer:
    """Owns the encoder's weights while it learns."""

    def __init__(
        self,
        config: EncoderConfig,
        catalog: Catalog,
        base_dir: Path,
        precision: Precision,
        threads: int | None = None,
        rehearsal: Sequence[str] = (),
    ) -> None:
        """Start from the frozen model in ``base_dir``, which also is what pulls pull towards; ``rehearsal``: texts of any kind."""
        if threads:
            torch.set_num_threads(threads)
        self._config, self._catalog, self._base_dir = config, catalog, base_dir
        self._precision, self._threads = precision, threads
        self._rehearsal = rehearsal if config.rehearsal_weight else ()
        self._row = {tool.tool_id: row for row, tool in enumerate(catalog.tools)}
        self._base: tuple[torch.Tensor, torch.Tensor] | None = None
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
        file = state_dir / STATE_FILE
        state: dict[str, Any] = torch.load(file, weights_only=True) if file.exists() else {}
        self._optimizer: dict[Any, Any] = state.get("moments", {})
        self._published = _copy(self.model)
        if "trained" in state:
            self.model.load_state_dict(state["trained"])

    def save(self, state_dir: Path) -> None:
        """Write what is published as a sentence-transformers directory, with what training goes on from beside it."""
        trained = _copy(self.model)
        self.model.load_state_dict(self._published)
        self.model.save(str(state_dir), create_model_card=False)
        self.model.load_state_dict(trained)
        differ = any(not torch.equal(trained[name], weights) for name, weights in self._published.items())
        torch.save({"moments": self._optimizer} | ({"trained": trained} if differ else {}), state_dir / STATE_FILE)

    def train(
        self,
        rows: Sequence[EncoderRow],
        shares: Mapping[str, float],
        steps: int,
        seed: int,
        progress: Progress | None = None,
        averaging: float = 0.0,
    ) -> dict[str, Any]:
        """Train ``steps`` steps on ``rows``; ``shares``: rows of each group in a batch, as shares of ``pairs_per_step``.

        What is published afterwards is ``averaging`` times what was, and the rest what was trained.
        Returns {steps, loss_first, loss_last, losses, seconds, step_s, base_s}. Raises ``TrainingDiverged``; ``InputError`` where
        the rows make no batch.
        """
        if steps == 0:
            return {"steps": 0}
        started = time.monotonic()
        config = self._config
        size = round(config.pairs_per_step * sum(shares.values()))
        batches = make_batches(rows, shares, self._catalog, steps, size, config.mined_negatives, seed)
        base, held = self._base_vectors()
        based = time.monotonic()
        curve = LossCurve(steps, progress)
        with tempfile.TemporaryDirectory(prefix="cohyde-") as scratch:
            trainer = self._trainer(batches, base, held, seed, Path(scratch), curve)
            resume_optimizer(trainer, self._optimizer)
            trainer.train()
            check_finite(self.model)
            self._optimizer = moments_of(trainer)
            # Each trainer wraps the model's forward once more unless it is unwrapped.
            trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        self._published = _mean(self._published, _copy(self.model), averaging)
        return summary(curve, time.monotonic() - based) | {"base_s": based - started}

    def _base_vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The frozen base's vectors, [n, d], of the tools, in the catalog's order, and of the rehearsal; empty where not needed."""
        if self._base is None:
            tools = held = np.zeros((0, 1), dtype=np.float32)
            of_tools = self._config.anchor_weight or self._config.sides == "queries"
            if of_tools or self._rehearsal:
                frozen = Encoder(self._base_dir, self._config, self._precision, self._threads)
                tools = embed_catalog(frozen, self._catalog)[0] if of_tools else tools
                held = frozen.encode_queries(self._rehearsal) if self._rehearsal else held
            self._base = torch.from_numpy(tools), torch.from_numpy(held)
        return self._base

    def _trainer(
        self,
        batches: Sequence[Sequence[BatchRow]],
        base: torch.Tensor,
        held: torch.Tensor,
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
        rows = [row for batch in batches for row in batch]
        loss = self._loss(rows, base)
        if len(held):
            loss = Rehearsed(loss, self.model, self._rehearsal, held, config, seed)
        trainer = _Trainer(
            model=self.model,
            args=arguments,
            train_dataset=self._dataset(rows),
            loss=loss,
            data_collator=_Collator(
                self.model.preprocess, query_tokens=config.query_tokens, document_tokens=config.document_tokens
            ),
            callbacks=[curve],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _loss(self, rows: Sequence[BatchRow], base: torch.Tensor) -> torch.nn.Module:
        config, scale = self._config, 1.0 / self._config.temperature
        if config.sides == "queries":
            positives = [self._row[row.tool_ids[0]] for row in rows]
            right = [self._catalog.never_negative([*row.gold, row.tool_ids[0]]) for row in rows]
            never = [
                [self._row[t] for t in tools if t in self._row and self._row[t] != own]
                for own, tools in zip(positives, right, strict=True)
            ]
            return CatalogInfoNCE(self.model, scale, base, torch.tensor(positives), never)
        if config.pairs_per_chunk:
            return CachedAnchoredInfoNCE(self.model, scale, base, config.anchor_weight, config.pairs_per_chunk)
        return AnchoredInfoNCE(self.model, scale, base, config.anchor_weight)

    def _dataset(self, rows: Sequence[BatchRow]) -> Dataset:
        """Columns in the order that the loss expects; any column more would be taken for a negative."""
        columns: dict[str, list[Any]] = {ANCHOR: [row.anchor for row in rows]}
        if self._config.sides == "queries":
            return Dataset.from_dict(columns | {"label": list(range(len(rows)))})
        for place in range(len(rows[0].tool_ids)):
            name = f"negative_{place}" if place else POSITIVE
            columns[name] = [self._catalog.by_id[row.tool_ids[place]].document for row in rows]
        return Dataset.from_dict(columns | {"label": [self._row[row.tool_ids[0]] for row in rows]})


def _copy(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weights.detach().clone() for name, weights in model.state_dict().items()}


def _mean(old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """``share`` of the old weights and the rest of the new; what is no weight (positions) is the new."""
    return {name: torch.lerp(w, old[name], share) if share and w.is_floating_point() else w for name, w in new.items()}


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
