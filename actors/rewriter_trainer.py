"""The rewriter as a learner: SFT of all weights for the warm start, then DPO of an adapter, both by the trainers of TRL.

Invariants: the same base, adapter, rows and seed give the same weights, in a new process too (an adapter's directory holds AdamW's
moments); DPO's reference is always the warm start, that is, the adapter switched off; a directory is written only by training that
stayed finite (``TrainingDiverged`` otherwise); an adapter's directory is one that vLLM and peft load.

Rows of like length share a batch, because padding costs as much as text; which rows are trained does not depend on length.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import datasets
import torch
import trl.trainer.utils
from peft import LoraConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from actors.core.batches import by_length, most_telling
from actors.interfaces import Progress
from actors.training import LossCurve, Precision, check_finite, moments_of, resume_optimizer, schedule, summary
from configs.schema import RewriterConfig

OPTIMIZER_FILE = "optimizer.pt"
TEXTS_PER_CHUNK = 4
"""Texts that go through the model at once on a CPU: it is as fast as more, and activations of 16 take 4 GB. A pair is two texts."""
SHORT_TEXT = 512
"""Characters up to which twice as many texts take no more memory, and are faster."""


class RewriterTrainer:
    """Trains from directory to directory; holds no weights between calls."""

    def __init__(self, config: RewriterConfig, precision: Precision, threads: int | None = None) -> None:
        """``precision`` is that of the arithmetic; weights and moments are float32."""
        if threads:
            torch.set_num_threads(threads)
        datasets.disable_progress_bars()
        logging.disable_progress_bar()
        self._config, self._precision = config, precision

    def sft(
        self, base_dir: Path, rows: Sequence[tuple[str, str]], out_dir: Path, seed: int, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Train all weights once over ``rows`` (prompt, target) in their order; the loss is on the targets alone.

        Writes a Hugging Face directory. Returns {steps, loss_first, loss_last, losses, seconds, step_s, tokens_per_s,
        token_accuracy}; without rows the base is copied. Raises ``TrainingDiverged``.
        """
        model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(base_dir)
        metrics: dict[str, Any] = {"steps": 0}
        if rows:
            size = self._config.sft_rows_per_step
            batched = by_length(rows, size, lambda row: len(row[0]) + len(row[1]), seed)
            at_once = TEXTS_PER_CHUNK * (2 if max(len(p) + len(c) for p, c in rows) <= SHORT_TEXT else 1)
            curve = LossCurve(-(-len(rows) // size), progress)
            with tempfile.TemporaryDirectory(prefix="cohyde-") as scratch:
                arguments = SFTConfig(
                    **self._arguments(scratch, len(rows), size, at_once, self._config.sft_learning_rate, seed),
                    completion_only_loss=True,
                )
                data = datasets.Dataset.from_dict({"prompt": [r[0] for r in batched], "completion": [r[1] for r in batched]})
                trainer = SFTTrainer(model, args=arguments, train_dataset=data, processing_class=tokenizer, callbacks=[curve])
                metrics = _run(trainer, curve)
            metrics["token_accuracy"] = fmean(curve.values("mean_token_accuracy")[-10:])
        model.save_pretrained(out_dir)
        tokenizer.save_pretrained(out_dir)
        return metrics

    def dpo(
        self,
        base_dir: Path,
        adapter_dir: Path | None,
        pairs: Sequence[dict[str, Any]],
        out_dir: Path,
        seed: int,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Train the adapter in ``adapter_dir`` (a fresh one if None) on ``pairs`` of schema ``PAIRS``; at most one pass.

        Loss: DPO (2305.18290, equation 7) plus ``sft_weight`` times the negative log-likelihood of the chosen text. Where there
        are more pairs than steps take, those of the widest reward gap are taken. Without pairs the adapter is written as it was.
        Returns what ``sft`` does and {pairs, reward_margin_first, reward_margin_last, reward_accuracy}. Raises
        ``TrainingDiverged``.
        """
        config = self._config
        model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
        lora = LoraConfig(r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM")
        if not pairs:
            torch.manual_seed(seed)
            adapted = get_peft_model(model, lora)
            _continue_from(adapted, adapter_dir)
            _save_adapter(adapted, _moments(adapter_dir), out_dir)
            return {"steps": 0, "pairs": 0}
        taken = most_telling(pairs, config.dpo_steps_per_unit * config.pairs_per_step, seed)
        batched = by_length(taken, config.pairs_per_step, lambda p: len(p["prompt"]) + len(p["chosen"] + p["rejected"]) // 2, seed)
        curve = LossCurve(-(-len(taken) // config.pairs_per_step), progress)
        with tempfile.TemporaryDirectory(prefix="cohyde-") as scratch:
            arguments = DPOConfig(
                **self._arguments(scratch, len(taken), config.pairs_per_step, TEXTS_PER_CHUNK // 2, config.dpo_learning_rate, seed),
                beta=config.beta,
                loss_type=["sigmoid", "sft"],
                loss_weights=[1.0, config.sft_weight],
            )
            columns = {name: [pair[name] for pair in batched] for name in ("prompt", "chosen", "rejected")}
            # A base model with ``peft_config`` makes the adapter switched off the reference; a PeftModel would be copied as one.
            trainer = DPOTrainer(
                model,
                args=arguments,
                train_dataset=datasets.Dataset.from_dict(columns),
                processing_class=AutoTokenizer.from_pretrained(base_dir),
                peft_config=lora,
                callbacks=[curve],
            )
            _continue_from(trainer.model, adapter_dir)
            metrics = _run(trainer, curve, _moments(adapter_dir))
            adapted = trainer.accelerator.unwrap_model(trainer.model)
            _save_adapter(adapted, moments_of(trainer), out_dir)
        margins = curve.values("rewards/margins")
        tenth = max(1, len(margins) // 10)
        return metrics | {
            "pairs": len(taken),
            "reward_margin_first": fmean(margins[:tenth]),
            "reward_margin_last": fmean(margins[-tenth:]),
            "reward_accuracy": fmean(curve.values("rewards/accuracies")[-max(1, len(margins) // 2) :]),
        }

    def _arguments(self, scratch: str, rows: int, size: int, at_once: int, learning_rate: float, seed: int) -> dict[str, Any]:
        """What both of TRL's configurations share. Checkpointing and bfloat16 are on by default, even with ``use_cpu``."""
        gpu = torch.cuda.is_available()
        chunk = max(n for n in range(1, at_once + 1) if size % n == 0)
        return schedule(-(-rows // size)) | {
            "output_dir": scratch,
            "num_train_epochs": 1,
            "per_device_train_batch_size": size if gpu else chunk,
            "gradient_accumulation_steps": 1 if gpu else size // chunk,
            "learning_rate": learning_rate,
            "train_sampling_strategy": "sequential",
            "max_length": None,
            "bf16": self._precision == "bfloat16",
            "use_cpu": not gpu,
            "gradient_checkpointing": gpu,
            "seed": seed % 2**32,
        }


def _run(trainer: Any, curve: LossCurve, moments: dict[Any, Any] | None = None) -> dict[str, Any]:
    """Train, going on from ``moments``."""
    trainer.remove_callback(PrinterCallback)
    resume_optimizer(trainer, moments or {})
    started = time.monotonic()
    with _scoring_completions_only():
        trainer.train()
    check_finite(trainer.model)
    metrics = summary(curve, time.monotonic() - started)
    return metrics | {"tokens_per_s": curve.values("num_tokens")[-1] / metrics["seconds"]}


@contextlib.contextmanager
def _scoring_completions_only() -> Iterator[None]:
    """Have TRL compute logits only where there is a label.

    It does so with Triton; elsewhere it scores the prompt too, so that shapes never change. A CPU compiles nothing, and with
    49,000 words the prompt's logits are a third of a step.
    """
    original = trl.trainer.utils._use_triton
    trl.trainer.utils._use_triton = lambda device: True
    try:
        yield
    finally:
        trl.trainer.utils._use_triton = original


def _continue_from(model: Any, adapter_dir: Path | None) -> None:
    if adapter_dir is not None:
        set_peft_model_state_dict(model, load_peft_weights(str(adapter_dir), device="cpu"))


def _moments(adapter_dir: Path | None) -> dict[Any, Any]:
    """Moments of the run that made the adapter; none for a fresh one or one that was never trained."""
    if adapter_dir is None:
        return {}
    moments: dict[Any, Any] = torch.load(adapter_dir / OPTIMIZER_FILE, weights_only=True)
    return moments


def _save_adapter(model: Any, moments: dict[Any, Any], out_dir: Path) -> None:
    model.save_pretrained(out_dir, selected_adapters=["default"])
    torch.save(moments, out_dir / OPTIMIZER_FILE)
