from __future__ import annotations

import asyncio
import time
import traceback
from typing import Any

import pytest

from actors.core.lag import WaitTimeout
from actors.core.types import Unit
from configs.schema import LoopConfig
from pipelines import cotrain
from pipelines.units import COHYDE, ENCODER_ALONE, QTA, Arm, Planned
from tests.fakes import FakeDisk, FakeStages

IDS = [f"q{i}" for i in range(12)]
ROUNDS = LoopConfig(units=3)
CONTINUAL = LoopConfig(mode="continual", units=3, queries_per_unit=4, max_rewriter_lag=1)


def run(
    stages: FakeStages, loop: LoopConfig = ROUNDS, arm: Arm = COHYDE, seed: int = 3, gate: bool = False
) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    asyncio.run(cotrain.run(stages, Planned(loop, seed, IDS), loop, events.append, arm, gate))
    return events


def impatient(loop: LoopConfig, **limits: float) -> LoopConfig:
    """A config with deadlines under the second that the schema asks for."""
    return loop.model_copy(update=limits)


def test_rounds_put_the_stages_in_a_row() -> None:
    stages = FakeStages()
    started = time.monotonic()
    run(stages)
    assert time.monotonic() - started < 1
    order = [(stage, unit) for what, stage, unit in stages.log if what == "end"]
    row = ["generate", "train_encoder", "build_index", "score", "train_rewriter"]
    assert order == [(stage, unit) for unit in range(3) for stage in row]
    assert stages.overlaps == set()
    assert stages.disk.rewrites[2][1] == 2 and stages.disk.pairs[2][1] == 3, "made by exactly the versions of lag 0"


def test_continual_overlaps_within_the_bound() -> None:
    stages = FakeStages(seconds={"generate": 0.01, "train_encoder": 0.01, "score": 0.01, "train_rewriter": 0.01})
    loop = CONTINUAL.model_copy(update={"units": 6})
    started = time.monotonic()
    events = run(stages, loop)
    assert time.monotonic() - started < 1
    assert stages.overlaps, "with a lag, stages work side by side"
    lags = [event["lag"] for event in events if event.get("stage") == "train_rewriter"]
    assert max(lags) == 1 and len(lags) == 6
    in_flight = most = 0
    for what, stage, _ in stages.log:
        in_flight += (what, stage) == ("end", "generate")
        in_flight -= (what, stage) == ("end", "train_rewriter")
        most = max(most, in_flight)
    assert most == 2, "never more than lag + 1 units in flight"


def test_the_encoder_goes_on_while_its_index_is_built_but_not_further_than_the_lag() -> None:
    stages = FakeStages(seconds={"build_index": 0.03, "train_encoder": 0.01})
    run(stages, CONTINUAL.model_copy(update={"units": 5}))
    assert frozenset({"build_index", "train_encoder"}) in stages.overlaps
    built = 0
    for what, stage, unit in stages.log:
        built = unit + 1 if (what, stage) == ("end", "build_index") else built
        if (what, stage) == ("start", "train_encoder"):
            assert built >= unit - 1


def test_retriever_lag_lets_scoring_run_ahead() -> None:
    stages = FakeStages(seconds={"train_encoder": 0.02})
    run(stages, CONTINUAL.model_copy(update={"max_retriever_lag": 1}))
    assert stages.disk.pairs[0][1] == 0, "scored by the retriever from before the unit"
    assert frozenset({"score", "train_encoder"}) in stages.overlaps


def test_equal_seeds_give_equal_results_at_lag_zero() -> None:
    slow = {"train_encoder": 0.005, "generate": 0.003}
    first, second, other = FakeStages(), FakeStages(seconds=slow), FakeStages()
    run(first)
    run(second)
    run(other, seed=4)
    assert first.disk == second.disk
    assert first.disk.rewriter[3] != other.disk.rewriter[3]


def test_encoder_alone_generates_nothing() -> None:
    stages = FakeStages(disk=FakeDisk(rewriter={-1: "base"}))
    events = run(stages, arm=ENCODER_ALONE)
    assert {stage for _, stage, _ in stages.log} == {"train_encoder", "build_index"}
    assert stages.overlaps == set(), "negatives come from the newest retriever"
    assert max(stages.disk.retriever) == 3
    assert "lag" not in events[1]


def test_qta_scores_with_the_fixed_retriever() -> None:
    stages = FakeStages(fixed_retriever=-1)
    run(stages, arm=QTA)
    assert {stage for _, stage, _ in stages.log} == {"generate", "score", "train_rewriter"}
    assert [version for _, version in stages.disk.pairs.values()] == [-1, -1, -1]
    assert max(stages.disk.rewriter) == 3 and max(stages.disk.retriever) == 0


def test_events_tell_work_and_wait_apart() -> None:
    events = run(FakeStages(seconds={"generate": 0.05}), ROUNDS.model_copy(update={"units": 1}))
    assert [event["event"] for event in events] == ["started", *["stage"] * 5, "ended"]
    stage = {event["stage"]: event for event in events if event["event"] == "stage"}
    assert stage["generate"]["worked_s"] >= 0.05 > stage["generate"]["waited_s"]
    assert stage["train_encoder"]["waited_s"] >= 0.05 > stage["train_encoder"]["worked_s"]
    assert stage["train_encoder"]["loss"] == 0.5 and stage["score"]["arm"] == "cohyde"
    assert events[-1]["rewriter_version"] == events[-1]["retriever_version"] == 1


class StaleStages(FakeStages):
    """Generates with version 0 whatever it is asked for."""

    async def generate(self, unit: Unit, rewriter_version: int) -> dict[str, Any]:
        return await super().generate(unit, 0)


