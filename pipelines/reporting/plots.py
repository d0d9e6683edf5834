"""The report's figures as inline SVG, one small figure each, so that a phone shows them one below the other.

Invariants: pure functions from records to SVG text; no figure depends on global matplotlib state; colours are CSS variables of the
page (``--fg``, ``--s1``, ...), so one SVG serves light and dark; text stays text.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Colours that nothing else uses, replaced by CSS variables in the finished SVG.
_COLOURS = {name: f"#0{i}0b0{i}" for i, name in enumerate(["fg", "muted", "grid", "s1", "s2", "s3", "s4", "s5", "s6"], start=1)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": _COLOURS["grid"],
    "axes.labelcolor": _COLOURS["muted"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _COLOURS["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": _COLOURS["muted"],
    "ytick.color": _COLOURS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": _COLOURS["fg"],
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
SERIES = ("s1", "s2", "s3", "s4", "s5", "s6")
Points = Sequence[tuple[float, float]]


def lines(
    series: Mapping[str, Points],
    colours: Mapping[str, str],
    label: str,
    x_label: str,
    y_label: str,
    levels: Mapping[str, tuple[float, str]] | None = None,
) -> str:
    """Lines with markers over rounds or units. ``colours``: series -> variable; ``levels``: name -> (value, variable), dashed."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(x_label, y_label)
        for value, colour in (levels or {}).values():
            axes.axhline(value, color=_COLOURS[colour], linestyle=(0, (4, 3)), linewidth=1.2)
        for name, points in series.items():
            x, y = zip(*sorted(points), strict=True)
            axes.plot(x, y, color=_COLOURS[colours[name]], marker="o", markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.margins(y=0.15)
        return _svg(figure, label)


def losses(units: Sequence[tuple[int | None, Sequence[float]]], label: str, y_label: str, colour: str) -> str:
    """One curve through the units of a learner; a dotted line and a number where a unit starts (none for a single phase)."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure("logged step", y_label)
        start = 0
        for unit, values in units:
            axes.plot(range(start, start + len(values)), values, color=_COLOURS[colour], linewidth=1.3)
            if unit is not None and len(units) <= 12:
                axes.axvline(start, color=_COLOURS["muted"], linewidth=0.8, linestyle=":")
                position = (start, 1.0)
                axes.annotate(
                    f" unit {unit}", position, xycoords=("data", "axes fraction"), fontsize=8, va="bottom", color=_COLOURS["muted"]
                )
            start += len(values)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        return _svg(figure, label)


def bars(rows: Sequence[tuple[str, Sequence[float]]], colours: Sequence[str], label: str, x_label: str) -> str:
    """Stacked horizontal bars, first row on top: each row a name and its parts; the total stands at the bar's end."""
    with mpl.rc_context(_STYLE | {"axes.grid.axis": "x"}):
        figure, axes = _figure(x_label, "", height=0.9 + 0.32 * len(rows))
        totals = [sum(parts) for _, parts in rows]
        left = np.zeros(len(rows))
        for index, colour in enumerate(colours):
            widths = np.array([parts[index] for _, parts in rows])
            axes.barh(range(len(rows)), widths, left=left, color=_COLOURS[colour], height=0.62)
            left += widths
        for position, total in enumerate(totals):
            axes.annotate(f"{total:,.0f}", (total, position), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(rows)), [textwrap.fill(name, 24) for name, _ in rows], fontsize=8)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.margins(x=0.14)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        return _svg(figure, label)


def memory(minutes: Sequence[float], total: Sequence[float], roles: Mapping[str, Sequence[float]], label: str) -> str:
    """Resident memory over the run in GB: areas by role, the total as a line, its peak marked."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure("minutes", "GB", width=5.4, height=2.7)
        if roles:
            axes.stackplot(minutes, *roles.values(), colors=[_COLOURS[c] for c in _cycle(len(roles))], alpha=0.55, linewidth=0)
        axes.plot(minutes, total, color=_COLOURS["fg"], linewidth=1.3)
        peak = int(np.argmax(total))
        axes.plot(minutes[peak], total[peak], "o", color=_COLOURS["fg"], markersize=5)
        side = "right" if minutes[peak] > 0.7 * max(minutes[-1], 1e-9) else "left"
        text = f"peak {total[peak]:.1f} GB"
        axes.annotate(text, (minutes[peak], total[peak]), xytext=(0, 7), textcoords="offset points", ha=side, weight="bold")
        axes.set_ylim(0, 1.2 * max(total))
        axes.margins(x=0.01)
        return _svg(figure, label)


def legend(names: Iterable[str]) -> dict[str, str]:
    """Name -> CSS variable, in order; colours repeat past six."""
    names = list(names)
    return dict(zip(names, _cycle(len(names)), strict=True))


def _cycle(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]


def _figure(x_label: str, y_label: str, width: float = 4.1, height: float = 2.5) -> tuple[Figure, mpl.axes.Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _svg(figure: Figure, label: str) -> str:
    buffer = io.StringIO()
    # The label salts the ids of clips and markers: all figures share one page's name space.
    with mpl.rc_context({"svg.hashsalt": label}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(
        r'(font(?:-family)?:[^;"]*?)(?:\'[^\']*\'|[A-Za-z-]+)(?:, *(?:\'[^\']*\'|[A-Za-z-]+))+', r"\1system-ui, sans-serif", svg
    )
    for name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    width, height = (72 * side for side in figure.get_size_inches())
    head = f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg"'
    head += ' xmlns:xlink="http://www.w3.org/1999/xlink">'
    return re.sub(r"<svg[^>]*>", head, svg, count=1)
