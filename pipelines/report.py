"""``report.html`` of a run, built from the files of its run directory alone.

Invariants: the page opens offline (figures inlined, nothing fetched, no script); it is written whole or not at all; a run that is
not finished still gives a page, which says what is missing. No figure is computed here that ``results.json`` does not hold: the
page shows, it does not judge anew.

    python -m pipelines.report RUN_DIR
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from actors.core.types import InputError
from actors.run_dir import RELEASE_FILE
from pipelines.command_line import run_app
from pipelines.comparison.compare import COHYDE, LABELS, Row, last_round, verdict
from pipelines.comparison.grids import Grid, component, grids
from pipelines.comparison.releasing import told_release
from pipelines.reporting import figures


@dataclass
class Run:
    """What a run directory holds, as far as it is there; ``missing`` says in words what is not."""

    name: str
    config_text: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    released: str = ""
    stream: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def continual(self) -> bool:
        """Whether the run learns from a query log, and so has no comparison at its end."""
        return (self.config.get("loop") or {}).get("mode") == "continual"


def read(run_dir: Path) -> Run:
    """The files of a run directory. Raises InputError where there is no such directory or it is not a run's."""
    if not (run_dir / "config.yaml").is_file() and not (run_dir / "metrics.jsonl").is_file():
        raise InputError(f"run directory {run_dir}: holds neither config.yaml nor metrics.jsonl; name the run_dir of a run")
    run = Run(run_dir.resolve().name)
    if (run_dir / "config.yaml").is_file():
        run.config_text = (run_dir / "config.yaml").read_text()
        run.config = yaml.safe_load(run.config_text) or {}
    else:
        run.missing.append("config.yaml (the settings)")
    run.events = _events(run_dir / "metrics.jsonl", run.missing)
    if run.continual:
        stream = run_dir / "prequential.json"
        run.stream = json.loads(stream.read_text()) if stream.is_file() else {}
        return run
    run.rows = _records(run_dir / "results.json", "the comparison on test queries, written when the last round ends", run.missing)
    run.samples = _records(run_dir / "samples.json", "sample queries", run.missing)
    release = json.loads((run_dir / RELEASE_FILE).read_text()) if (run_dir / RELEASE_FILE).is_file() else {}
    # Frozen models that were prepared to be served were not chosen among rounds.
    if "dev_ndcg5" in release:
        run.released = told_release(release)
    return run


def write(run_dir: Path) -> Path:
    """Write ``report.html`` into the run directory and return its path. Raises InputError as ``read`` does."""
    path = run_dir / "report.html"
    page = render(read(run_dir))
    draft = path.with_suffix(".html.tmp")
    draft.write_text(page, encoding="utf-8")
    os.replace(draft, path)
    return path


def render(run: Run) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    stages = figures.stages(run.events)
    return environment.get_template("template.html").render(
        run=run,
        continual=run.continual,
        facts=_facts(run, stages),
        verdicts=_verdicts(run.rows),
        grids=[_grid_view(grid) for grid in grids(run.rows)],
        quality=figures.quality_figures(run.events, run.rows),
        losses=figures.loss_figures(run.events, stages),
        rewards=figures.reward_figures(stages),
        lag=figures.lag(stages),
        times=figures.time_figures(run.events, stages),
        memory=figures.memory_figures(run.events),
        stage_table=_stage_table(stages),
        stream=figures.stream_figures(run.stream),
        stream_rows=_stream_rows(run.stream),
        gate=_gate_lines(stages),
        samples=[_sample(sample) for sample in run.samples],
        written=time.strftime("%Y-%m-%d %H:%M"),
    )


