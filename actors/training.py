"""What both learners share: the learning-rate schedule, the loss curve, and the end of a run that diverged.

Invariants: a curve has one entry for each optimizer step; AdamW's moments carry over from trainer to trainer, its settings do not.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any, Literal

import torch
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from actors.interfaces import Progress

Precision = Literal["float32", "bfloat16"]

FLOOR = 0.1
"""The learning rate falls to this share of its peak."""


class TrainingDiverged(RuntimeError):
    """A loss or gradient was not finite."""


def schedule(steps: int) -> dict[str, Any]:
    """Arguments of every trainer: warm-up over a tenth of the steps, then a cosine to ``FLOOR``; logs each step, saves nothing."""
    return {
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": FLOOR},
        "warmup_steps": max(1, steps // 10),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


class LossCurve(TrainerCallback):
    """Keeps what each step logs, tells progress, and stops a run that diverged."""

    def __init__(self, steps: int, progress: Progress | None) -> None:
        """``steps`` is what progress counts up to."""
        self.logs: list[dict[str, float]] = []
        self._steps, self._progress = steps, progress

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """One step. Raises ``TrainingDiverged``."""
        if not logs or "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(float(logs.get(name, 0.0))):
                raise TrainingDiverged(
                    f"{name} is {logs[name]} at step {state.global_step} of {self._steps} (learning rate"
                    f" {args.learning_rate:g}); nothing was published; lower the learning rate"
                )
        self.logs.append({name: float(value) for name, value in logs.items()})
        if self._progress:
            self._progress(state.global_step, self._steps)

    def values(self, name: str) -> list[float]:
        """One figure of each step that logged it."""
        return [logs[name] for logs in self.logs if name in logs]


def check_finite(model: torch.nn.Module) -> None:
    """Raise ``TrainingDiverged`` where a weight is not finite: the last step's update shows in no loss."""
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise TrainingDiverged(f"{name} is not finite after the last step; nothing was published; lower the learning rate")


def summary(curve: LossCurve, seconds: float) -> dict[str, Any]:
    """{steps, loss_first, loss_last (means over a tenth of the steps), losses, seconds, step_s}."""
    losses = curve.values("loss")
    tenth = max(1, len(losses) // 10)
    return {
        "steps": len(losses),
        "loss_first": fmean(losses[:tenth]),
        "loss_last": fmean(losses[-tenth:]),
        "losses": [round(loss, 4) for loss in losses],
        "seconds": seconds,
        "step_s": seconds / len(losses),
    }


def resume_optimizer(trainer: Any, moments: dict[Any, Any]) -> None:
    """Make the optimizer of a transformers ``Trainer`` and let it go on from ``moments`` (a fresh one from ``{}``)."""
    trainer.create_optimizer()
    if moments:
        settings = trainer.optimizer.state_dict()["param_groups"]
        trainer.optimizer.load_state_dict({"state": moments, "param_groups": settings})


def moments_of(trainer: Any) -> dict[Any, Any]:
    """AdamW's moments, to be saved and resumed from."""
    moments: dict[Any, Any] = trainer.optimizer.state_dict()["state"]
    return moments
