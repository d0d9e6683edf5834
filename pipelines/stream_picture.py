"""The stream as one picture for pages that show no report: what was served against the alternatives, and when releases changed.

Invariants: pure but for the file it writes; no figure depends on global matplotlib state.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = {"served": "#1f5fbf", "static": "#777777", "head": "#c07a1b", "moved tools": "#2d8a4e"}
SLICES = ("standard", "vague")


def write(stream: Mapping[str, Any], path: Path) -> None:
    """Draw what ``prequential.measure`` found: a panel for each slice, a line for each arm, a tick for each change of release."""
    shown = [name for name in SLICES if name in stream["curves"]]
    figure = Figure(figsize=(5.2 * len(shown), 3.4), layout="constrained")
    for place, name in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), place + 1)
        for arm, points in stream["curves"][name].items():
            style = {"linewidth": 2.2 if arm == "served" else 1.3, "color": COLOURS[arm], "label": arm}
            axes.plot([x for x, _ in points], [100 * y for _, y in points], **style)
        for number, _ in stream["releases"]:
            axes.axvline(number, ymax=0.03, color=COLOURS["served"], linewidth=1)
        axes.set_title(f"{name} queries, mean of the last {stream['window'][name]}", fontsize=10)
        axes.set_xlabel("queries so far (ticks: another release took over)", fontsize=9)
        axes.set_ylabel("NDCG@5 (%)", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    if shown:
        figure.axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
