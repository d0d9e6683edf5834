"""The log's consumer: killed at every step, each event is trained exactly once; what is unusable is named."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.core import snapshots
from actors.core.drift import Drift
from actors.core.joining import JoinLimits
from actors.core.replay import Example, ReplayLimits, is_held_out
from actors.core.snapshots import SnapshotStore
from actors.core.types import Found
from configs.schema import Config
from pipelines.online.intake import READ_AHEAD, DeadLetters, Intake, IntakeLimits
from pipelines.online.stream_units import StreamUnits, limits
from pipelines.streams import Position, Record, SourceLost
from pipelines.streams.jsonl import JsonlSource

NOW = 1_000_000.0
TOOLS = {"a", "b", "c"}
LIMITS = IntakeLimits(
    JoinLimits(window_s=10, memory_s=1000, clock_skew_s=60),
    ReplayLimits(reservoir_share=0.0, reservoir_size=100, tenant_share=1.0, per_query_tool=100, weight_clip=5, waiting=1000),
    examples=6,
    least=2,
    patience_s=30,
)


class Killed(BaseException):
    """The process died here."""


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def search(number: int, **changes: Any) -> dict[str, Any]:
    tools = [{"tool_id": t, "rank": i, "score": 1 / i, "propensity": 1 / i} for i, t in enumerate("abc", start=1)]
    event = {"version": 1, "type": "search", "request_id": f"r{number}", "time": NOW + number, "tenant": f"t{number % 3}"}
    return event | {"query": f"need {number}", "train_on": True, "release": "0", "tools": tools} | changes


def outcome(number: int, **changes: Any) -> dict[str, Any]:
    event = {"version": 1, "type": "outcome", "request_id": f"r{number}", "time": NOW + number + 1, "tenant": f"t{number % 3}"}
    return event | {"tool_id": "b", "result": "succeeded"} | changes


def write(directory: Path, *events: dict[str, Any] | str, name: str = "log") -> None:
    directory.mkdir(exist_ok=True)
    with (directory / f"{name}.jsonl").open("a") as file:
        file.writelines((event if isinstance(event, str) else json.dumps(event)) + "\n" for event in events)


def intake(
    tmp_path: Path,
    limits: IntakeLimits = LIMITS,
    source: Any = None,
    redact: Callable[[str], str] = str,
    publish: Callable[[list[Found]], None] = lambda found: None,
) -> Intake:
    store = SnapshotStore(str(tmp_path / "snapshots"))
    clock = Clock()
    clock.now = NOW + 500
    dead = DeadLetters(tmp_path / "dead-letters.jsonl")
    source = source or JsonlSource(tmp_path / "log")
    return Intake(source, store, limits, TOOLS.__contains__, redact, dead, publish=publish, clock=clock)


def reasons(tmp_path: Path) -> list[str]:
    path = tmp_path / "dead-letters.jsonl"
    return [json.loads(line)["reason"] for line in path.read_text().splitlines()] if path.exists() else []


class Mortal(JsonlSource):
    """A source in whose calls the process can be killed, before or after they were done."""

    def __init__(self, directory: Path, dies_at: int) -> None:
        super().__init__(directory)
        self.steps, self.dies_at = 0, dies_at

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            raise Killed

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        self._step()
        records = super().poll(min(limit, 7), 0)
        self._step()
        return records

    def commit(self, position: Position) -> None:
        self._step()
        super().commit(position)
        self._step()


def test_killed_at_every_step_each_event_is_trained_exactly_once(tmp_path: Path) -> None:
    numbers = [n for n in range(30) if not is_held_out(f"need {n}")][:24]
    survived = False
    for dies_at in range(1, 60):
        home = tmp_path / str(dies_at)
        home.mkdir()
        for number in numbers:
            write(home / "log", search(number), outcome(number))
        source = Mortal(home / "log", dies_at)
        units: dict[int, list[str]] = {}
        for attempt in (source, JsonlSource(home / "log")):
            try:
                consumer = intake(home, source=attempt)
                for index in range(4):
                    units[index] = [e.query for e in consumer.unit(index, seed=index) or []]
                survived = attempt is source
                break
            except Killed:
                continue
        trained = [query for unit in units.values() for query in unit]
        assert sorted(trained) == sorted(f"need {n}" for n in numbers), f"killed at step {dies_at}"
        if survived:
            return
    raise AssertionError("the source was killed in every run; raise the range")


def test_killed_while_a_unit_is_published_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [n for n in range(10) if not is_held_out(f"need {n}")][:6]
    for number in numbers:
        write(tmp_path / "log", search(number), outcome(number))

    def die(*_: Any) -> None:
        raise Killed

    for place, step in ((SnapshotStore, "_remove_leftovers"), (SnapshotStore, "_files"), (snapshots, "write_text")):
        with monkeypatch.context() as patch:
            patch.setattr(place, step, die)
            with pytest.raises(Killed):
                intake(tmp_path).unit(0, 0)
    assert {e.query for e in intake(tmp_path).unit(0, 0) or []} == {f"need {n}" for n in numbers}


def test_a_unit_is_read_back_as_it_was_cut(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / "log", search(number), outcome(number))
    first = intake(tmp_path)
    cut = [first.unit(0, 7), first.unit(1, 8)]
    assert [intake(tmp_path).unit(i, 99) for i in (0, 1)] == cut
    with pytest.raises(ValueError, match="unit 5 was asked for before unit 2"):
        intake(tmp_path).unit(5, 0)


def test_what_cannot_be_used_is_named_once_and_the_stream_goes_on(tmp_path: Path) -> None:
    write(
        tmp_path / "log",
        "{broken",
        search(0, version=7),
        outcome(1, tool_id="gone"),
        outcome(77),
        search(2, time=NOW + 9999),
        *(event for n in range(3, 14) for event in (search(n), outcome(n))),
    )
    with (tmp_path / "log" / "log.jsonl").open("ab") as file:
        file.write(b'"\xff"\n')
    for _ in range(2):
        assert intake(tmp_path).unit(0, 0)
    found = reasons(tmp_path)
    assert len(found) == 6
    for part in (
        "Invalid JSON",
        "version: Input should be 1",
        "gone is not in the catalog",
        "without search",
        "ahead of",
        "not UTF-8",
    ):
        assert any(part in reason for reason in found), part


def test_texts_are_redacted_before_they_are_kept_and_without_consent_not_at_all(tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path / "log", search(number, query=f"mail ann@example.org {number}"), outcome(number))
    write(tmp_path / "log", search(90, query="a secret wish", train_on=False), outcome(90))
    examples = intake(tmp_path, redact=lambda text: text.replace("ann@example.org", "<EMAIL>")).unit(0, 0)
    assert examples
    kept = "".join(path.read_text() for path in (tmp_path / "snapshots").rglob("*.json"))
    assert "<EMAIL>" in kept
    assert "ann@" not in kept
    assert "secret" not in kept
    assert reasons(tmp_path) == []


def test_a_tool_that_left_the_catalog_is_left_out_of_an_answer(tmp_path: Path) -> None:
    tools = [{"tool_id": t, "rank": i, "score": 1.0, "propensity": 1.0} for i, t in enumerate(["old", "a", "b"], start=1)]
    for number in range(8):
        write(tmp_path / "log", search(number, tools=tools), outcome(number))
    examples = intake(tmp_path).unit(0, 0)
    assert examples
    assert {e.wrong for e in examples} == {("a",)}


def test_a_small_unit_is_cut_when_patience_ends_or_drift_hurries(tmp_path: Path) -> None:
    numbers = [n for n in range(10) if not is_held_out(f"need {n}")][:3]
    for number in numbers:
        write(tmp_path / "log", search(number), outcome(number))
    consumer = intake(tmp_path)
    asked = []

    def hurry(drift: Drift) -> bool:
        asked.append(1)
        return len(asked) > 2

    assert len(consumer.unit(0, 0, hurry=hurry) or []) == 3
    assert len(asked) == 3
    ended = intake(tmp_path)
    ended.end()
    assert ended.unit(1, 0) is None


def test_a_lost_source_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for number in range(12):
        write(tmp_path / "log", search(number), outcome(number))

    class Flaky(JsonlSource):
        calls = 0

        def poll(self, limit: int, timeout_s: float) -> list[Record]:
            self.calls += 1
            if self.calls % 2:
                raise SourceLost("gone")
            return super().poll(3, 0)

        def commit(self, position: Position) -> None:
            raise SourceLost("gone")

    assert len(intake(tmp_path, source=Flaky(tmp_path / "log")).unit(0, 0) or []) == 6


def test_status_counts(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / "log", search(number), outcome(number), outcome(number))
    consumer = intake(tmp_path)
    consumer.unit(0, 0)
    status = consumer.status()
    assert status["unread"] == 0
    assert status["duplicates"] == 12
    assert status["examples_waiting"] + status["held_out"] == 6


def test_units_mix_labelled_queries_in_and_are_the_same_when_asked_again(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / "log", search(number), outcome(number))
    loop = {"mode": "continual", "queries_per_unit": 8, "max_rewriter_lag": 1}
    config = Config.model_validate({"loop": loop, "stream": {"tenant_share": 1.0, "join_window_s": 10}})
    admitted: dict[int, list[str]] = {}

    def ids(examples: Sequence[Example]) -> list[str]:
        return [example.example_id for example in examples]

    def units() -> StreamUnits:
        return StreamUnits(
            intake(tmp_path, limits(config)),
            [f"label{i}" for i in range(50)],
            config,
            lambda index, examples, reservoir: admitted.update({index: ids(examples), -1 - index: ids(reservoir)}),
        )

    first, second = [asyncio.run(units().take(index)) for index in (0, 1)]
    assert [len(unit.query_ids) for unit in (first, second)] == [8, 8]
    assert [sum(q.startswith("label") for q in unit.query_ids) for unit in (first, second)] == [2, 2]
    assert list(first.query_ids[:6]) == admitted[0]
    assert len(set(first.query_ids) & set(second.query_ids)) == 2, "a quarter comes back from the reservoir"
    assert set(admitted[-1]) == set(admitted[0]) and set(admitted[-2]) == set(admitted[0]) | set(admitted[1])
    reservoir = admitted.pop(-1)
    assert asyncio.run(units().take(0)) == first
    assert admitted[-1] == reservoir, "as it was then"


def test_between_units_it_reads_on_within_bounds_and_publishes_what_users_found(tmp_path: Path) -> None:
    numbers = [n for n in range(60) if not is_held_out(f"need {n}")]
    for number in numbers:
        write(tmp_path / "log", search(number), outcome(number))
    published: list[list[Found]] = []
    source = Mortal(tmp_path / "log", 0)
    reader = intake(tmp_path, source=source, publish=published.append)
    polls: list[int] = []

    def wanted() -> bool:
        polls.append(source.steps)
        return len(polls) > 1 and polls[-1] == polls[-2]

    reader.read_ahead(wanted)
    waiting = reader.status()["examples_waiting"]
    assert READ_AHEAD * LIMITS.examples <= waiting < len(numbers), "the rest waits in the log"
    assert reader.status()["unread"]
    [first] = published
    assert Found(f"t{numbers[0] % 3}", f"need {numbers[0]}", ("b",)) in first
    unit = reader.unit(0, seed=0)
    assert unit is not None and {e.query for e in unit} <= {f"need {n}" for n in numbers}


def test_a_source_of_units_that_waits_can_be_ended(tmp_path: Path) -> None:
    config = Config.model_validate({"loop": {"mode": "continual", "queries_per_unit": 8, "max_rewriter_lag": 1}})
    units = StreamUnits(intake(tmp_path, limits(config)), [], config, lambda index, examples: None)
    units.stop()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(units.take(0))


def test_a_tenant_is_forgotten_wherever_it_stands_also_after_a_restart(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / "log", search(number), outcome(number))
    first = intake(tmp_path)
    first.pump(0.0)
    held = first.status()["examples_waiting"] + first.status()["held_out"]
    wanted = {"t1": NOW + 100}
    reader = intake(tmp_path)
    reader._to_forget = lambda: wanted
    reader.pump(0.0)
    assert reader.status()["examples_waiting"] + reader.status()["held_out"] == held - held // 3
    reader.unit(0, 1)
    again = intake(tmp_path)
    again._to_forget = lambda: wanted
    write(tmp_path / "log", search(30, tenant="t1", time=NOW + 90), search(31, tenant="t1", time=NOW + 200))
    again.pump(0.0)
    texts = json.dumps(again._joiner.state()) + json.dumps(again._replay.state())
    assert "need 30" not in texts
    assert "need 31" in texts
