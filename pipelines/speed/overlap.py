"""What overlapping the stages gains: ``python -m pipelines.speed.overlap``; the last line is one JSON object.

The same units run three times from one start, with real models: ``lag 0`` (one stage after the other, each with its own share
of the cores), ``overlapped`` (the same shares, a unit being generated while the one before is trained) and ``colocated`` (one stage
after the other, each with the whole machine).

Invariants: the variants differ in lag and threads alone; nothing is written but below a temporary directory. The ideal is the
slowest stage's work at lag 0: with stages that share nothing, no schedule is faster.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from actors import remote
from actors.core.ranking import paired_test
from actors.core.types import LABELLED_KINDS, InputError
from configs.load import load
from configs.schema import Config
from pipelines import cotrain, job
from pipelines.arm_run import STOP_TIMEOUT_S, ArmRun
from pipelines.command_line import library_logs, run_app
from pipelines.job import Job
from pipelines.units import COHYDE, Planned

STAGES = ("generate", "train_encoder", "build_index", "score", "train_rewriter")
ROLES = ("rewriter", "encoder_trainer", "rewriter_trainer", "index_builder", "scorer")


@dataclass(frozen=True)
class Variant:
    """One way to run the same units."""

    name: str
    lag: int
    whole_machine: bool


VARIANTS = (Variant("lag 0", 0, False), Variant("overlapped", 1, False), Variant("colocated", 0, True))


@dataclass
class Result:
    """Wall time of the loop, its stage events, and nDCG@5 of each dev query at its end."""

    seconds: float
    stages: list[dict[str, Any]]
    dev: list[float]

    def worked(self, stage: str) -> float:
        """Seconds that a stage worked in all."""
        return float(sum(e["worked_s"] for e in self.stages if e["stage"] == stage))

    def waited(self, stage: str) -> float:
        """Seconds that a stage waited in all."""
        return float(sum(e["waited_s"] for e in self.stages if e["stage"] == stage))

    @property
    def lags(self) -> Counter[int]:
        """How often records were consumed at which lag."""
        return Counter(int(e["lag"]) for e in self.stages if "lag" in e)


def measure(config: Config, scratch: Path, console: Console) -> dict[str, Result]:
    """All variants, from one start: the release that ``loop.start_from`` names, else a warm start."""
    console.print(f"one start for all: {config.loop.start_from or 'a warm start'}", highlight=False)
    if config.loop.start_from is None:
        job.run(_changed(config, run_dir=str(scratch / "start")), False, console, _warm_start)
        config = _changed(config, loop=config.loop.model_copy(update={"start_from": f"{scratch / 'start'}@0"}))
    results = {}
    for variant in VARIANTS:
        console.print(f"variant: {variant.name}", highlight=False)
        varied = _variant(config, variant, scratch)
        results[variant.name] = _run(varied, console)
        console.print(f"variant {variant.name}: {results[variant.name].seconds:.0f} s", highlight=False)
        # A variant's snapshots take gigabytes.
        shutil.rmtree(varied.run_dir)
    return results


async def _warm_start(shared: Job, console: Console) -> None:
    async with ArmRun(shared, COHYDE, console).ready():
        return


def _run(config: Config, console: Console) -> Result:
    found: dict[str, Any] = {}

    async def work(shared: Job, told: Console) -> None:
        arm, events = ArmRun(shared, COHYDE, told), list[dict[str, Any]]()
        async with arm.ready() as stages:
            units = Planned(config.loop, config.seed, [q.query_id for q in shared.looped])
            await cotrain.run(stages, units, config.loop, events.append, COHYDE)
            await asyncio.gather(*(learner.stop(STOP_TIMEOUT_S) for learner in arm.learners))
            dev = shared.corpus.select("dev", LABELLED_KINDS)
            asked = arm.scorer.figures.remote(config.loop.rounds, dev, None, 0.0)
            found["dev"] = await remote.ask(asked, arm.timeout_s, "the scorer, which measures the last retriever on dev")
        found["stages"] = [event for event in events if event["event"] == "stage"]
        found["seconds"] = next(event["seconds"] for event in events if event["event"] == "ended")

    job.run(config, False, console, work)
    return Result(found["seconds"], found["stages"], found["dev"])


def _variant(config: Config, variant: Variant, scratch: Path) -> Config:
    cores = os.cpu_count() or 1
    threads = cores if variant.whole_machine else max(1, cores // 2)
    places = {role: getattr(config.placement, role).model_copy(update={"threads": threads}) for role in ROLES}
    loop = config.loop.model_copy(update={"max_rewriter_lag": variant.lag})
    placement = config.placement.model_copy(update=places)
    return _changed(config, run_dir=str(scratch / variant.name.replace(" ", "-")), loop=loop, placement=placement)


def _changed(config: Config, **changes: Any) -> Config:
    return config.model_copy(update=changes)


def _from_a_start(config: Config) -> Config:
    """Without a start that is not there: a machine that ran no demo makes a warm start of its own."""
    start = config.loop.start_from
    if start is None or Path(start.partition("@")[0]).exists():
        return config
    return _changed(config, loop=config.loop.model_copy(update={"start_from": None}))


def summary(results: dict[str, Result]) -> dict[str, float]:
    """{speedup, bound, bound_share, over_colocated, quality_delta_pp, p_value}."""
    alone, overlapped, colocated = (results[variant.name] for variant in VARIANTS)
    speedup = alone.seconds / overlapped.seconds
    bound = alone.seconds / max(alone.worked(stage) for stage in STAGES)
    difference, p_value = paired_test(overlapped.dev, alone.dev)
    return {
        "speedup": speedup,
        "bound": bound,
        "bound_share": speedup / bound,
        "over_colocated": colocated.seconds / overlapped.seconds,
        "quality_delta_pp": 100 * difference,
        "p_value": p_value,
    }


def table(results: dict[str, Result]) -> Table:
    """A line for each variant: wall time, worked and waited of each stage as shares of it, lags, dev quality."""
    shown = Table(box=box.SIMPLE_HEAD)
    for name in ("", "seconds", *(f"{stage}: worked / waited" for stage in STAGES), "records at lag", "dev nDCG@5"):
        shown.add_column(name, justify="right" if name else "left")
    for name, result in results.items():
        spent = [(result.worked(stage), result.waited(stage)) for stage in STAGES]
        shares = [" / ".join(f"{100 * seconds / result.seconds:.0f} %" for seconds in pair) for pair in spent]
        lags = ", ".join(f"{lag}: {count}" for lag, count in sorted(result.lags.items()))
        shown.add_row(name, f"{result.seconds:.0f}", *shares, lags, f"{100 * sum(result.dev) / len(result.dev):.1f}")
    return shown


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def command(
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides, as loop.queries_per_unit=16.")] = None,
    config: Annotated[str, typer.Option(help="YAML file whose sizes are measured.")] = "configs/bench_async.yaml",
    units: Annotated[int, typer.Option(help="Units that each variant runs.", min=2)] = 8,
) -> None:
    """Run the same units with and without overlap; the last line is one JSON object with the figures."""
    resolved = load(config, [*(overrides or []), f"loop.units={units}"])
    if resolved.loop.mode != "continual":
        raise InputError(f"--config {config}: loop.mode is {resolved.loop.mode}; give a configuration of the continual mode")
    resolved = _from_a_start(resolved)
    with tempfile.TemporaryDirectory(prefix="cohyde-bench-") as scratch:
        library_logs(Path(scratch))
        results = measure(resolved, Path(scratch), Console(stderr=True))
        figures = {"units": units, **{name: float(f"{value:.4g}") for name, value in summary(results).items()}}
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table(results))
    print(
        f"Overlapped {figures['speedup']:.2f} times as fast as one stage after the other; no schedule of these stages could exceed"
        f" {figures['bound']:.2f} (the slowest stage alone)."
    )
    print(json.dumps(figures))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.speed.overlap", arguments)


if __name__ == "__main__":
    sys.exit(main())
