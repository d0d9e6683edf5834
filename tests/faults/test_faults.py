"""What a continual run survives: each of its processes killed, a node lost, a full disk, a silent log, a damaged snapshot.

A cluster of three nodes on this machine, tiny models, the real job. After each fault: every event trained once, the lag bound held,
nothing served but what the gate promoted; the time to the next finished stage is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from actors.core.snapshots import SnapshotStore
from actors.releases import Releases
from tests.brokers.test_redis import Server
from tests.e2e.small_world import command, make_world
from tests.e2e.test_continual import settings, stages, trained_examples, write_log

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]
VICTIMS = ("RewriterHost", "ScorerHost", "IndexBuilderHost", "Registry", "UnitFeed", "Monitor", "RayTrainWorker")
STAGE_TIMEOUT_S = 240.0
SILENCE_S = 60.0
EXAMPLES_PER_UNIT = 9
"""Of the twelve queries of a unit; the others are labelled."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_world(tmp_path_factory.mktemp("world"))
    write_log(root / "log", 0, 400)
    return root


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    # This process read its own mode when it imported ray.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    each = {"num_cpus": 6, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**each, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**each)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


class Run:
    """The job as a process."""

    def __init__(self, world: Path, run_dir: Path, units: int, *more: str) -> None:
        self.run_dir = run_dir
        self._given = command(*settings(world, run_dir, units), "stream.reservoir_share=0", "loop.max_failures=5", *more)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._given, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def until(self, kind: str, version: int, root: Path | None = None) -> None:
        ready, deadline = (root or self.run_dir) / "snapshots" / kind / str(version) / "READY", time.monotonic() + STAGE_TIMEOUT_S
        while not ready.exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, f"no {kind} {version} in {STAGE_TIMEOUT_S} s"
            time.sleep(0.1)

    def recovery(self) -> float:
        """Seconds until the unit after the one at work is through all stages."""
        trained = [event["unit"] for event in stages(self.run_dir) if event["stage"] == "train_rewriter"]
        started = time.monotonic()
        self.until("rewriter", max(trained, default=-1) + 3)
        return time.monotonic() - started

    def end(self) -> tuple[int, str]:
        output, errors = self.process.communicate(timeout=STAGE_TIMEOUT_S)
        return self.process.returncode, output + errors


