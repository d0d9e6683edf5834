"""What a run starts it ends: nothing is left after a clean end, an interrupt, or (at the next start) a killed driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from actors.processes import NOTED

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]

DRIVER = """
import sys, time
from pathlib import Path
from actors import remote
from actors.monitor import Monitor
from configs.schema import Config

class Busy:
    def health(self): return 1
    def work(self): time.sleep(600)

run_dir = Path(sys.argv[1])
with remote.cluster(Config(), run_dir) as cluster:
    assert cluster.embedded and cluster.resources["CPU"] == 8
    monitor = remote.make_monitor(run_dir / "metrics.jsonl")
    busy = remote.start(Busy, Config().placement.scorer, 0)
    busy.work.remote()
    remote.ask_now(monitor.log.remote({"event": "up"}), 60, "the monitor")
    remote.health(busy, 60)
    print("up", flush=True)
    time.sleep(float(sys.argv[2]))
print("down", flush=True)
"""


def driver(run_dir: Path, seconds: float) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"HOME": str(run_dir.parent)}
    command = [sys.executable, "-c", DRIVER, str(run_dir), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        if line == "up\n":
            return process
        seen.append(line)
    raise AssertionError("".join(seen))


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = psutil.Process(process.pid).children(recursive=True)
    assert len(found) > 4
    return found


def alive(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    return [p for p in psutil.wait_procs(processes, timeout=within_s)[1] if p.status() != psutil.STATUS_ZOMBIE]


def test_a_clean_end_leaves_nothing(tmp_path: Path) -> None:
    process = driver(tmp_path / "run", 0)
    out, _ = process.communicate(timeout=40)
    assert process.returncode == 0 and out.endswith("down\n")
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["event"] == "up"
    logs = tmp_path / "run" / "logs" / "ray"
    assert logs.is_dir() and not logs.is_symlink() and any(logs.iterdir())
    assert not (tmp_path / "run" / NOTED).exists()
    assert not (tmp_path / ".ray").exists(), "no token in the user's home"


def test_an_interrupt_ends_everything_within_20_seconds(tmp_path: Path) -> None:
    process = driver(tmp_path / "run", 600)
    started = descendants(process)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert alive(started, 20 - (time.monotonic() - began)) == []


def test_a_killed_drivers_cluster_is_gone_and_the_next_run_starts(tmp_path: Path) -> None:
    process = driver(tmp_path / "run", 600)
    started = descendants(process)
    with pytest.raises(AssertionError, match="another run is at work in it"):
        driver(tmp_path / "run", 0)
    process.kill()
    process.wait(timeout=10)
    second = driver(tmp_path / "run", 0)
    second.communicate(timeout=40)
    assert second.returncode == 0
    assert alive(started, 10) == []