def _events(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        missing.append("metrics.jsonl (everything measured on the way)")
        return []
    events, broken = [], 0
    for line in path.read_text().splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            broken += 1
    if broken:
        missing.append(f"{broken} line(s) of metrics.jsonl, cut off where the run was stopped")
    return events


def _records(path: Path, what: str, missing: list[str]) -> list[Any]:
    if not path.is_file():
        missing.append(f"{path.name} ({what})")
        return []
    try:
        return list(json.loads(path.read_text()))
    except json.JSONDecodeError:
        missing.append(f"{path.name} ({what}): the file is cut off")
        return []


def _facts(run: Run, stages: figures.StageRuns) -> list[tuple[str, str]]:
    """What was run, as (name, value)."""
    config = run.config
    facts = []
    if config:
        loop, rounds = config["loop"], "rounds" if config["loop"]["mode"] == "rounds" else "units"
        done = len(stages.get((COHYDE, "train_rewriter"), {}))
        facts.append(("Catalog", f"{config['catalog']['source']}, services: {_listed(config['catalog']['services'])}"))
        frozen = ", frozen: what is called CoHyDE here is QTA" if config["encoder"].get("frozen") else ""
        facts.append(("Encoder", config["encoder"]["model"] + frozen))
        facts.append(("Rewriter", config["rewriter"]["model"]))
        facts.append(("Loop", f"{done} of {loop['units']} {rounds}" if loop["units"] else f"{done} {rounds}"))
    counts = {r["slice"]: r["n"] for r in run.rows if r["tools"] == "all" and r["slice"] != "vague"}
    if counts:
        facts.append(("Test queries", ", ".join(f"{name} {count}" for name, count in counts.items())))
    if run.events:
        facts.append(("Time", f"{figures.elapsed_minutes(run.events)[-1]:.0f} min"))
    memory = [e["gb"] for e in run.events if e["event"] == "memory"]
    if memory:
        facts.append(("Peak memory", f"{max(memory):.1f} GB"))
    return facts


def _listed(services: str | list[str]) -> str:
    return services if isinstance(services, str) else f"{len(services)} named"


def _verdicts(rows: Sequence[Row]) -> list[dict[str, str]]:
    """CoHyDE's last round, as dev would have it ranked, against the strongest single component: for standard and vague."""
    newest = last_round(rows)
    weighed = {r["mode"] for r in rows if (r["arm"], r["round"]) == (COHYDE, newest) and r["weight"]}
    mode = next((m for m in ("named", "reranked", "remembered") if m in weighed), "fused")
    said = []
    for row in rows:
        at = (row["arm"], row["round"], row["mode"], row["tools"], row["metric"]) == (COHYDE, newest, mode, "all", "nDCG@5")
        difference, p_value = row["difference"], row["p_value"]
        if at and row["slice"] in ("standard", "vague") and difference is not None and p_value is not None:
            said.append(
                {
                    "slice": row["slice"],
                    "n": str(row["n"]),
                    "value": f"{100 * row['value']:.1f}",
                    "rival": component(row["against"]),
                    "rival_value": f"{100 * (row['value'] - difference):.1f}",
                    "difference": f"{100 * difference:+.1f}",
                    "p": f"= {p_value:.3f}" if p_value >= 0.001 else "< 0.001",
                    "verdict": verdict(difference, p_value),
                    "round": str(newest),
                    "mode": mode,
                }
            )
    return said


def _stream_rows(stream: Mapping[str, Any]) -> list[dict[str, str]]:
    """The end of the stream against each alternative, as text."""
    shown = []
    for row in stream.get("verdicts", []):
        numbers = {name: f"{100 * row[name]:.1f}" for name in ("served", "rival")}
        difference = f"{100 * row['difference']:+.1f}"
        shown.append({**numbers, "slice": row["slice"], "against": row["against"], "n": str(row["n"]), "difference": difference})
        shown[-1] |= {"p": f"{row['p_value']:.3f}", "verdict": verdict(row["difference"], row["p_value"])}
    return shown


def _gate_lines(stages: figures.StageRuns) -> list[dict[str, Any]]:
    """What the gate decided, newest first."""
    judged = stages.get((COHYDE, "judge"), {})
    lines = [
        {"release": unit + 1, "promoted": bool(event.get("promoted")), "reason": event.get("reason", "")}
        for unit, event in judged.items()
    ]
    return lines[::-1]


def _grid_view(grid: Grid) -> dict[str, Any]:
    """A grid with its head in two rows: groups with their widths, and names with a mark where a group starts."""
    groups = [group for group, _ in grid.columns]
    widths = [(group, groups.count(group)) for group in dict.fromkeys(groups)]
    starts = [index == 0 or groups[index - 1] != group for index, group in enumerate(groups)]
    heads = [(name, start) for (_, name), start in zip(grid.columns, starts, strict=True)]
    lines = [(label, list(zip(cells, starts, strict=True))) for label, cells in grid.lines]
    return {"title": grid.title, "note": grid.note, "groups": widths, "heads": heads, "lines": lines}


def _stage_table(stages: figures.StageRuns) -> list[dict[str, Any]]:
    """Every stage run with its own scalar figures."""
    common = {"time", "event", "arm", "stage", "unit", "worked_s", "waited_s", "lag"}
    table = []
    for (arm, stage), units in stages.items():
        for unit, event in units.items():
            own = {k: v for k, v in event.items() if k not in common and isinstance(v, int | float) and not isinstance(v, bool)}
            shown = ", ".join(f"{k.replace('_', ' ')} {v:,.4g}" for k, v in own.items())
            place = {"arm": LABELS.get(arm, arm), "stage": figures.stage_label(stage), "unit": unit, "lag": event.get("lag", "-")}
            times = {"worked": f"{event['worked_s']:.1f}", "waited": f"{event['waited_s']:.1f}"}
            table.append(place | times | {"figures": shown})
    return table


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample query with all it retrieved, by who retrieved it, each with the rank of its first gold tool."""
    plain = {"frozen": "frozen encoder", "baseline": "encoder alone"}
    steps: list[tuple[str, str, dict[str, Any]]] = [
        (name, "", {"raw": sample[key]}) for key, name in plain.items() if key in sample
    ]
    for entry in sample["rounds"]:
        found = {mode: entry[mode] for mode in ("raw", "fused") if entry.get(mode)}
        steps.append((f"round {entry['round']}", entry["rewrite"], found))
    lines = []
    for name, rewrite, found in steps:
        last = list(found.values())[-1] if found else []
        rank = next((i for i, tool in enumerate(last, start=1) if tool["gold"]), None)
        lines.append({"name": name, "rewrite": rewrite, "found": found, "rank": rank})
    return {**sample, "lines": lines}


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def command(run_dir: Annotated[Path, typer.Argument(help="The run directory.")]) -> None:
    """Write report.html of a run anew."""
    print(f"Report: {write(run_dir)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.report", arguments)


if __name__ == "__main__":
    sys.exit(main())
