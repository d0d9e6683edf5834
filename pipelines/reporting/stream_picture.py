"""The stream as one picture for pages that show no report: what was served against the alternatives, when releases changed, and
the run's memory meanwhile.

Invariants: pure but for the file it writes; no figure depends on global matplotlib state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = {"served": "#1f5fbf", "static": "#777777", "head": "#c07a1b", "moved tools": "#2d8a4e"}
SLICES = ("standard", "vague")


def write(stream: Mapping[str, Any], memory: Sequence[tuple[float, float]], path: Path) -> None:
    """Draw what ``prequential.measure`` found: a panel for each slice, a line for each arm, a tick for each change of release; and
    the run's ``memory``, (minute, GB).
    """
    shown = [name for name in SLICES if name in stream["curves"]]
    panels = len(shown) + 1
    figure = Figure(figsize=(4.3 * panels, 3.3), layout="constrained")
    for place, name in enumerate(shown):
        axes = figure.add_subplot(1, panels, place + 1)
        for arm, points in stream["curves"][name].items():
            style = {"linewidth": 2.2 if arm == "served" else 1.3, "color": COLOURS[arm], "label": arm}
            axes.plot([x for x, _ in points], [100 * y for _, y in points], **style)
        for number, _ in stream["releases"]:
            axes.axvline(number, ymax=0.03, color=COLOURS["served"], linewidth=1)
        title = f"NDCG@5 (%), {name}, mean of the last {stream['window'][name]}"
        _dress(axes, title, "queries so far (ticks: another release)")
    if shown:
        figure.axes[0].legend(frameon=False, fontsize=9)
    axes = figure.add_subplot(1, panels, panels)
    axes.plot([minute for minute, _ in memory], [gb for _, gb in memory], color=COLOURS["static"], linewidth=1.3)
    axes.set_ylim(bottom=0)
    _dress(axes, "resident memory of the run (GB)", "minutes")
    figure.savefig(path, dpi=130)


def _dress(axes: Any, title: str, x_label: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x_label, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
