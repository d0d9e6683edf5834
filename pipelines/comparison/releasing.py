"""Which round a run releases: the one that is best on dev, or the frozen encoder where no round is better.

Invariants: pure; test queries have no say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from actors.core.types import BASE_VERSION


def release_figures(dev: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Round -> its dev figure, the mean of standard and vague nDCG@5, fused; the frozen encoder, raw, as ``BASE_VERSION``.

    The frozen one stands in it because training on few queries may leave it better than any round, and serving must not get worse.
    """
    figures: dict[int, list[float]] = {}
    for row in dev:
        frozen = (row["arm"], row["mode"]) == ("frozen", "raw")
        if (frozen or (row["arm"], row["mode"]) == ("cohyde", "fused")) and row["slice"] in ("standard", "vague"):
            number = BASE_VERSION if frozen else row["round"]
            figures.setdefault(number, []).append(row["value"])
    return {number: fmean(values) for number, values in figures.items()}


def told_release(release: Mapping[str, Any]) -> str:
    """Which round was released, and by what figures, in one line; ``release``: the record, or what was read of its file."""
    figures = {int(number): value for number, value in release["dev_ndcg5"].items()}
    names = {number: "the frozen encoder" if number == BASE_VERSION else f"round {number}" for number in figures}
    listed = ", ".join(f"{names[number]} {100 * figures[number]:.1f}" for number in sorted(figures))
    return f"Released: {names[release['rewriter']]}, by its NDCG@5 on dev ({listed})"
