"""What is to be run: the units, the arm, and whether a run directory belongs to this run.

Invariants: a unit is a pure function of (index, seed, frozen query ids), so a restarted run meets the same units; the ids' order
in the input does not matter.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from actors.core.types import InputError, Unit
from configs.schema import Config, LoopConfig

CONFIG_FILE = "config.yaml"
"""The resolved configuration inside a run directory."""

OURS = ("logs", ".lock")
"""What stands in a run directory before its configuration does."""

FREE_FIELDS = ("run_dir", "placement.", "loop.stage_timeout_s", "loop.stall_timeout_s", "loop.max_failures")
"""Fields that may differ when a run is resumed: where and how patiently it runs, not what it computes."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One trained row of the comparison: the same loop, with a learner left out or not.

    Without ``train_encoder`` (QTA) the retriever stays at ``fixed_retriever``; without ``train_rewriter`` (encoder alone) nothing
    is generated or scored, and the encoder trains on queries only.
    """

    name: str
    train_encoder: bool = True
    train_rewriter: bool = True
    fixed_retriever: int = 0

    def __post_init__(self) -> None:
        """Refuse an arm that trains nothing."""
        if not (self.train_encoder or self.train_rewriter):
            raise ValueError(f"arm {self.name} trains nothing")


COHYDE = Arm("cohyde")
ENCODER_ALONE = Arm("encoder_alone", train_rewriter=False)
QTA = Arm("qta", train_encoder=False, fixed_retriever=-1)


def unit_seed(index: int, seed: int) -> int:
    """Seed of one unit: 31 bits of a hash, so that neighbouring units and runs share nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4], "big") >> 1


def make_unit(index: int, seed: int, query_ids: Iterable[str], queries_per_unit: int | None) -> Unit:
    """Unit ``index``: all ids (``queries_per_unit`` None, or more than there are) or the next of an endless run of shuffled epochs.

    An epoch holds each query at most once; what does not fill a last unit is left for the next epoch, which is shuffled anew.
    Raises ``ValueError`` where there are no ids.
    """
    ids = sorted(set(query_ids))
    if not ids:
        raise ValueError("a unit needs training queries; there are none")
    size = min(queries_per_unit or len(ids), len(ids))
    epoch, place = divmod(index, len(ids) // size)
    random.Random(f"{seed}/{epoch}").shuffle(ids)
    return Unit(index=index, seed=unit_seed(index, seed), query_ids=tuple(ids[place * size : (place + 1) * size]))


class Planned:
    """The units of a run over labelled queries: known from the start. A ``UnitSource``."""

    def __init__(self, loop: LoopConfig, seed: int, query_ids: Iterable[str]) -> None:
        """``query_ids`` in any order; units as ``make_unit`` makes them."""
        self.count: int | None = loop.units
        self._seed, self._ids, self._size = seed, list(query_ids), loop.queries_per_unit

    async def take(self, index: int) -> Unit:
        """Unit ``index``."""
        return make_unit(index, self._seed, self._ids, self._size)


def check_run_dir(run_dir: Path, config: Config) -> bool:
    """Whether ``run_dir`` holds an earlier part of this very run (then it is resumed); False where it is new or empty.

    Raises ``InputError`` where it holds the run of another config (naming the first fields that differ) or something else.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"run_dir={run_dir}: not a directory; choose another run_dir")
    saved_file = run_dir / CONFIG_FILE
    if not saved_file.exists():
        if run_dir.exists() and any(entry.name not in OURS for entry in run_dir.iterdir()):
            raise InputError(f"run_dir={run_dir}: not empty and not a run (no {CONFIG_FILE}); choose another run_dir")
        return False
    try:
        loaded = yaml.safe_load(saved_file.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"run_dir={run_dir}: {CONFIG_FILE} cannot be read; choose another run_dir") from error
    saved, wanted = _flat(loaded), _flat(config.model_dump(mode="json"))
    differing = [
        f"{name} is {saved.get(name)!r} there and {wanted.get(name)!r} here"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name) and not name.startswith(FREE_FIELDS)
    ]
    if differing:
        more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
        raise InputError(
            f"run_dir={run_dir} holds the run of another config: {'; '.join(differing[:3])}{more};"
            " choose another run_dir, or repeat the old settings to resume it"
        )
    return True


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat
