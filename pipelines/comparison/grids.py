"""The tables of a comparison: rows of ``results.json`` in, tables for a terminal or in Markdown out.

Invariants: pure; figures are shown in percent, differences in points; a table says what its marks and weights mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.core.types import Mode
from pipelines.comparison.compare import (
    COHYDE,
    LABELS,
    REMEMBERED,
    RERANKED,
    SIGNIFICANCE,
    SINGLE_ARMS,
    TOOLS,
    ArmMode,
    Row,
    Tools,
    last_round,
    verdict,
)

STRONGEST = "strongest single"
"""The column that names what CoHyDE is held against."""
_MAIN_MODE: dict[str, Mode] = {"bm25": "bm25", "frozen": "raw", "encoder_alone": "raw"}
_SHOWN_METRICS = {"nDCG@5": "NDCG@5", "R@10": "R@10", "COMP@10": "COMP@10"}
_COHYDE_MODES: tuple[ArmMode, ...] = ("raw", "fused", "reranked", "remembered", "named", "hybrid")


@dataclass(frozen=True)
class Cell:
    """One shown figure; ``bold`` marks the best of a column, or a difference that the test tells from chance."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn: ``columns`` are (group, name); every line is a label with one cell a column."""

    title: str
    note: str
    columns: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]


def component(against: str | None) -> str:
    """How a reader sees an ``against`` value: "encoder_alone raw" -> "encoder alone, raw"; "bm25 bm25" -> "BM25"."""
    if not against:
        return "-"
    arm, mode = against.split(" ")
    return _label(arm, None, mode)


def quality_grid(rows: Sequence[Row]) -> Grid:
    """Every arm in its main mode: NDCG@5, Recall@10, COMP@10 by slice, in percent, over all test tools."""
    columns: list[tuple[str, str, Tools]] = [(s, m, "all") for s in _tiers(rows) for m in _SHOWN_METRICS]
    heads = [(s, _SHOWN_METRICS[m]) for s, m, _ in columns]
    counts = ", ".join(f"{s} {_count(rows, s, 'all')}" for s in _tiers(rows))
    note = (
        f"Queries: {counts}. Marked: best of its column. The number after a mode is a weight fitted on dev: the rewrite's in fused,"
        " the likelihood's in reranked, that of labelled queries in remembered; named 1: tools that a description names"
        " follow it."
    )
    return Grid("Test queries, all tools (%)", note, tuple(heads), _lines(rows, columns))


def novelty_grid(rows: Sequence[Row]) -> Grid:
    """NDCG@5 by slice apart for tools that training queries touch (seen) and tools that none does (unseen), in percent."""
    columns: list[tuple[str, str, Tools]] = [(s, "nDCG@5", t) for s in _tiers(rows) for t in TOOLS[1:] if _count(rows, s, t)]
    heads = [(s, t) for s, _, t in columns]
    counts = ", ".join(f"{s} {_count(rows, s, 'seen')} + {_count(rows, s, 'unseen')}" for s in dict.fromkeys(c[0] for c in columns))
    note = f"Seen: training has other queries for the tool. Unseen: no training query touches it. Queries, seen + unseen: {counts}."
    return Grid("NDCG@5 by seen and unseen tools (%)", note, tuple(heads), _lines(rows, columns))


def difference_grid(rows: Sequence[Row]) -> Grid:
    """The last round against the strongest single component, NDCG@5, in points: by slice and tools, for each mode."""
    newest = last_round(rows)
    own = {
        (r["slice"], r["tools"], r["mode"]): r
        for r in rows
        if r["arm"] == COHYDE and r["round"] == newest and r["metric"] == "nDCG@5" and r["p_value"] is not None
    }
    modes = [m for m in _COHYDE_MODES if any(key[2] == m for key in own)]
    heads = [(mode, name) for mode in modes for name in ([STRONGEST] if mode in (modes[0], "hybrid") else []) + ["diff", "p"]]
    plain = "/".join(m for m in modes if m != "hybrid")
    lines = []
    for slice_name, tools in dict.fromkeys(key[:2] for key in own):
        cells: list[Cell] = []
        for mode, name in heads:
            row = own.get((slice_name, tools, mode))
            cells.append(_difference_cell(row, name) if row else Cell("-"))
        lines.append((f"{slice_name}, {tools} ({_count(rows, slice_name, tools)})", tuple(cells)))
    note = (
        "Strongest single: the one component with the highest NDCG@5 on that very test slice (conservative for CoHyDE);"
        f" {plain} are held against components that are not hybrid, hybrid against all."
        f" p: paired test over queries, not corrected for the number of comparisons. Marked: p < {SIGNIFICANCE}."
    )
    return Grid(f"CoHyDE round {newest} against the strongest single component (NDCG@5, points)", note, tuple(heads), tuple(lines))


def grids(rows: Sequence[Row]) -> list[Grid]:
    """The tables of a run: quality, seen and unseen, differences; those without a figure are left out."""
    made = [quality_grid(rows), novelty_grid(rows), difference_grid(rows)]
    return [grid for grid in made if grid.columns and grid.lines]


def table(rows: Sequence[Row]) -> Table:
    """The main table (``quality_grid``), 120 columns wide with four slices."""
    return draw(quality_grid(rows))


