"""Cells and costs as tables, for the terminal and in Markdown, and the picture of quality over rounds.

Invariants: pure; figures are percent, differences points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.figure import Figure

from actors.core.ranking import FOUND_NDCG
from pipelines.benchmark.aggregate import Cell, Line
from pipelines.benchmark.cost import SFT_RERANKED, Cost
from pipelines.comparison import compare, grids
from pipelines.comparison.compare import COHYDE, LABELS, REMEMBERED, RERANKED, SINGLE_ARMS, ArmMode
from pipelines.comparison.grids import Grid

SHOWN = "nDCG@5"
OF_SEVERAL = ("COMP@5", FOUND_NDCG)
"""Shown too where queries have several right tools: what MTRB calls S@5 (all of them among the first five), and its NDCG@5."""
PANELS = 4
"""Of a picture, side by side."""
FEW = 200
"""Queries of a slice up to which its figures are shown with their confidence intervals."""


def quality(cells: Sequence[Cell], metric: str = SHOWN) -> Grid:
    """Every line by slice: the mean over seeds with its spread."""
    chosen = [cell for cell in cells if cell.metric == metric]
    names, lines = list(dict.fromkeys(c.slice for c in chosen)), _lines(chosen)
    at = {(Line(c.arm, c.round, c.mode), c.slice): c for c in chosen}
    best = {name: max(at[line, name].value for line in lines) for name in names}
    rows = []
    for line in lines:
        shown = []
        for name in names:
            cell = at[line, name]
            spread = f" ±{100 * cell.spread:.1f}" if cell.seeds > 1 else ""
            sure = f" [{100 * cell.low:.0f}, {100 * cell.high:.0f}]" if cell.queries <= FEW else ""
            shown.append(grids.Cell(f"{100 * cell.value:.1f}{spread}{sure}", cell.value == best[name]))
        rows.append((line.label, tuple(shown)))
    counts = ", ".join(f"{name} {next(c.queries for c in chosen if c.slice == name)}" for name in names)
    sure = "In brackets: 95 % confidence interval over queries. " if any(c.queries <= FEW for c in chosen) else ""
    note = f"Queries: {counts}. {_seeds(chosen)} {sure}Marked: best of its column."
    return Grid(f"{metric.replace('nDCG', 'NDCG')} on test (%)", note, tuple((name, "") for name in names), tuple(rows))


def differences(cells: Sequence[Cell], metric: str = SHOWN) -> Grid:
    """CoHyDE's lines against the strongest single component of each slice, in points, with p."""
    chosen = [cell for cell in cells if cell.metric == metric and cell.difference is not None]
    names = list(dict.fromkeys(c.slice for c in chosen))
    rows = []
    for line in _lines(chosen):
        shown: list[grids.Cell] = []
        for name in names:
            cell = next(c for c in chosen if (Line(c.arm, c.round, c.mode), c.slice) == (line, name))
            assert cell.difference is not None
            assert cell.p_value is not None
            sure = compare.verdict(cell.difference, cell.p_value) != "not distinguishable"
            shown += [grids.Cell(f"{100 * cell.difference:+.1f}", sure), grids.Cell(grids.p_text(cell.p_value))]
        rows.append((line.label, tuple(shown)))
    rivals = "; ".join(f"{name}: {', '.join(dict.fromkeys(c.against or '' for c in chosen if c.slice == name))}" for name in names)
    note = (
        f"Against the single component that is best on that very slice ({rivals}). p: paired test over queries, each with its mean"
        f" over the seeds, not corrected for the number of comparisons. Marked: p < {compare.SIGNIFICANCE}."
    )
    columns = tuple((name, part) for name in names for part in ("diff", "p"))
    return Grid(
        f"CoHyDE against the strongest single component ({metric.replace('nDCG', 'NDCG')}, points)", note, columns, tuple(rows)
    )


APART: dict[str, ArmMode] = {RERANKED: "reranked", REMEMBERED: "remembered"}
"""Arms whose encoder trained alone, beside what CoHyDE's mode of the same name has too."""


