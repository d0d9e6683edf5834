"""Commands that look after a run: what it does, what it serves, whose data it forgets.

Invariants: they read the run's files and need neither the cluster nor the running job; every change of what is served goes through
``Releases``, with its audit trail; a failing command changes nothing.
"""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from actors import found
from actors.core.limits import Limits
from actors.core.snapshots import SnapshotStore
from actors.core.types import InputError
from actors.releases import Releases
from actors.run_dir import CONFIG_FILE, storage_root
from configs.load import load as load_config
from configs.schema import Config
from pipelines.online.forgetting import request
from pipelines.streams.jsonl import blank_tenant

TAIL_BYTES = 4_000_000
"""Of metrics.jsonl; far more than what happened lately."""
DECISIONS_SHOWN = 5

RunDir = Annotated[Path, typer.Argument(help="The run directory.")]
Number = Annotated[int, typer.Argument(help="The release's number.")]
Why = Annotated[str, typer.Option("--reason", help="For the audit trail.")]

releases_app = typer.Typer(no_args_is_help=True, help="What a continual run serves, and who decided so.")
log_app = typer.Typer(no_args_is_help=True, help="The query log of a continual run.")


def open_run(run_dir: Path) -> tuple[Config, Releases]:
    """The run's configuration and releases. Raises InputError for a folder that is no run directory."""
    if not (run_dir / CONFIG_FILE).is_file():
        raise InputError(f"RUN_DIR={run_dir}: not a run directory (no {CONFIG_FILE})")
    config = load_config(str(run_dir / CONFIG_FILE), [])
    root = storage_root(config, run_dir)
    return config, Releases(SnapshotStore(f"{root}/snapshots"), f"{root}/releases")


@releases_app.command("list")
def list_releases(run_dir: RunDir) -> None:
    """All candidates, with what became of them."""
    _, releases = open_run(run_dir)
    served = releases.served()
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("release", "rewriter", "retriever", "weight", "figures (nDCG@5)", "last decision"):
        table.add_column(name)
    last = {entry["number"]: entry for entry in releases.audit()}
    for number in releases.numbers():
        release, entry = releases.get(number), last.get(number)
        mark = " served" + (", pinned" if served.pinned else "") if served and served.number == number else ""
        decided = f"{entry['action']} by {entry['by']} {_when(entry['time'])}" if entry else ""
        table.add_row(
            f"{number}{mark}",
            str(release.rewriter),
            str(release.retriever),
            f"{release.fusion_weight:g}",
            _figures(release.figures),
            decided,
        )
    _console().print(table)


@releases_app.command("show")
def show_release(run_dir: RunDir, number: Number) -> None:
    """One release and all decisions on it."""
    _, releases = open_run(run_dir)
    release = releases.get(number)
    console = _console()
    console.print(
        f"release {number}: rewriter {release.rewriter}, retriever {release.retriever}, catalog {release.catalog},"
        f" weight of the rewrites {release.fusion_weight:g}; {_figures(release.figures)}",
        highlight=False,
    )
    if release.limits:
        console.print(_limits(Limits(**release.limits)), highlight=False)
    _decisions(console, [entry for entry in releases.audit() if entry["number"] == number])


def _limits(limits: Limits) -> str:
    return (
        f"limits of serving, on dev: abstains below {limits.abstain_below:.3f} (loses {100 * limits.right_lost:.1f} % of right"
        f" answers, spares {100 * limits.wrong_spared:.0f} % of queries without one); answers {limits.mean_tools:.1f} tools in the"
        f" mean (keeps {100 * limits.recall_kept:.0f} % of the recall of ten); auto rewrites {100 * limits.rewritten:.0f} % of"
        f" searches ({100 * limits.auto_gain:+.1f} points of nDCG@5)"
    )


@releases_app.command("diff")
def diff_releases(run_dir: RunDir, one: Number, other: Annotated[int, typer.Argument(help="Another release's number.")]) -> None:
    """Two releases side by side."""
    _, releases = open_run(run_dir)
    ours, theirs = releases.get(one), releases.get(other)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", str(one), str(other), "difference"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("rewriter", "retriever", "catalog", "fusion_weight"):
        mine, yours = getattr(ours, name), getattr(theirs, name)
        table.add_row(name.replace("_", " "), str(mine), str(yours), "" if mine == yours else "differs")
    for name in sorted(ours.figures.keys() | theirs.figures.keys()):
        a, b = ours.figures.get(name), theirs.figures.get(name)
        change = f"{100 * (b - a):+.1f}" if a is not None and b is not None else ""
        table.add_row(f"{name} nDCG@5", *(f"{100 * v:.1f}" if v is not None else "-" for v in (a, b)), change)
    _console().print(table)