def draw(grid: Grid) -> Table:
    """A grid for the terminal; what is bold also carries a star, which survives a pipe."""
    drawn = Table(title=grid.title, caption=grid.note, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    drawn.title_justify = drawn.caption_justify = "left"
    drawn.add_column("\n", no_wrap=True)
    group = ""
    for index, (name, sub) in enumerate(grid.columns):
        starts = name != group or index == 0
        group = name
        lead = " " if starts else ""
        # A narrow terminal may break names; figures stay whole.
        drawn.add_column(Text(f"{lead}{name if starts else ''}\n{lead}{sub}"), justify="right", no_wrap=sub != STRONGEST)
    for label, cells in grid.lines:
        drawn.add_row(label, *(Text(cell.text + ("*" if cell.bold else ""), style="bold" if cell.bold else "") for cell in cells))
    return drawn


def show(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print all tables; a pipe gets 160 columns, since it has no width of its own."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=160)
    for grid in grids(rows):
        console.print(draw(grid), "")


def markdown(rows: Sequence[Row]) -> str:
    """All tables in Markdown. Figures of one group share a cell, as "68.8 / 87.1 / 85.0"."""
    return "\n\n".join(markdown_grid(grid) for grid in grids(rows)) + "\n"


def markdown_grid(grid: Grid) -> str:
    """One table in Markdown."""
    groups = list(dict.fromkeys(group for group, _ in grid.columns))
    names = {group: [name for g, name in grid.columns if g == group] for group in groups}
    lines = [
        f"**{grid.title}**",
        "",
        "| | " + " | ".join(f"{g}: {' / '.join(names[g])}" if any(names[g]) else g for g in groups) + " |",
    ]
    lines.append("|---|" + "---|" * len(groups))
    for label, cells in grid.lines:
        shown = [f"**{c.text}**" if c.bold else c.text for c in cells]
        joined = [" / ".join(t for t, (g, _) in zip(shown, grid.columns, strict=True) if g == group) for group in groups]
        lines.append(f"| {label} | " + " | ".join(joined) + " |")
    return "\n".join([*lines, "", grid.note])


def _label(arm: str, round_number: int | None, mode: str, weight: float | None = None) -> str:
    name = LABELS.get(arm, arm) + (f" round {round_number}" if round_number is not None else "")
    return name if mode == "bm25" else f"{name}, {mode}" + (f" {weight:g}" if weight is not None else "")


def _shown(rows: Sequence[Row]) -> list[tuple[str, int | None, ArmMode]]:
    """(arm, round, mode) of the main table's lines: an arm's main mode, reranked and remembered; CoHyDE's last round in all.

    ``named`` stands there where it changes the ranking.
    """
    present = dict.fromkeys((r["arm"], r["round"], r["mode"]) for r in rows if r["mode"] != "named" or r["weight"])
    newest = last_round(rows)
    lines: list[tuple[str, int | None, ArmMode]] = []
    for arm in (*SINGLE_ARMS, RERANKED, REMEMBERED, COHYDE):
        for number in sorted({r for a, r, _ in present if a == arm}, key=lambda r: -1 if r is None else r):
            modes = [m for a, r, m in present if (a, r) == (arm, number)]
            main = _MAIN_MODE.get(arm, "fused")
            all_modes = arm == COHYDE and number == newest
            kept = [m for m in _COHYDE_MODES if m in modes and (all_modes or m in (main, "reranked", "remembered", "named"))]
            lines += [(arm, number, mode) for mode in kept or modes[:1]]
    return lines


def _lines(rows: Sequence[Row], columns: Sequence[tuple[str, str, Tools]]) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
    value = {(r["arm"], r["round"], r["mode"], r["slice"], r["metric"], r["tools"]): r["value"] for r in rows}
    weights = {(r["arm"], r["round"], r["mode"]): r["weight"] for r in rows}
    shown = _shown(rows)
    best = {column: max((value.get((*line, *column), -1.0) for line in shown), default=-1.0) for column in columns}
    lines = []
    for line in shown:
        figures = [(value.get((*line, *column)), best[column]) for column in columns]
        lines.append(
            (
                _label(*line, weights[line]),
                tuple(Cell("-") if v is None else Cell(f"{100 * v:.1f}", v == top) for v, top in figures),
            )
        )
    return tuple(lines)


def _difference_cell(row: Row, name: str) -> Cell:
    difference, p_value = row["difference"], row["p_value"]
    assert difference is not None and p_value is not None
    if name == STRONGEST:
        return Cell(component(row["against"]))
    significant = verdict(difference, p_value) != "not distinguishable"
    return Cell(f"{100 * difference:+.1f}", significant) if name == "diff" else Cell(p_text(p_value))


def p_text(p_value: float) -> str:
    """A p to three digits, as long for the smallest."""
    return f"{p_value:.3f}" if p_value >= 0.001 else "<.001"


def _tiers(rows: Sequence[Row]) -> list[str]:
    return [s for s in dict.fromkeys(r["slice"] for r in rows) if s != "vague"]


def _count(rows: Sequence[Row], slice_name: str, tools: Tools) -> int:
    return next((r["n"] for r in rows if (r["slice"], r["tools"]) == (slice_name, tools)), 0)
