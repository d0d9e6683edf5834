"""What each arm cost, read off a run's metrics and settings.

Invariants: counts are of work that was done, whichever process did it; what arms share (the warm start, the frozen index) is
counted for each that needs it, the reranker's training for each that is measured with it; seconds are of stages at work, so stages
side by side are counted one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from actors.core.batches import REHEARSED
from configs.schema import Config
from pipelines.comparison.compare import RERANKED

FROZEN_INDEX, WARM_INDEX = "index of the frozen encoder", "index of the warm-started encoder"
WARM_ENCODER, WARM_REWRITER = "warm start of the encoder", "warm start of the rewriter"
TRAIN_RERANKER = "training of the reranker"
SFT_RERANKED = "sft_reranked"
"""The reranker beside the frozen encoder: it needs no rewriter."""
_PHASES: dict[str, tuple[str, ...]] = {
    "frozen": (FROZEN_INDEX,),
    "encoder_alone": (FROZEN_INDEX, WARM_ENCODER, WARM_INDEX),
    "sft": (FROZEN_INDEX, WARM_REWRITER),
    "qta": (FROZEN_INDEX, WARM_REWRITER),
    "cohyde": (FROZEN_INDEX, WARM_ENCODER, WARM_INDEX, WARM_REWRITER),
}


@dataclass
class Cost:
    """Of one arm and one seed."""

    seconds: float = 0.0
    embedded: int = 0
    """Texts that the encoder embedded (one forward pass each)."""
    trained_pairs: int = 0
    """Pairs of query and tool that the encoder trained on (forward and backward pass of both)."""
    rehearsed: int = 0
    """Requests of any kind that the encoder rehearsed (forward and backward pass)."""
    generated_tokens: int = 0
    """Tokens that the rewriter wrote for training."""
    trained_rows: int = 0
    """Texts that the rewriter trained on (forward and backward pass; DPO's two of a pair count two)."""

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def costs(events: Iterable[Mapping[str, Any]], config: Config) -> dict[str, Cost]:
    """Arm -> its cost, for the arms that the metrics tell of."""
    phases: dict[str, Cost] = {}
    loops: dict[str, Cost] = {}
    for event in events:
        if event["event"] == "phase":
            phases[event["name"]] = _phase(event, config)
        elif event["event"] == "stage":
            arm = event["arm"]
            loops[arm] = loops.get(arm, Cost()) + _stage(event, config)
    found = {}
    for arm, needed in _PHASES.items():
        if needed[-1] in phases and (arm in loops or arm in ("frozen", "sft")):
            found[arm] = sum((phases[name] for name in needed if name in phases), loops.get(arm, Cost()))
    if reranker := phases.get(TRAIN_RERANKER):
        reads = {SFT_RERANKED: "frozen", RERANKED: "encoder_alone", "cohyde": "cohyde"}
        found |= {name: found[arm] + reranker for name, arm in reads.items() if arm in found}
    return found


def _phase(event: Mapping[str, Any], config: Config) -> Cost:
    name, steps = event["name"], int(event.get("steps", 0))
    cost = Cost(seconds=float(event["seconds"]))
    if name in (FROZEN_INDEX, WARM_INDEX):
        cost.embedded = int(event.get("embedded", event["tools"]))
    elif name == WARM_ENCODER:
        _encoder_steps(cost, steps, config)
    elif name in (WARM_REWRITER, TRAIN_RERANKER):
        cost.trained_rows = steps * config.rewriter.sft_rows_per_step
    return cost


def _stage(event: Mapping[str, Any], config: Config) -> Cost:
    stage, steps = event["stage"], int(event.get("steps", 0))
    cost = Cost(seconds=float(event["worked_s"]))
    if stage == "generate":
        cost.generated_tokens = int(event.get("tokens", 0))
    elif stage == "train_encoder":
        _encoder_steps(cost, steps, config)
    elif stage == "build_index":
        cost.embedded = int(event.get("embedded", event["tools"]))
    elif stage == "train_rewriter":
        cost.trained_rows = 2 * int(event.get("pairs", 0))
    return cost


def _encoder_steps(cost: Cost, steps: int, config: Config) -> None:
    cost.trained_pairs = steps * config.encoder.pairs_per_step
    cost.rehearsed = steps * REHEARSED if config.encoder.rehearsal_weight else 0