def co_training(cells: Sequence[Cell], mode: ArmMode) -> Grid:
    """What training together adds in a mode, against the encoder that trained alone in it; ``cells`` are held against that one."""
    drawn = differences([cell for cell in cells if (cell.arm, cell.mode) == (COHYDE, mode)])
    what = "reranker" if mode == "reranked" else "labelled queries"
    note = f"Both have the same {what}; the encoder alone trained as many steps without rewrites. p as above."
    return Grid(f"CoHyDE against the encoder alone, both {mode} (NDCG@5, points)", note, drawn.columns, drawn.lines)


def against_frozen(cells: Sequence[Cell], metric: str) -> Grid:
    """CoHyDE as it ended, against the frozen encoder: what training gains, or forgets; ``cells`` are held against that one."""
    last = max((cell.round for cell in cells if cell.arm == COHYDE), default=-1)
    drawn = differences([cell for cell in cells if (cell.arm, cell.round) == (COHYDE, last)], metric)
    title = f"CoHyDE against the frozen encoder, raw ({metric.replace('nDCG', 'NDCG')}, points)"
    return Grid(title, "Raw without any training. p as above.", drawn.columns, drawn.lines)


def cost(costs: Sequence[Mapping[str, Cost]]) -> Grid:
    """Means over the seeds of what each arm cost to make."""
    columns = ("minutes", "embedded texts", "encoder pairs", "rehearsed", "tokens written", "rewriter texts")
    counted = ("embedded", "trained_pairs", "rehearsed", "generated_tokens", "trained_rows")
    rows = []
    labels = LABELS | {SFT_RERANKED: f"{LABELS['sft']}, reranked", RERANKED: f"{LABELS[RERANKED]}, reranked"}
    for arm in (*SINGLE_ARMS, SFT_RERANKED, RERANKED, COHYDE):
        found = [by_arm[arm] for by_arm in costs if arm in by_arm]
        if not found:
            continue
        means = (
            fmean(c.seconds for c in found) / 60,
            *(fmean(getattr(c, name) for c in found) for name in counted),
        )
        rows.append((labels.get(arm, arm), tuple(grids.Cell(f"{x:,.1f}" if i == 0 else f"{x:,.0f}") for i, x in enumerate(means))))
    note = (
        "Means over seeds. Embedded texts: one forward pass each. Encoder pairs, rehearsed requests and rewriter texts:"
        " forward and backward passes. Tokens written: for training alone. Minutes of stages at work, on the machine of the run."
    )
    return Grid("What each arm cost to make", note, tuple((name, "") for name in columns), tuple(rows))


def curve(cells: Sequence[Cell]) -> Figure:
    """NDCG@5 over CoHyDE's rounds by slice, raw and fused, with the strongest single component as a line across."""
    chosen = [c for c in cells if c.metric == SHOWN]
    names = list(dict.fromkeys(c.slice for c in chosen))
    figure = Figure(figsize=(3.2 * max(1, len(names)), 3.0), layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), place, title=name)
        single = max((c for c in chosen if c.slice == name and c.arm in SINGLE_ARMS), key=lambda c: c.value)
        axes.axhline(100 * single.value, color="0.5", linestyle="--", label=Line(single.arm, single.round, single.mode).label)
        for mode in ("raw", "fused"):
            own = sorted((c for c in chosen if (c.slice, c.arm, c.mode) == (name, COHYDE, mode)), key=lambda c: c.round)
            if own:
                spreads = [100 * c.spread for c in own]
                axes.errorbar([c.round for c in own], [100 * c.value for c in own], spreads, marker="o", capsize=3, label=mode)
        axes.set_xlabel("round")
        axes.set_xticks(sorted({c.round for c in chosen if c.round >= 0}))
        axes.legend(fontsize=7)
        if place == 1:
            axes.set_ylabel("NDCG@5 (%)")
    return figure