class StaleScorer(FakeStages):
    """Scores with version 0 whatever it is asked for."""

    async def score(self, unit: Unit, retriever_version: int) -> dict[str, Any]:
        return await super().score(unit, 0)


def test_a_broken_lag_bound_is_an_assertion() -> None:
    with pytest.raises(AssertionError, match="rewrites of unit 1 was made by version 0: lag 1 exceeds the bound 0"):
        run(StaleStages())
    with pytest.raises(AssertionError, match="scores of unit 0 was made by version 0: lag 1 exceeds the bound 0"):
        run(StaleScorer())


def test_a_dead_stage_ends_the_run_at_once_with_its_own_traceback() -> None:
    stages = FakeStages(seconds={"generate": 30, "train_encoder": 0.01}, fails={("train_encoder", 0): ZeroDivisionError("dead")})
    stages.disk.rewrites = {0: ("made before", 0)}
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="dead") as error:
        run(stages, CONTINUAL)
    assert time.monotonic() - started < 1, "generate(1) was at work and was not waited for"
    assert ("start", "generate", 1) in stages.log
    assert "fakes.py" in "".join(traceback.format_tb(error.value.__traceback__))
    assert stages.at_work == set(), "the others were cancelled, not left"


def test_a_stall_is_caught_and_named() -> None:
    stages = FakeStages(seconds={"score": 30})
    with pytest.raises(cotrain.StallError, match=r"score of unit 0"):
        run(stages, impatient(ROUNDS, stall_timeout_s=0.1))


def test_progress_inside_a_stage_is_no_stall() -> None:
    class Moving(FakeStages):
        async def progress(self) -> int:
            self.moves += 1
            return self.moves

    run(Moving(seconds={"score": 0.3}), impatient(ROUNDS.model_copy(update={"units": 1}), stall_timeout_s=0.1))


def test_a_stage_has_a_deadline() -> None:
    stages = FakeStages(seconds={"train_encoder": 30})
    with pytest.raises(WaitTimeout, match=r"train_encoder of unit 0 took more than 0\.05 s"):
        run(stages, impatient(ROUNDS, stage_timeout_s=0.05))


def test_a_stages_own_timeout_is_told_as_it_is() -> None:
    stages = FakeStages(fails={("generate", 0): TimeoutError("no answer from the rewriter")})
    with pytest.raises(TimeoutError, match="no answer from the rewriter"):
        run(stages)


@pytest.mark.parametrize("loop", [ROUNDS, CONTINUAL], ids=["rounds", "continual"])
@pytest.mark.parametrize("stage", ["generate", "train_encoder", "build_index", "score", "train_rewriter"])
@pytest.mark.parametrize("unit", [0, 1, 2])
def test_resume_trains_each_unit_exactly_once(loop: LoopConfig, stage: str, unit: int) -> None:
    disk, whole = FakeDisk(), FakeStages()
    with pytest.raises(RuntimeError, match="killed"):
        run(FakeStages(disk, fails={(stage, unit): RuntimeError("killed")}), loop)
    assert (max(disk.rewriter), max(disk.retriever)) != (3, 3)
    run(FakeStages(disk), loop)
    assert disk.trained == {"encoder": [0, 1, 2], "rewriter": [0, 1, 2]}
    run(FakeStages(disk), loop)
    assert disk.trained == {"encoder": [0, 1, 2], "rewriter": [0, 1, 2]}, "a finished run has nothing left to do"
    if loop is ROUNDS:
        run(whole, loop)
        assert disk == whole.disk, "the crash left no trace in the models"


def test_the_warm_start_comes_first() -> None:
    with pytest.raises(ValueError, match="publish version 0"):
        run(FakeStages(FakeDisk(rewriter={-1: "base"})))


class SlowLog:
    """A source of units without an end, whose users are silent before unit ``silent``."""

    count: int | None = None

    def __init__(self, silent: int, silence_s: float) -> None:
        self.silent, self.silence_s, self.taken = silent, silence_s, []

    async def take(self, index: int) -> Unit:
        await asyncio.sleep(self.silence_s if index == self.silent else 0)
        self.taken.append(index)
        return Unit(index, index, (f"q{index}",))


def test_silent_users_are_waited_for_and_units_are_cut_no_earlier_than_they_may_be_used() -> None:
    loop = impatient(CONTINUAL, stage_timeout_s=0.05, stall_timeout_s=0.1)
    log, stages = SlowLog(silent=2, silence_s=0.5), FakeStages()

    async def some_units() -> None:
        running = asyncio.ensure_future(cotrain.run(stages, log, loop, lambda event: None))
        async with asyncio.timeout(5):
            while max(stages.disk.rewriter) < 4:
                ahead = max(log.taken, default=0) - max(stages.disk.rewriter)
                assert ahead <= loop.max_rewriter_lag, "a unit was cut before it could be generated for"
                assert not running.done() or running.result()
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(some_units())
    assert stages.disk.trained["encoder"][:4] == [0, 1, 2, 3]


def test_a_slow_gate_judges_the_newest_pair_and_the_last_one() -> None:
    stages = FakeStages(seconds={"judge": 0.03, "generate": 0.01, "train_encoder": 0.01, "train_rewriter": 0.01})
    events = run(stages, CONTINUAL.model_copy(update={"units": 9}), gate=True)
    judged = sorted(stages.disk.judged)
    assert judged[-1] == 9 and 1 < len(judged) < 9
    assert {event["unit"] for event in events if event.get("stage") == "judge"} == {version - 1 for version in judged}
    quick = FakeStages()
    run(quick, CONTINUAL, gate=True)
    assert max(quick.disk.judged) == 3


def test_without_a_gate_nothing_is_judged() -> None:
    stages = FakeStages()
    run(stages)
    assert stages.disk.judged == {}
