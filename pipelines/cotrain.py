"""The co-training loop: one coroutine for each stage, over the ``Stages`` Protocol. Imports no ray.

A stage may start unit ``u`` as soon as the version it needs, less an allowed lag, is published. ``rounds`` is this loop with both
lags 0 and one unit that holds every query; ``continual`` is this loop with small units and lags.

``take(u)``
    asks the source for the unit once the rewriter may generate for it; the one wait without a deadline: users may be silent.
``generate(u)``
    consumes the unit's queries; produces rewrites(u); waits for rewriter >= u - ``max_rewriter_lag``; unblocked by
    ``train_rewriter``.
``train_encoder(u)``
    consumes rewrites(u), or queries alone where the arm has no rewriter; produces encoder u + 1; waits for rewrites(u) and for
    retriever >= u - ``max_rewriter_lag``, which gives hard negatives; unblocked by ``generate`` and ``build_index``.
``build_index(u)``
    consumes encoder u + 1; produces retriever u + 1; waits for encoder u + 1; unblocked by ``train_encoder``, which meanwhile goes
    on with the next unit where the lag allows it.
``score(u)``
    consumes rewrites(u); produces scored(u) and pairs(u); waits for rewrites(u) and for retriever >= u + 1 -
    ``max_retriever_lag``, or for the fixed one where the arm trains no encoder; unblocked by ``generate`` and ``build_index``.
``train_rewriter(u)``
    consumes pairs(u); produces rewriter u + 1; waits for pairs(u); unblocked by ``score``.
``judge(u)`` (where there is a gate)
    consumes rewriter u + 1 and retriever u + 1; produces a candidate release and what the gate said of it; waits for both;
    unblocked by ``build_index`` and ``train_rewriter``. A gate that is slower than training judges the newest pair and passes
    over those between.
``watchdog``
    consumes ``Stages.progress``; produces nothing; waits for the clock; ended by the end of the others.

Invariants: each loop takes the units in order; a version or dataset is announced only after its stage returned, that is, after it
was published; the lag bound is asserted where a record is consumed; the first failure ends all loops with its own traceback; every
other wait has a deadline that says what it waits for. Resuming starts each learner at its own newest version.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from actors.core.lag import Gate, WaitTimeout, check_lag, needed_retriever, needed_rewriter
from actors.core.types import Unit
from actors.interfaces import Stages, UnitSource
from configs.schema import LoopConfig
from pipelines.units import COHYDE, Arm

STAGES_IN_A_ROW = 5
"""A gate opens at the latest after this many stages one behind the other, so its deadline is that many stage deadlines."""

CANCEL_TIMEOUT_S = 10.0
"""How long the other loops may take to end once one failed."""

OnEvent = Callable[[dict[str, Any]], None]
"""Takes one event: ``event`` is "started", "stage" (one stage of one unit ended) or "ended"; every event names the arm."""


class StallError(RuntimeError):
    """No stage made progress for ``stall_timeout_s``."""


async def run(
    stages: Stages, units: UnitSource, config: LoopConfig, on_event: OnEvent, arm: Arm = COHYDE, gate: bool = False
) -> None:
    """Run all units that are not trained yet; return when every learner of the arm published the last version.

    ``gate``: the pair of each version is judged too.

    Each "stage" event carries unit, worked_s, waited_s, lag where records are consumed, and what the stage returned.
    Raises what the first failing stage raised; ``WaitTimeout`` for a deadline; ``StallError``; ``AssertionError`` for a broken
    lag bound.
    """
    rewriter, retriever = await stages.latest()
    if (arm.train_rewriter and rewriter < 0) or (arm.train_encoder and retriever < 0):
        raise ValueError(f"arm {arm.name}: publish version 0 (the warm start) before the loop")
    loop = _Loop(stages, units, config, on_event, arm, gate, rewriter, retriever)
    on_event({"event": "started", "arm": arm.name, "rewriter_version": rewriter, "retriever_version": retriever})
    started = time.monotonic()
    await _until_first_failure(loop.loops(), loop.watchdog())
    rewriter, retriever = await stages.latest()
    ended = {"event": "ended", "arm": arm.name, "rewriter_version": rewriter, "retriever_version": retriever}
    on_event({**ended, "seconds": time.monotonic() - started})


async def _until_first_failure(loops: dict[str, Awaitable[None]], watchdog: Awaitable[None]) -> None:
    """Wait for all loops; the first exception cancels the others and is raised as it is, not in a group."""
    tasks = [asyncio.ensure_future(loop) for loop in loops.values()]
    guard = asyncio.ensure_future(watchdog)
    try:
        pending: set[asyncio.Future[None]] = set(tasks)
        while pending:
            done, pending = await asyncio.wait({*pending, guard}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            pending.discard(guard)
    finally:
        for task in [*tasks, guard]:
            task.cancel()
        await asyncio.wait([*tasks, guard], timeout=CANCEL_TIMEOUT_S)


class _Loop:
    """State of one run: what is published, and which stage works on what since when."""

    def __init__(
        self,
        stages: Stages,
        units: UnitSource,
        config: LoopConfig,
        on_event: OnEvent,
        arm: Arm,
        gate: bool,
        rewriter: int,
        retriever: int,
    ) -> None:
        self.stages, self.units, self.config, self.on_event, self.arm, self.gate = stages, units, config, on_event, arm, gate
        self.trained_rewriter, self.trained_retriever = rewriter, retriever
        first = min(v for v, on in ((rewriter, arm.train_rewriter), (retriever, arm.train_encoder)) if on)
        self.first_generated = first
        self.admitted = Gate("units", first - 1)
        self.taken: dict[int, Unit] = {}
        self.starving = False
        self.rewriter = Gate("rewriter", rewriter)
        self.encoder = Gate("encoder", retriever)
        self.retriever = Gate("retriever", retriever)
        self.rewrites = Gate("rewrites", first - 1)
        self.pairs = Gate("pairs", rewriter - 1)
        self.rewriter_lags: dict[int, int] = {}
        self.working: dict[str, tuple[int, float]] = {}
        self.stages_done = 0

    def loops(self) -> dict[str, Awaitable[None]]:
        """The loops that the arm has."""
        loops: dict[str, Awaitable[None]] = {"take": self.take()}
        if self.arm.train_rewriter:
            loops |= {"generate": self.generate(), "score": self.score(), "train_rewriter": self.train_rewriter()}
        if self.arm.train_encoder:
            loops |= {"train_encoder": self.train_encoder(), "build_index": self.build_index()}
        if self.gate:
            loops["judge"] = self.judge()
        return loops

    async def take(self) -> None:
        for index in self._from(self.first_generated):
            if self.arm.train_rewriter:
                # A unit is cut as late as it may be generated for: of all that has come until then.
                needed = needed_rewriter(index, self.config.max_rewriter_lag)
                await self._wait(self.rewriter, needed, f"unit {index}")
            self.starving = True
            self.taken[index] = await self.units.take(index)
            self.starving = False
            if self.units.count is None:
                # Pacing keeps fewer units than this in flight; an endless run must not hold all it ever had.
                self.taken.pop(index - self.config.max_rewriter_lag - self.config.max_retriever_lag - 2, None)
            await self.admitted.publish(index)

    async def generate(self) -> None:
        for index in self._from(self.first_generated):
            start = time.monotonic()
            unit = await self._unit(index)
            needed = needed_rewriter(unit.index, self.config.max_rewriter_lag)
            version = await self._wait(self.rewriter, needed, f"generate of unit {unit.index}")
            result = await self._work("generate", index, start, self.stages.generate(unit, version), {})
            # A resumed run finds rewrites of an earlier version than it asked for: the bound is about the version in the records.
            self.rewriter_lags[unit.index] = int(result.get("rewriter_version", version))
            await self.rewrites.publish(unit.index)

    async def train_encoder(self) -> None:
        for index in self._from(self.trained_retriever):
            start = time.monotonic()
            unit = await self._unit(index)
            lag = {}
            if self.arm.train_rewriter:
                await self._wait(self.rewrites, unit.index, f"train_encoder of unit {unit.index}")
                lag = {"lag": self._rewriter_lag(unit)}
            oldest = max(0, unit.index - self.config.max_rewriter_lag)
            await self._wait(self.retriever, oldest, f"train_encoder of unit {unit.index}")
            await self._work("train_encoder", index, start, self.stages.train_encoder(unit), lag)
            await self.encoder.publish(unit.index + 1)

    async def build_index(self) -> None:
        for index in self._from(self.trained_retriever):
            start = time.monotonic()
            unit = await self._unit(index)
            await self._wait(self.encoder, unit.index + 1, f"build_index of unit {unit.index}")
            await self._work("build_index", index, start, self.stages.build_index(unit), {})
            await self.retriever.publish(unit.index + 1)

    async def score(self) -> None:
        for index in self._from(self.trained_rewriter):
            start = time.monotonic()
            unit = await self._unit(index)
            who = f"score of unit {unit.index}"
            await self._wait(self.rewrites, unit.index, who)
            needed = needed_retriever(unit.index, self.config.max_retriever_lag)
            version = await self._wait(self.retriever, needed, who) if self.arm.train_encoder else self.retriever.version
            result = await self._work("score", index, start, self.stages.score(unit, version), {"lag": self._rewriter_lag(unit)})
            if self.arm.train_encoder:
                made_by = int(result.get("retriever_version", version))
                check_lag("scores", unit.index, unit.index + 1, made_by, self.config.max_retriever_lag)
            await self.pairs.publish(unit.index)

    async def train_rewriter(self) -> None:
        for index in self._from(self.trained_rewriter):
            start = time.monotonic()
            unit = await self._unit(index)
            await self._wait(self.pairs, unit.index, f"train_rewriter of unit {unit.index}")
            lag = {"lag": self._rewriter_lag(unit)}
            await self._work("train_rewriter", index, start, self.stages.train_rewriter(unit), lag)
            await self.rewriter.publish(unit.index + 1)

    async def judge(self) -> None:
        last = self.units.count
        version = 0
        while last is None or version < last:
            start = time.monotonic()
            # ``train_rewriter`` alone waits for users; a candidate comes when it comes.
            newest = await self.rewriter.wait_for(version + 1, None, "the gate")
            version = min(newest, await self._wait(self.retriever, newest, f"the gate of release {newest}"))
            await self._work("judge", version - 1, start, self.stages.judge(version), {})

    async def watchdog(self) -> None:
        """End the run when neither a stage ended nor ``Stages.progress`` moved for ``stall_timeout_s``."""
        limit = float(self.config.stall_timeout_s)
        seen: tuple[int, int] | None = None
        since = time.monotonic()
        while True:
            now = (self.stages_done, await self.stages.progress())
            if now != seen or (self.starving and not self.working):
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > limit:
                working = ", ".join(f"{name} of unit {unit}" for name, (unit, _) in self.working.items()) or "no stage at work"
                raise StallError(f"no progress for {limit:.0f} s (loop.stall_timeout_s): {working}")
            await asyncio.sleep(min(1.0, limit / 4))

    def _from(self, first: int) -> Iterable[int]:
        return itertools.count(first) if self.units.count is None else range(first, self.units.count)

    async def _unit(self, index: int) -> Unit:
        """The unit, once it is admitted; ``take`` alone waits for users, so this has no deadline either."""
        await self.admitted.wait_for(index, None, f"unit {index}")
        return self.taken[index]

    def _rewriter_lag(self, unit: Unit) -> int:
        made_by = self.rewriter_lags[unit.index]
        return check_lag("rewrites", unit.index, unit.index, made_by, self.config.max_rewriter_lag)

    async def _wait(self, gate: Gate, version: int, who: str) -> int:
        return await gate.wait_for(version, STAGES_IN_A_ROW * self.config.stage_timeout_s, who)

    async def _work(
        self, name: str, unit: int, waiting_since: float, call: Awaitable[dict[str, Any]], extra: dict[str, Any]
    ) -> dict[str, Any]:
        """One stage of one unit, under its deadline; tells the time waited and worked."""
        start = time.monotonic()
        self.working[name] = (unit, start)
        deadline = asyncio.timeout(self.config.stage_timeout_s)
        try:
            async with deadline:
                result = await call
        except TimeoutError as error:
            # A stage's own TimeoutError says more than this deadline would.
            if not deadline.expired():
                raise
            limit = self.config.stage_timeout_s
            raise WaitTimeout(f"{name} of unit {unit} took more than {limit} s (loop.stage_timeout_s)") from error
        finally:
            del self.working[name]
        self.stages_done += 1
        spent = {"worked_s": time.monotonic() - start, "waited_s": start - waiting_since}
        self.on_event({**result, "event": "stage", "arm": self.arm.name, "stage": name, "unit": unit, **spent, **extra})
        return result


if __name__ == "__main__":
    import sys

    from pipelines.cli import main

    sys.exit(main(["cotrain", *sys.argv[1:]]))