@dataclass(frozen=True)
class Point:
    """A figure at one place of an axis (NDCG@5, 0..1); ``spread`` is its standard deviation over seeds.

    ``difference`` to what it is held against, and the paired test's p; null where it is held against nothing.
    """

    line: str
    place: str
    slice: str
    queries: int
    value: float
    spread: float
    difference: float | None = None
    p_value: float | None = None


def points(rows: Sequence[Point], title: str) -> Grid:
    """A row for each slice and line, a column for each place, in the order that they come in."""
    best = {(p.slice, p.place): max(q.value for q in rows if (q.slice, q.place) == (p.slice, p.place)) for p in rows}

    def shown(p: Point) -> grids.Cell:
        spread = f" ±{100 * p.spread:.1f}" if p.spread > 0 else ""
        return grids.Cell(f"{100 * p.value:.1f}{spread}", p.value == best[p.slice, p.place])

    return _by_place(rows, title, "The same test queries throughout. Marked: best of the slice at that place.", shown)


def point_tests(rows: Sequence[Point], title: str) -> Grid:
    """The same of differences, with p."""

    def shown(p: Point) -> grids.Cell:
        assert p.difference is not None
        assert p.p_value is not None
        sure = compare.verdict(p.difference, p.p_value) != "not distinguishable"
        return grids.Cell(f"{100 * p.difference:+.1f} (p {grids.p_text(p.p_value)})", sure)

    note = f"p: paired test over queries, not corrected for the number of comparisons. Marked: p < {compare.SIGNIFICANCE}."
    return _by_place([p for p in rows if p.difference is not None], title, note, shown)


def _by_place(rows: Sequence[Point], title: str, note: str, shown: Callable[[Point], grids.Cell]) -> Grid:
    places, at = list(dict.fromkeys(p.place for p in rows)), {(p.slice, p.line, p.place): p for p in rows}
    lines = []
    for name in dict.fromkeys(p.slice for p in rows):
        own = [p for p in rows if p.slice == name]
        for line in dict.fromkeys(p.line for p in own):
            cells = tuple(shown(at[name, line, place]) for place in places)
            lines.append((f"{name} ({own[0].queries}): {line}", cells))
    return Grid(title, note, tuple((place, "") for place in places), tuple(lines))


def points_curve(rows: Sequence[Point], axis: str) -> Figure:
    """NDCG@5 along the places, a panel for each slice, ``PANELS`` in a row."""
    slices, places = list(dict.fromkeys(p.slice for p in rows)), list(dict.fromkeys(p.place for p in rows))
    across = min(PANELS, len(slices))
    down = -(-len(slices) // across)
    figure = Figure(figsize=(3.2 * across + 1.6, 3.0 * down), layout="constrained")
    for number, name in enumerate(slices, start=1):
        axes = figure.add_subplot(down, across, number, title=name, xlabel=axis)
        for line in dict.fromkeys(p.line for p in rows):
            own = [p for p in rows if (p.line, p.slice) == (line, name)]
            heights, spreads = [100 * p.value for p in own], [100 * p.spread for p in own]
            axes.errorbar([places.index(p.place) for p in own], heights, spreads, marker="o", capsize=3, label=line)
        axes.set_xticks(range(len(places)), places)
        if number % across == 1 or across == 1:
            axes.set_ylabel("NDCG@5 (%)")
    # Beside the panels: within one it would lie on the lines.
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    return figure


def _lines(cells: Sequence[Cell]) -> list[Line]:
    order = {arm: place for place, arm in enumerate((*SINGLE_ARMS, RERANKED, REMEMBERED, COHYDE))}
    found = dict.fromkeys(Line(c.arm, c.round, c.mode) for c in cells)
    return sorted(found, key=lambda line: (order[line.arm], line.round))


def _seeds(cells: Sequence[Cell]) -> str:
    seeds = cells[0].seeds
    if not any(cell.arm == COHYDE for cell in cells):
        return "Nothing here was trained."
    return f"Means of {seeds} seeds with their standard deviation." if seeds > 1 else "One seed: no spread is known."
