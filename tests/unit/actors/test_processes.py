from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from actors import processes
from actors.core.types import InputError
from actors.processes import NOTED, end_leftovers, end_processes, memory_by_role, note, only_user, within

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


def test_a_run_directory_has_one_user(tmp_path: Path) -> None:
    with only_user(tmp_path), pytest.raises(InputError, match="another run is at work"), only_user(tmp_path):
        raise AssertionError("two users")
    with only_user(tmp_path):
        pass


def test_ends_also_what_ignores_sigterm() -> None:
    child = subprocess.Popen(STUBBORN, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"up\n"
    process = psutil.Process(child.pid)
    end_processes({process}, timeout_s=0.3)
    assert not process.is_running()


def test_leftovers_are_ended_and_strangers_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "END_TIMEOUT_S", 0.6)
    session = tmp_path / "session_1" / "logs"
    session.mkdir(parents=True)
    (session / "worker-1.err").write_text("the reason")
    (session / "worker-2.err").write_text("")
    left, stranger = subprocess.Popen(SLEEPER), subprocess.Popen(SLEEPER)
    try:
        run_dir = tmp_path / "run"
        run_dir.mkdir()
        note(run_dir, [psutil.Process(left.pid)], session)
        text = (run_dir / NOTED).read_text()
        (run_dir / NOTED).write_text(text.replace("]]", f"], [{stranger.pid}, 12.5]]"))
        end_leftovers(run_dir)
        assert not psutil.pid_exists(left.pid)
        assert stranger.poll() is None, "its id was used again by another process"
        assert [p.name for p in (run_dir / "logs" / "ray").iterdir()] == ["worker-1.err"]
        assert not session.parent.exists() and not (run_dir / NOTED).exists()
        end_leftovers(run_dir)
    finally:
        for child in (left, stranger):
            child.kill()
            child.wait()


def test_memory_counts_this_process() -> None:
    memory = memory_by_role()
    assert 0.01 < memory["by_role"]["driver"] <= memory["gb"] + 0.001


def test_within_leaves_a_hanging_call_alone() -> None:
    started = time.monotonic()
    within(0.1, lambda: time.sleep(5))
    assert time.monotonic() - started < 1