@releases_app.command("promote")
def promote(run_dir: RunDir, number: Number, reason: Why = "by hand") -> None:
    """Serve a release, whatever the gate said of it."""
    _, releases = open_run(run_dir)
    releases.promote(number, getpass.getuser(), reason)
    print(f"release {number} is served")


@releases_app.command("rollback")
def rollback(run_dir: RunDir, reason: Why = "by hand") -> None:
    """Serve what was served before."""
    _, releases = open_run(run_dir)
    print(f"release {releases.rollback(getpass.getuser(), reason)} is served again")


@releases_app.command("pin")
def pin(run_dir: RunDir, off: Annotated[bool, typer.Option("--off", help="Let candidates in again.")] = False) -> None:
    """Hold what is served against candidates."""
    _, releases = open_run(run_dir)
    number = releases.pin(getpass.getuser(), not off)
    print(f"release {number} is {'no longer ' if off else ''}pinned")


@log_app.command("forget")
def forget(run_dir: RunDir, tenant: Annotated[str, typer.Option(help="Whose events are to go.")]) -> None:
    """Delete a tenant's events: in the log (a directory of files) now, in the run's records as they are replaced by later units."""
    config, _ = open_run(run_dir)
    root = storage_root(config, run_dir)
    request(root, tenant, time.time())
    found.forget(root, tenant)
    told = "asked the run to drop what it holds of"
    if config.stream.source == "jsonl":
        blanked = blank_tenant(Path(config.stream.address), tenant)
        print(f"{blanked} events of {tenant} are blank in {config.stream.address}; {told} {tenant}")
    else:
        print(f"{told} {tenant}, and to pass over its earlier events; {config.stream.source} itself must delete its own records")


def status(run_dir: RunDir) -> None:
    """One screen: stages, lags, the log's queue, drift, what is served, the gate's last decisions."""
    config, releases = open_run(run_dir)
    events = _tail(run_dir / "metrics.jsonl")
    console, now = _console(), time.time()
    sign = f"last sign of life {_ago(now - events[-1]['time'])} ago" if events else "nothing was logged yet"
    console.print(f"{run_dir}: {config.loop.mode}, {sign}", highlight=False)
    stages = {e["stage"]: e for e in events if e["event"] == "stage"}
    if stages:
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("stage", "last unit", "worked", "waited", "lag", "ended"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for name, e in stages.items():
            spent = (f"{e['worked_s']:.0f} s", f"{e['waited_s']:.0f} s")
            table.add_row(name, str(e["unit"]), *spent, str(e.get("lag", "-")), f"{_ago(now - e['time'])} ago")
        console.print(table)
    for kind, name in (("intake", "query log"), ("drift", "drift")):
        newest = next((e for e in reversed(events) if e["event"] == kind), None)
        if newest:
            console.print(f"{name}: {_pairs(newest)}", highlight=False)
    served = releases.served()
    told = f"release {served.number}{', pinned' if served.pinned else ''}, since {_when(served.since)}" if served else "nothing yet"
    console.print(f"served: {told}", highlight=False)
    _decisions(console, releases.audit()[-DECISIONS_SHOWN:])


def _decisions(console: Console, entries: Iterable[dict[str, Any]]) -> None:
    for entry in entries:
        line = f"  {_when(entry['time'])} release {entry['number']} {entry['action']} by {entry['by']}: {entry['reason']}"
        console.print(line, highlight=False, soft_wrap=True)


def _tail(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().split(b"\n")
    # The first line is cut off where the file is longer, the last one where a process was killed.
    whole = lines[1:] if size > TAIL_BYTES else lines
    return [json.loads(line) for line in whole if line.endswith(b"}")]


def _pairs(event: dict[str, Any]) -> str:
    shown = {k: v for k, v in event.items() if k not in ("event", "time")}
    return ", ".join(f"{k.replace('_', ' ')} {f'{v:.3g}' if isinstance(v, float) else v}" for k, v in shown.items())


def _figures(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in figures.items())


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _ago(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)
