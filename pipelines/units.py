"""What is to be run: the units and the arms.

Invariants: a unit is a pure function of (index, seed, frozen query ids), so a restarted run meets the same units; the ids' order
in the input does not matter.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from actors.core.types import Unit
from configs.schema import EncoderConfig, LoopConfig


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


def main_arm(config: EncoderConfig) -> Arm:
    """CoHyDE; without its encoder's training where that is frozen, which leaves QTA."""
    return replace(QTA, name=COHYDE.name) if config.frozen else COHYDE


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
