"""The commands that look after a run, on a run directory made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors import found
from actors.core.snapshots import SnapshotStore
from actors.core.types import Found
from actors.releases import Release, Releases
from configs.load import save
from configs.schema import Config, LoopConfig, StreamConfig
from pipelines import cli
from pipelines.online.forgetting import requests


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    loop = LoopConfig(mode="continual", units=None, queries_per_unit=8, max_rewriter_lag=1)
    save(Config(run_dir=str(folder), loop=loop, stream=StreamConfig(address=str(tmp_path / "log"))), folder / "config.yaml")
    store = SnapshotStore(str(folder / "snapshots"))
    for kind in ("rewriter", "retriever"):
        for version in (1, 2):
            store.publish(kind, version, lambda path: None, {})
    releases = Releases(store, str(folder / "releases"))
    for number, vague in ((1, 0.2), (2, 0.25)):
        releases.add(Release(number, number, number, "abc", 0.1 * number, {"standard": 0.7, "vague": vague}))
    releases.promote(1, "gate", "against the frozen release: vague +5.0")
    releases.keep(2, "gate", "standard falls -2.0 points")
    events = [
        {"time": 1.0, "event": "stage", "stage": "generate", "unit": 3, "worked_s": 4.0, "waited_s": 1.5, "arm": "cohyde"},
        {"time": 2.0, "event": "intake", "unread": 12, "examples_waiting": 5, "refused": {"tenant at its cap": 2}},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events) + '{"time": 3.0, "ev')
    return folder


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def test_status_is_one_screen(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", str(run_dir)) == 0
    shown = capsys.readouterr().out
    for text in ("generate", "4 s", "unread 12", "tenant at its cap", "served: release 1", "standard falls -2.0 points"):
        assert text in shown
    assert shown.count("\n") < 24


def test_releases_are_listed_compared_promoted_and_rolled_back(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("releases", "list", str(run_dir)) == 0
    assert "1 served" in capsys.readouterr().out
    assert run("releases", "diff", str(run_dir), "1", "2") == 0
    assert "+5.0" in capsys.readouterr().out
    assert run("releases", "promote", str(run_dir), "2", "--reason", "a hunch") == 0
    assert run("releases", "show", str(run_dir), "2") == 0
    assert "a hunch" in capsys.readouterr().out
    assert run("releases", "rollback", str(run_dir)) == 0
    assert "release 1 is served again" in capsys.readouterr().out
    assert run("releases", "pin", str(run_dir)) == 0
    assert run("releases", "promote", str(run_dir), "2") == 2
    assert "pinned" in capsys.readouterr().err
    assert run("releases", "pin", str(run_dir), "--off") == 0
    assert run("releases", "promote", str(run_dir), "2") == 0


@pytest.mark.parametrize("arguments", [("status",), ("releases", "list"), ("log", "forget", "--tenant", "x")])
def test_a_folder_that_is_no_run_is_one_line(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, str(tmp_path)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_release_that_is_not_there_is_one_line(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("releases", "show", str(run_dir), "9") == 2
    assert "there are: 1, 2" in capsys.readouterr().err


def test_forgetting_blanks_the_log_and_asks_the_run(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = {"version": 1, "type": "label", "time": 5.0, "train_on": True, "query": "q", "tool_ids": ["a"], "by": "x"}
    log = tmp_path / "log" / "one.jsonl"
    log.parent.mkdir()
    log.write_text("".join(json.dumps(label | {"tenant": tenant}) + "\n" for tenant in ("ann", "bob", "ann")))
    size = log.stat().st_size
    kept = Found("bob", "q", ("a",))
    found.publish(str(run_dir), [Found("ann", "q", ("a",)), kept])
    assert run("log", "forget", str(run_dir), "--tenant", "ann") == 0
    assert found.read(str(run_dir)) == [kept]
    assert "2 events of ann are blank" in capsys.readouterr().out
    assert log.stat().st_size == size
    assert "ann" not in log.read_text()
    assert list(requests(str(run_dir))) == ["ann"]
