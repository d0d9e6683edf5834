"""``python -m pipelines.benchmark --suite NAME --seeds 3``: tables on the terminal, and in files of ``--out``.

Invariants: files are written whole, at the end of each part; the same command goes on where an earlier one ended.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from actors.core.types import InputError
from configs.load import load as load_config
from pipelines.benchmark import aggregate, measure, tables
from pipelines.benchmark.aggregate import FROZEN, Line
from pipelines.benchmark.suites import Part, parts
from pipelines.command_line import run_app
from pipelines.comparison import grids
from pipelines.evaluate import progress_bars
from pipelines.files import write_json, write_text, write_whole

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def benchmark(
    suite: Annotated[str, typer.Option(help="aws; or KIND:DIR: beir, toolret, mair, mtrb, beir-written, mtrb-written.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides of the configuration, for all seeds.")] = None,
    seeds: Annotated[int, typer.Option(help="How many, from 17 on.", min=1, max=20)] = 3,
    config: Annotated[str, typer.Option(help="YAML file of the runs.")] = "configs/benchmark.yaml",
    out: Annotated[Path, typer.Option(help="Where runs and tables go.")] = Path("runs/benchmark"),
    release: Annotated[list[str] | None, typer.Option(help="RUN_DIR[@version], a seed each, where nothing trains.")] = None,
) -> None:
    """Measure every arm on a suite: trained on it where it has training queries, else as released by runs elsewhere."""
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for part in parts(suite):
        _one(part, overrides or [], measure.seed_range(seeds), config, out / part.folder, release or [], console)


def _one(part: Part, overrides: list[str], seeds: range, config: str, out: Path, releases: list[str], console: Console) -> None:
    own = measure.trainable(part, load_config(config, overrides))
    if own and releases:
        raise InputError(f"--release: {part.name} has training queries, so its arms are trained on it; leave the option out")
    if own:
        measured = measure.train(part, config, overrides, seeds, out)
    else:
        with progress_bars() as watch:
            measured = measure.transfer(part, releases, watch)
    cells = aggregate.cells(measured.seeds, measured.queries)
    several = any(len(query.gold) > 1 for query in measured.queries)
    made = [tables.quality(cells), *(tables.quality(cells, m) for m in tables.OF_SEVERAL if several), tables.differences(cells)]
    frozen = aggregate.cells(measured.seeds, measured.queries, FROZEN)
    made += [tables.against_frozen(frozen, m) for m in (tables.SHOWN, *(tables.OF_SEVERAL if several else ()))]
    for arm, mode in tables.APART.items():
        apart = Line(arm, -1, mode)
        if all(apart in figures for figures in measured.seeds):
            made.append(tables.co_training(aggregate.cells(measured.seeds, measured.queries, apart), mode))
    made += [tables.cost(measured.costs)] if measured.costs else []
    shown = [grid for grid in made if grid.lines]
    console.print(f"\n{part.name}", style="bold", highlight=False)
    for grid in shown:
        console.print(grids.draw(grid), "")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "benchmark.json", [asdict(cell) for cell in cells])
    write_text(out / "benchmark.md", "\n\n".join(grids.markdown_grid(grid) for grid in shown) + "\n")
    if any(cell.round > 0 for cell in cells):
        write_whole(out / "benchmark.svg", lambda path: tables.curve(cells).savefig(path, format="svg"))
    console.print(f"Files: {out}/benchmark.json, benchmark.md", highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.benchmark", arguments)


if __name__ == "__main__":
    sys.exit(main())
