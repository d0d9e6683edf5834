"""Quality along one setting, each value trained anew, as ``--vary catalog.max_train_queries=1,10,null``.

Invariants: values differ in the one setting alone; all are shown in the order that they were given in.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from actors.core.types import InputError
from configs.load import load as load_config
from pipelines.benchmark import aggregate, measure, tables
from pipelines.benchmark.aggregate import FROZEN, Cell, Line
from pipelines.benchmark.suites import parts
from pipelines.benchmark.tables import Point
from pipelines.command_line import run_app
from pipelines.comparison import grids
from pipelines.comparison.compare import COHYDE, ArmMode
from pipelines.files import write_json, write_whole

MODES: tuple[ArmMode, ...] = ("raw", "fused", "reranked", "remembered", "named")
SINGLES = (Line("bm25", -1, "bm25"), FROZEN, Line("encoder_alone", -1, "raw"), Line("sft", -1, "reranked"))

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def values(given: str) -> tuple[str, list[str]]:
    """Setting and values of ``name=a,b,c``. Raises InputError for another form."""
    name, _, listed = given.partition("=")
    found = [value.strip() for value in listed.split(",")]
    if not name or len(found) < 2 or not all(found) or len(set(found)) < len(found):
        raise InputError(f"--vary {given}: give a setting and two values or more, as catalog.max_train_queries=10,100,null")
    return name, found


def points(cells: list[Cell], place: str) -> list[Point]:
    """The single components, and the last round of CoHyDE in the modes that serving has."""
    last = max(c.round for c in cells if c.arm == COHYDE)
    names = {Line(COHYDE, last, mode): f"CoHyDE, {mode}" for mode in MODES}
    names |= {line: line.label for line in SINGLES}
    shown = [c for c in cells if c.metric == tables.SHOWN and Line(c.arm, c.round, c.mode) in names]
    return [
        Point(names[Line(c.arm, c.round, c.mode)], place, c.slice, c.queries, c.value, c.spread, c.difference, c.p_value)
        for c in shown
    ]


def telling(rows: list[Point]) -> list[Point]:
    """Without modes of CoHyDE that rank at every place as one before them does, for dev gave them no weight anywhere."""
    values: dict[str, list[float]] = defaultdict(list)
    for point in rows:
        values[point.line].append(point.value)
    ours = [line for mode in MODES if (line := f"CoHyDE, {mode}") in values]
    same = {line for place, line in enumerate(ours) if any(values[line] == values[earlier] for earlier in ours[:place])}
    return [point for point in rows if point.line not in same]


@app.command()
def vary(
    suite: Annotated[str, typer.Option(help="aws, or a folder with train, dev and test, as beir:DIR.")],
    vary: Annotated[str, typer.Option(help="A setting and its values, as catalog.max_train_queries=1,10,100,null.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides for all runs.")] = None,
    seeds: Annotated[int, typer.Option(help="How many, from 17 on.", min=1, max=20)] = 3,
    config: Annotated[str, typer.Option(help="YAML file of the runs.")] = "configs/benchmark.yaml",
    out: Annotated[Path, typer.Option(help="Where runs and tables go.")] = Path("runs/benchmark"),
) -> None:
    """Train and measure every arm for each value of one setting."""
    name, wanted = values(vary)
    [part] = parts(suite)
    for value in wanted:
        load_config(config, [*(overrides or []), f"{name}={value}"])
    if not measure.trainable(part, load_config(config, overrides or [])):
        raise InputError(f"--suite {suite}: has no training queries, so no setting of a run can be varied on it")
    folder, rows, beside = out / part.folder / name, list[Point](), list[Point]()
    for value in wanted:
        given = [*(overrides or []), f"{name}={value}"]
        measured = measure.train(part, config, given, measure.seed_range(seeds), folder / value)
        rows += points(aggregate.cells(measured.seeds, measured.queries), value)
        beside += points(aggregate.cells(measured.seeds, measured.queries, FROZEN), value)
    rows, beside = telling(rows), telling(beside)
    write_json(folder / "curve.json", [asdict(point) for point in rows])
    write_whole(folder / "curve.svg", lambda path: tables.points_curve(rows, name).savefig(path, format="svg"))
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for grid in (
        tables.points(rows, f"NDCG@5 by {name} (%)"),
        tables.point_tests(rows, f"Against the strongest single component of each slice, by {name} (NDCG@5, points)"),
        tables.point_tests(beside, f"Against the {FROZEN.label}, by {name} (NDCG@5, points)"),
    ):
        console.print(grids.draw(grid), "")
    console.print(f"Files: {folder}/curve.json, curve.svg", highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.benchmark.vary", arguments)


if __name__ == "__main__":
    sys.exit(main())
