"""The main job as a user runs it, on tiny models: interrupted, killed and resumed, to its end, with wrong input."""

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

from actors.core.snapshots import SnapshotStore
from tests.e2e.small_world import command, make_world, overrides

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).parents[2]
QTA_ALONE = ("encoder.frozen=true", "encoder.warm_start_share=0", "loop.baselines=[]")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def run(*arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout, check=False)


def wait_for(path: Path, process: subprocess.Popen[str], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert process.poll() is None, f"the run ended (exit {process.returncode}) before {path}"
        assert time.monotonic() < deadline, f"no {path} in {timeout_s} s"
        time.sleep(0.05)


def gone(processes: list[psutil.Process], timeout_s: float) -> bool:
    return not psutil.wait_procs(processes, timeout=timeout_s)[1]


def stop(process: subprocess.Popen[str], how: signal.Signals) -> None:
    """End a run as a user or a machine does; after a request to end, no process of it may be left."""
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    assert process.wait(20) == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[how]
    assert how == signal.SIGKILL or gone(started, 5)


def end_and_resume(world: Path, tmp_path: Path, endings: dict[str, signal.Signals]) -> None:
    """End a run as soon as each file appears, so the stage after it is under way; then let it finish, and look at all of it."""
    run_dir, errors = tmp_path / "run", tmp_path / "errors.txt"
    settings = [*overrides(world, run_dir), "rewriter.rerank_rows=4", "retrieval.rerank_depth=2"]
    for moment, how in endings.items():
        with errors.open("w") as file:
            process = subprocess.Popen(command(*settings), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=file, text=True)
        wait_for(run_dir / moment, process)
        stop(process, how)
        assert how != signal.SIGINT or "run the same command again to resume" in errors.read_text()
    ended = run(*settings)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "CoHyDE" in ended.stdout and (run_dir / "report.html").exists()
    store = SnapshotStore(str(run_dir / "snapshots"))
    assert store.versions("retriever") == [-1, 0, 1, 2] and store.versions("rewriter") == [0, 1, 2]
    for kind in ("encoder", "rewriter"):
        for version in store.versions(kind)[1:]:
            assert store.manifest(kind, version)["parents"] == {kind: version - 1}
    rows = json.loads((run_dir / "results.json").read_text())
    arms = {(row["arm"], row["round"]) for row in rows}
    singles = {"bm25", "frozen", "encoder_alone", "zero_shot", "sft", "qta"}
    beside = ("encoder_reranked", "encoder_remembered")
    assert arms == {(arm, None) for arm in (*singles, *beside)} | {("cohyde", number) for number in (0, 1, 2)}
    assert {(row["arm"], row["round"]) for row in rows if row["mode"] == "reranked"} == {
        *(("sft", None), ("encoder_reranked", None), ("cohyde", 2))
    }
    assert {(row["arm"], row["round"]) for row in rows if row["mode"] == "remembered"} == {
        *(("frozen", None), ("encoder_remembered", None), ("cohyde", 2))
    }
    assert "Released: " in ended.stdout
    assert store.versions("reranker") == [0] and (run_dir / "results" / "likelihoods.json").exists()
    assert all(0 <= row["value"] <= 1 for row in rows)


def test_killed_while_it_scores_the_run_is_resumed_and_trains_every_unit_once(world: Path, tmp_path: Path) -> None:
    end_and_resume(world, tmp_path, {"data/scored/0": signal.SIGKILL})


def test_what_the_user_got_wrong_is_one_line_and_exit_code_2(world: Path, tmp_path: Path) -> None:
    settings = overrides(world, tmp_path / "run")
    cases = [
        (["rewriter.sample_per_query=8"], "samples_per_query"),
        (["encoder.model=no-such-model"], "no-such-model"),
        (["placement.embedded_cpus=1"], "placement"),
        ([f"catalog.source=beir:{tmp_path / 'nowhere'}"], "nowhere"),
    ]
    for wrong, named in cases:
        ended = run(*settings, *wrong, timeout=120)
        assert ended.returncode == 2, (wrong, ended.stderr[-2000:])
        assert named in ended.stderr and len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert not (tmp_path / "run" / "snapshots").exists()


def test_a_run_directory_of_another_config_is_refused_and_left_alone(world: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text("seed: 1\n")
    ended = run(*overrides(world, run_dir), timeout=120)
    assert ended.returncode == 2 and str(run_dir) in ended.stderr
    assert [path.name for path in run_dir.iterdir()] == ["config.yaml"] and (run_dir / "config.yaml").read_text() == "seed: 1\n"


def submit(ray: str, job: list[str], environment: dict[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Submit until the head takes the job: it has no dashboard at first, then one without an agent that starts jobs."""
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(
            [ray, "job", "submit", *job], env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if "submitted successfully" in done.stdout + done.stderr:
            return done
        assert time.monotonic() < deadline, done.stderr[-2000:]
        time.sleep(1)


def test_a_submitted_job_returns_the_exit_code(world: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    # The job's python is the first on the head's PATH: that of the activated environment.
    binaries = Path(sys.executable).parent
    environment["PATH"] = f"{binaries}{os.pathsep}{environment['PATH']}"
    ray = str(binaries / "ray")
    temporary = Path("/tmp") / f"ray-e2e-{os.getpid()}"
    head = subprocess.Popen(
        [
            ray,
            "start",
            "--head",
            "--block",
            "--port=0",
            "--dashboard-port=8299",
            "--dashboard-agent-listen-port=8298",
            "--num-cpus=8",
            f"--temp-dir={temporary}",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        settings = [*overrides(world, tmp_path / "run"), *QTA_ALONE, "loop.units=1"]
        job = ["--address", "http://127.0.0.1:8299", "--working-dir", str(REPOSITORY), "--", "python", *command(*settings)[1:]]
        good = submit(ray, [*job], environment, 400)
        assert good.returncode == 0, good.stdout[-3000:] + good.stderr[-2000:]
        assert (tmp_path / "run" / "report.html").exists()
        store = SnapshotStore(str(tmp_path / "run" / "snapshots"))
        assert (store.versions("retriever"), store.versions("encoder"), store.versions("rewriter")) == ([-1], [], [0, 1])
        assert json.loads((tmp_path / "run" / "release.json").read_text())["retriever"] == -1
        bad = submit(ray, [*job, "encoder.model=no-such-model"], environment, 120)
        assert bad.returncode != 0 and "no-such-model" in bad.stdout + bad.stderr
    finally:
        started = psutil.Process(head.pid).children(recursive=True)
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(20)
        except subprocess.TimeoutExpired:
            head.kill()
        for process in psutil.wait_procs(started, timeout=10)[1]:
            process.kill()