def processes(name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        # One that is ending has no command line any more.
        with contextlib.suppress(psutil.Error):
            if f"ray::{name}" in " ".join(process.cmdline()):
                found.append(process)
    return found


def check(run_dir: Path, units: int) -> None:
    counts = trained_examples(run_dir)
    assert counts and set(counts.values()) == {1}
    store = SnapshotStore(str(run_dir / "snapshots"))
    for kind in ("encoder", "rewriter"):
        assert store.latest(kind) == units
        assert store.manifest(kind, units)["parents"] == {kind: units - 1}
    state = json.loads((store.fetch("intake", units - 1) / "state.json").read_text())
    assert state["replay"]["trained"] == units * EXAMPLES_PER_UNIT
    assert max(event["lag"] for event in stages(run_dir) if "lag" in event) <= 1
    releases = Releases(store, str(run_dir / "releases"))
    served = releases.served()
    promoted = {entry["number"] for entry in releases.audit() if entry["action"] == "promoted"}
    assert (served is None and not promoted) or (served is not None and served.number in promoted)


def test_each_process_killed_in_turn_and_a_node_lost(nodes: Cluster, world: Path, tmp_path: Path) -> None:
    units = 3 * len(VICTIMS) + 6
    run = Run(world, tmp_path / "run", units)
    run.until("rewriter", 1)
    for name in VICTIMS:
        victims = processes(name)
        assert victims, f"no process ray::{name}"
        victims[0].send_signal(signal.SIGKILL)
        started = time.monotonic()
        while not {p.pid for p in processes(name)} - {p.pid for p in victims}:
            assert time.monotonic() - started < STAGE_TIMEOUT_S, f"{name} did not come back"
            time.sleep(0.2)
        print(f"{name} killed: back after {time.monotonic() - started:.1f} s, through a whole unit after {run.recovery():.1f} s")
    lost = nodes.list_all_nodes()[-1]
    nodes.remove_node(lost, allow_graceful=False)
    print(f"node lost: through a whole unit after {run.recovery():.1f} s")
    code, said = run.end()
    assert code == 0, said[-3000:]
    check(run.run_dir, units)


def test_the_driver_killed_the_same_command_goes_on(nodes: Cluster, world: Path, tmp_path: Path) -> None:
    run = Run(world, tmp_path / "run", 3)
    for version in (0, 1):
        run.until("rewriter", version)
        run.process.send_signal(signal.SIGKILL)
        run.process.wait(20)
        started = time.monotonic()
        run.start()
        run.until("rewriter", version + 1)
        print(f"driver killed: rewriter {version + 1} after {time.monotonic() - started:.1f} s")
    code, said = run.end()
    assert code == 0, said[-3000:]
    check(run.run_dir, 3)


def test_a_full_disk_ends_the_run_and_nothing_is_lost(nodes: Cluster, world: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        run = Run(world, tmp_path / "run", 4, f"storage_path={disk}")
        run.until("rewriter", 1, disk)
        filler = disk / "filler"
        with filler.open("wb") as file:
            while True:
                try:
                    file.write(os.urandom(2**16))
                    file.flush()
                except OSError:
                    break
        code, said = run.end()
        assert code == 1 and "No space left on device" in said
        filler.unlink()
        run.start()
        code, said = run.end()
        assert code == 0, said[-3000:]
        counts = json.loads((disk / "snapshots" / "intake" / "3" / "state.json").read_text())
        assert counts["replay"]["trained"] == 4 * EXAMPLES_PER_UNIT
    finally:
        subprocess.run(["umount", str(disk)], check=False)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_log_that_is_silent_for_a_minute_is_waited_for(nodes: Cluster, world: Path, tmp_path: Path) -> None:
    server = Server(tmp_path)
    lines = (world / "log" / "users.jsonl").read_text().splitlines()
    try:
        for line in lines[:60]:
            server.client.xadd("log", {"event": line})
        run = Run(world, tmp_path / "run", 6, "stream.source=redis", f"stream.address={server.url}", "stream.topic=log")
        run.until("rewriter", 1)
        server.signal(signal.SIGSTOP)
        time.sleep(SILENCE_S)
        assert run.process.poll() is None
        server.signal(signal.SIGCONT)
        for line in lines[60:]:
            server.client.xadd("log", {"event": line})
        print(f"log silent for {SILENCE_S:.0f} s: through a whole unit after {run.recovery():.1f} s")
        code, said = run.end()
        assert code == 0, said[-3000:]
        check(run.run_dir, 6)
    finally:
        server.end()


def test_a_damaged_snapshot_is_named_and_made_anew_once_it_is_gone(nodes: Cluster, world: Path, tmp_path: Path) -> None:
    run = Run(world, tmp_path / "run", 2)
    run.until("retriever", 2)
    run.process.send_signal(signal.SIGKILL)
    run.process.wait(20)
    damaged = run.run_dir / "snapshots" / "retriever" / "2"
    (damaged / "vectors.npy").write_bytes(b"")
    for path in (run.run_dir / "data" / "scored" / "1", run.run_dir / "snapshots" / "rewriter" / "2"):
        subprocess.run(["rm", "-rf", str(path)], check=True)
    run.start()
    code, said = run.end()
    assert code == 2 and "vectors.npy is missing or damaged" in said, said[-3000:]
    subprocess.run(["rm", "-rf", str(damaged)], check=True)
    run.start()
    code, said = run.end()
    assert code == 0, said[-3000:]
    check(run.run_dir, 2)
