"""What a run is doing: progress of the stages, and every event as a line of ``metrics.jsonl``.

Invariants: the file is only ever appended to, one JSON object a line, each with the seconds since the epoch; a torn last line (a
killed process) is closed before the next is written. ``moves`` changes exactly when some stage's count of done work changed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.util.metrics import Counter, Gauge
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from actors.core.metrics import Sample, samples_of
from actors.interfaces import Progress as ProgressCall

REPORT_EVERY_S = 0.5
"""An actor tells its progress at most this often."""
SHOW_EVERY_S = 0.5
PLAIN_EVERY_S = 15.0
"""Where the output is no terminal, one line is printed this often."""
ANSWER_TIMEOUT_S = 10.0
RENEW_EVERY_S = 2.0


class Monitor:
    """Takes progress and events from all processes of a run; lives on the driver's node, where the run directory is."""

    def __init__(self, metrics_file: str) -> None:
        """Append events to ``metrics_file``; its directory must exist."""
        self._file = Path(metrics_file)
        self._stages: dict[str, dict[str, float]] = {}
        self._moves = 0
        self._metrics: dict[str, Gauge | Counter] = {}
        self._gauges: dict[tuple[str, tuple[tuple[str, str], ...]], Sample] = {}
        self._renewed = 0.0

    def progress(self, stage: str, done: int, total: int) -> None:
        """Note that ``stage`` did ``done`` of ``total``; a smaller ``done`` than before is a new start."""
        now = time.time()
        known = self._stages.get(stage)
        if known is None or done < known["done"] or known["total"] != total:
            known = self._stages[stage] = {"done": -1, "total": total, "begun": done, "started": now, "updated": now}
        if done != known["done"]:
            self._moves += 1
            known |= {"done": done, "updated": now}

    def log(self, record: dict[str, Any]) -> None:
        """Append one event."""
        line = json.dumps({"time": time.time(), **record}, default=str)
        with self._file.open("a+b") as stream:
            if stream.tell() and not _ends_with_newline(self._file):
                stream.write(b"\n")
            stream.write(line.encode() + b"\n")
        for sample in samples_of(record):
            self._export(sample)

    def _export(self, sample: Sample) -> None:
        """Hand a value to Ray, whose nodes answer Prometheus."""
        labels = dict(sample.labels)
        if sample.name not in self._metrics:
            made = Counter if sample.counts else Gauge
            self._metrics[sample.name] = made(sample.name, tag_keys=tuple(labels))
        metric = self._metrics[sample.name]
        if isinstance(metric, Counter):
            # A counter of Ray refuses 0.
            if sample.value > 0:
                metric.inc(sample.value, labels)
        else:
            metric.set(sample.value, labels)
            self._gauges[sample.name, sample.labels] = sample

    def snapshot(self) -> dict[str, Any]:
        """``{"moves": int, "stages": {stage: {"done", "total", "begun", "started", "updated"}}}``.

        ``begun`` is what was done already when it started; times are in seconds since the epoch.
        """
        self._renew()
        return {"moves": self._moves, "stages": {name: dict(stage) for name, stage in self._stages.items()}}

    def _renew(self) -> None:
        """Set all gauges again: Ray exports a gauge once after it was set, and a scraper that comes later would not find it."""
        now = time.monotonic()
        if now - self._renewed >= RENEW_EVERY_S:
            self._renewed = now
            for sample in list(self._gauges.values()):
                self._export(sample)

    def health(self) -> int:
        """The process id."""
        return os.getpid()


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def memory_mb() -> float:
    """Proportional (where the system tells it) or resident memory of this process, in MiB."""
    info = psutil.Process().memory_full_info()
    return float(getattr(info, "pss", info.rss)) / 2**20


class Reporter:
    """Tells a monitor's handle the progress of stages, from inside another process; picklable."""

    def __init__(self, monitor: Any) -> None:
        """``monitor`` is an actor handle of ``Monitor``."""
        self._monitor = monitor

    def stage(self, name: str) -> ProgressCall:
        """The ``Progress`` of one stage: throttled, fire and forget; the first and the last step are always told."""
        told = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= REPORT_EVERY_S or done >= total:
                told = now
                self._monitor.progress.remote(name, done, total)

        return progress

    def log(self, record: dict[str, Any]) -> None:
        """Append one event, fire and forget."""
        self._monitor.log.remote(record)


class Display:
    """Shows a monitor's stages while the body of the ``with`` runs: bars on a terminal, now and then a line elsewhere."""

    def __init__(self, monitor: Any, console: Console) -> None:
        """``monitor`` is an actor handle of ``Monitor``."""
        self._monitor, self._console = monitor, console
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="display", daemon=True)

    def __enter__(self) -> Display:
        """Start showing."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        self._ended.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        show = self._bars if self._console.is_terminal else self._lines
        try:
            show()
        except (ray.exceptions.RayError, ConnectionError):
            # The cluster is going down, and with it what there was to show.
            return

    def _stages(self) -> dict[str, dict[str, float]]:
        snapshot: dict[str, Any] = ray.get(self._monitor.snapshot.remote(), timeout=ANSWER_TIMEOUT_S)
        return {name: stage for name, stage in snapshot["stages"].items() if stage["done"] < stage["total"]}

    def _bars(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as bars:
            tasks: dict[str, TaskID] = {}
            while not self._ended.wait(SHOW_EVERY_S):
                stages = self._stages()
                for name in set(tasks) - set(stages):
                    bars.remove_task(tasks.pop(name))
                for name, stage in stages.items():
                    if name not in tasks:
                        tasks[name] = bars.add_task(name, total=stage["total"])
                    bars.update(tasks[name], completed=stage["done"], total=stage["total"])

    def _lines(self) -> None:
        while not self._ended.wait(PLAIN_EVERY_S):
            for name, stage in self._stages().items():
                self._console.print(describe(name, stage, time.time()), highlight=False)


def describe(name: str, stage: dict[str, float], now: float) -> str:
    """One line: what, how far, how long yet ("generate: 120 of 800, 0:20 gone, about 1:53 left")."""
    done, total, gone = stage["done"], stage["total"], now - stage["started"]
    since = done - stage["begun"]
    left = f", about {_clock(gone / since * (total - done))} left" if since > 0 else ""
    return f"{name}: {done:.0f} of {total:.0f}, {_clock(gone)} gone{left}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
