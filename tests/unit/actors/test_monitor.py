from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors import monitor
from actors.monitor import Monitor, Reporter, describe


def test_moves_count_progress_and_not_activity(tmp_path: Path) -> None:
    watched = Monitor(str(tmp_path / "metrics.jsonl"))
    for done in (0, 1, 1, 1, 2):
        watched.progress("score", done, 5)
    assert watched.snapshot()["moves"] == 3
    watched.progress("generate", 1, 9)
    assert watched.snapshot()["moves"] == 4
    assert watched.snapshot()["stages"]["score"]["done"] == 2


def test_a_smaller_count_is_a_new_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr(monitor.time, "time", lambda: next(clock))
    watched = Monitor(str(tmp_path / "metrics.jsonl"))
    for done in (1, 5, 1):
        watched.progress("score", done, 5)
    assert watched.snapshot()["stages"]["score"] == {"done": 1, "total": 5, "begun": 1, "started": 120.0, "updated": 120.0}


def test_events_are_lines_and_a_torn_one_stays_alone(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    Monitor(str(file)).log({"event": "first", "path": tmp_path})
    with file.open("a") as stream:
        stream.write('{"event": "to')
    restarted = Monitor(str(file))
    restarted.log({"event": "second"})
    restarted.log({"event": "third"})
    lines = file.read_text().splitlines()
    assert [json.loads(lines[i])["event"] for i in (0, 2, 3)] == ["first", "second", "third"]
    assert lines[1] == '{"event": "to'
    assert json.loads(lines[0])["time"] > 1.6e9


class Handle:
    """Looks like an actor handle; keeps what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.progress = self

    def remote(self, *told: object) -> None:
        self.told.append(told)  # type: ignore[arg-type]


def test_progress_is_throttled_but_for_its_ends() -> None:
    handle = Handle()
    progress = Reporter(handle).stage("score")
    for done in range(1, 101):
        progress(done, 100)
    assert handle.told == [("score", 1, 100), ("score", 100, 100)]


def test_describe() -> None:
    stage = {"done": 120, "total": 800, "begun": 0, "started": 1000.0}
    assert describe("generate", stage, 1020.0) == "generate: 120 of 800, 0:20 gone, about 1:53 left"
    assert describe("generate", stage | {"done": 0}, 1061.0) == "generate: 0 of 800, 1:01 gone"
    resumed = stage | {"begun": 100}
    assert describe("generate", resumed, 1020.0) == "generate: 120 of 800, 0:20 gone, about 11:20 left"
