"""Co-training on a query log as users run it: the command, real actors and learners, a small world."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors import found
from actors.core.replay import is_held_out
from actors.core.snapshots import SnapshotStore
from actors.releases import Releases
from tests.e2e.small_world import THINGS, VERBS, command, make_world, overrides

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TIMEOUT_S = 420
NOW = 1_700_000_000.0


def settings(world: Path, run_dir: Path, units: int) -> list[str]:
    return [
        *overrides(world, run_dir),
        "loop.mode=continual",
        f"loop.units={units}",
        "loop.queries_per_unit=12",
        "loop.max_rewriter_lag=1",
        "loop.baselines=[]",
        f"stream.address={world / 'log'}",
        "stream.join_window_s=10",
        "stream.tenant_share=1.0",
        "stream.patience_s=5",
        "stream.least_new=4",
    ]


def write_log(log: Path, first: int, last: int, name: str = "users") -> None:
    """Searches that end in a call, a second apart and long ago: the windows of all are closed."""
    log.mkdir(exist_ok=True)
    lines = []
    for number in range(first, last):
        tool_id = f"{VERBS[number % 5]}-{THINGS[number % 6]}"
        about = {"version": 1, "tenant": "t", "request_id": f"r{number}", "time": NOW + number}
        shown = [{"tool_id": tool_id, "rank": 1, "score": 0.5, "propensity": 1.0}]
        text = f"orders {number} {VERBS[number % 5]} {THINGS[number % 6]}"
        lines.append({**about, "type": "search", "query": text, "train_on": True, "release": "0", "tools": shown})
        lines.append({**about, "type": "outcome", "tool_id": tool_id, "result": "succeeded"})
    with (log / f"{name}.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def trained_examples(run_dir: Path) -> Counter[str]:
    """Example id -> units that it was new in."""
    store, counts = SnapshotStore(str(run_dir / "snapshots")), Counter[str]()
    for version in store.versions("intake"):
        records = json.loads((store.fetch("intake", version) / "examples.json").read_text())
        counts.update(record["example_id"] for record in records)
    return counts


def stages(run_dir: Path) -> list[dict[str, Any]]:
    return [e for e in map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines()) if e["event"] == "stage"]


def texts(run_dir: Path) -> list[str]:
    store = SnapshotStore(str(run_dir / "snapshots"))
    return [
        record["query"]
        for version in store.versions("intake")
        for record in json.loads((store.fetch("intake", version) / "examples.json").read_text())
    ]


def test_a_log_is_trained_judged_and_reported_though_the_run_is_terminated_while_it_waits(tmp_path: Path) -> None:
    world, run_dir = make_world(tmp_path / "world"), tmp_path / "run"
    given = command(*settings(world, run_dir, 3), "stream.reservoir_share=0")
    # Enough for two units; then the run waits for more.
    write_log(world / "log", 0, 20)
    first = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + TIMEOUT_S
    # The gate's candidate comes after every stage of its unit was told of.
    while not (run_dir / "snapshots" / "release" / "2" / "READY").exists():
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.5)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=60) == 143
    write_log(world / "log", 20, 60, name="later")
    done = subprocess.run(given, timeout=TIMEOUT_S, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Report:" in done.stdout
    assert SnapshotStore(str(run_dir / "snapshots")).latest("rewriter") == 3
    trained = stages(run_dir)
    for stage in ("generate", "train_encoder", "build_index", "score", "train_rewriter"):
        assert [e["unit"] for e in trained if e["stage"] == stage] == [0, 1, 2]
    assert max(e["lag"] for e in trained if "lag" in e) <= 1
    counts = trained_examples(run_dir)
    assert len(counts) == 27 and set(counts.values()) == {1}
    assert not any(is_held_out(text) for text in texts(run_dir))
    users_found = found.read(str(run_dir))
    assert {one.query for one in users_found} > set(texts(run_dir))
    releases = Releases(SnapshotStore(str(run_dir / "snapshots")), str(run_dir / "releases"))
    assert {entry["number"] for entry in releases.audit()} >= {0, 3}
    assert releases.served() is not None or all(entry["action"] == "kept" for entry in releases.audit())
