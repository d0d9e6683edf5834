"""The processes that a run starts, and the lock on its directory: what must be ended, whatever happened. No ray here.

Invariants: only processes whose id and start time were noted are ever ended; a run directory has one run at work in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from actors.core.types import InputError

ROLES = {
    "RewriterHost": "rewriter",
    "VLLM": "rewriter",
    "ScorerHost": "scorer",
    "IndexBuilderHost": "index_builder",
    "TrainWorker": "learners",
}
"""From a part of a process's title to what it does; other processes of the cluster are "ray"."""

NOTED = "cluster.json"
END_TIMEOUT_S = 15.0


def note(run_dir: Path, processes: Iterable[psutil.Process], logs: Path) -> None:
    """Note a cluster's processes in ``run_dir``, so that a later run can end them, and link its logs to ``logs/ray``."""
    started = [[process.pid, process.create_time()] for process in processes]
    (run_dir / NOTED).write_text(json.dumps({"processes": started}))
    link = run_dir / "logs" / "ray"
    link.parent.mkdir(exist_ok=True)
    remove(link)
    link.symlink_to(logs)


def forget(run_dir: Path) -> None:
    """The noted processes are ended: keep their logs, drop the note."""
    keep_logs(run_dir)
    (run_dir / NOTED).unlink(missing_ok=True)


def keep_logs(run_dir: Path) -> None:
    """Put what the workers wrote in place of the link to it, and drop the session's directory."""
    logs = run_dir / "logs" / "ray"
    if not logs.is_symlink():
        return
    source = logs.resolve()
    logs.unlink()
    logs.mkdir()
    for pattern in ("worker-*", "raylet.*", "gcs_server.*", "ray-data/*.log"):
        for file in source.glob(pattern):
            if file.stat().st_size:
                shutil.copy2(file, logs / file.name)
    if source.parent.name.startswith("session_"):
        shutil.rmtree(source.parent, ignore_errors=True)


@contextlib.contextmanager
def only_user(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir`` for this process; raises ``InputError`` where another process holds it. The lock dies with its process."""
    with (run_dir / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"run_dir={run_dir}: another run is at work in it; wait for it or choose another run_dir") from error
        yield


def end_leftovers(run_dir: Path) -> None:
    """End what a killed driver's cluster left behind: processes whose id and start time were noted."""
    file = run_dir / NOTED
    if not file.exists():
        return
    left = set()
    for pid, created in json.loads(file.read_text())["processes"]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.create_time() == created:
                left |= {process, *process.children(recursive=True)}
    end_processes(left, END_TIMEOUT_S)
    forget(run_dir)


def children() -> set[psutil.Process]:
    """All descendants of this process."""
    return set(psutil.Process().children(recursive=True))


def end_processes(processes: set[psutil.Process], timeout_s: float) -> None:
    """SIGTERM, then SIGKILL to what is left."""
    _, alive = psutil.wait_procs(processes, timeout=min(2.0, max(0.0, timeout_s / 3)))
    for signal in ("terminate", "kill"):
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                getattr(process, signal)()
        _, alive = psutil.wait_procs(alive, timeout=max(0.5, timeout_s / 3))


def memory_by_role() -> dict[str, Any]:
    """Memory of the run on this machine in GB: ``{"gb": sum, "by_role": {role: sum of its processes}}``.

    Proportional set size where the system tells it, so that shared pages count once. On a cluster that was joined, the actors are
    no descendants of this process: there all processes of Ray's actors on this machine count.
    """
    joined = os.environ.get("RAY_ADDRESS", "local") != "local"
    seen = {psutil.Process(), *children()} | (set(psutil.process_iter()) if joined else set())
    roles: dict[str, float] = {}
    for process in seen:
        with contextlib.suppress(psutil.Error):
            title, ours = " ".join(process.cmdline()[:1]), process.pid == os.getpid()
            if joined and not ours and not title.startswith("ray::"):
                continue
            role = "driver" if ours else next((role for part, role in ROLES.items() if part in title), "ray")
            info = process.memory_full_info()
            roles[role] = roles.get(role, 0.0) + float(getattr(info, "pss", info.rss)) / 1e9
    return {"gb": round(sum(roles.values()), 3), "by_role": {role: round(gb, 3) for role, gb in sorted(roles.items())}}


def give_back_memory() -> None:
    """Return what is free to the system: glibc keeps it otherwise, and a learner that waits holds what its peak needed."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def within(timeout_s: float, call: Callable[[], Any]) -> None:
    """Call in a thread that is left alone after ``timeout_s``."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(timeout_s)


def remove(path: Path) -> None:
    """Remove a link or a directory, if it is there."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
