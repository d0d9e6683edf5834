"""Units of the continual mode: cut from the query log, labelled queries mixed in.

Invariants: a unit that was cut is the same whenever it is asked for; which labelled queries it holds is a function of its seed.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Sequence

from actors.core.drift import Drift
from actors.core.joining import JoinLimits
from actors.core.replay import Example, ReplayLimits
from actors.core.types import Unit
from configs.schema import Config
from pipelines.online.intake import Intake, IntakeLimits
from pipelines.threads import in_thread
from pipelines.units import unit_seed

MEMORY_S = 86_400.0
"""How long a search is remembered for late outcomes, and an event for duplicates."""
CLOCK_SKEW_S = 300.0
"""An event further ahead of the reader's clock is refused."""
RESERVOIR_SIZE = 5_000
STOP_TIMEOUT_S = 5.0
WAITING = 20_000
"""Examples that wait for a unit at most."""

Admit = Callable[[int, Sequence[Example], Sequence[Example]], None]
"""Takes a unit's index, its examples and the reservoir, before the unit goes through the loop."""


def limits(config: Config) -> IntakeLimits:
    """What the configuration says about joining, mixing and cutting."""
    stream, size = config.stream, config.loop.queries_per_unit or 0
    of_log = size - round(size * stream.labelled_share)
    return IntakeLimits(
        JoinLimits(stream.join_window_s, MEMORY_S, CLOCK_SKEW_S),
        ReplayLimits(
            reservoir_share=stream.reservoir_share / (1 - stream.labelled_share),
            reservoir_size=RESERVOIR_SIZE,
            tenant_share=stream.tenant_share,
            per_query_tool=stream.per_query_tool,
            weight_clip=stream.weight_clip,
            waiting=WAITING,
        ),
        examples=of_log,
        least=min(stream.least_new, of_log),
        patience_s=stream.patience_s,
    )


class StreamUnits:
    """A ``UnitSource`` over an intake."""

    def __init__(
        self,
        intake: Intake,
        labelled: Sequence[str],
        config: Config,
        admit: Admit,
        hurry: Callable[[Drift], bool] = lambda drift: False,
    ) -> None:
        """``labelled``: ids of the labelled queries that may be mixed in; ``hurry`` as for ``Intake.unit``."""
        self.count: int | None = config.loop.units
        self._intake, self._labelled, self._admit, self._hurry = intake, sorted(labelled), admit, hurry
        self._seed, self._mixed_in = config.seed, round((config.loop.queries_per_unit or 0) * config.stream.labelled_share)
        self._wanted, self._reading = threading.Event(), threading.Lock()
        self._ahead: asyncio.Future[None] | None = None

    async def take(self, index: int) -> Unit:
        """Unit ``index``; waits for users. Raises ``CancelledError`` after ``stop``."""
        seed = unit_seed(index, self._seed)
        self._wanted.set()
        if self._ahead is not None:
            await self._ahead
        examples = await in_thread(lambda: self._cut(index, seed), "intake")
        if examples is None:
            raise asyncio.CancelledError
        self._admit(index, examples, self._intake.reservoir(index))
        self._wanted.clear()
        self._ahead = in_thread(self._read_ahead, "intake")
        labelled = random.Random(seed).sample(self._labelled, min(self._mixed_in, len(self._labelled)))
        return Unit(index, seed, (*(example.example_id for example in examples), *labelled))

    def stop(self) -> None:
        """End a ``take`` that waits, and wait until it did: a thread that meets the end of the cluster aborts the process."""
        self._intake.end()
        if self._reading.acquire(timeout=STOP_TIMEOUT_S):
            self._reading.release()

    def _cut(self, index: int, seed: int) -> list[Example] | None:
        with self._reading:
            return self._intake.unit(index, seed, self._hurry)

    def _read_ahead(self) -> None:
        with self._reading:
            self._intake.read_ahead(self._wanted.is_set)
