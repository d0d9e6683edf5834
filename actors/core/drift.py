"""Has what users ask, or how they fare, changed since the last unit? Figures and one test each.

Invariants: pure; the reference is what earlier units were cut from, the recent window what came after; a figure without enough of
both is absent, never guessed. Sources: MMD with an RBF kernel and its permutation test (Gretton et al., JMLR 2012); Welch's t test
on the margin; Fisher's exact test on the share of searches that no call followed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from actors.core.joining import Interaction

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]

REFERENCE, RECENT = 400, 200
"""Searches that each window holds at most."""
LEAST = 20
"""Searches that each window needs before anything is said of it."""
PERMUTATIONS = 500


@dataclass(frozen=True, slots=True)
class Search:
    """What drift needs of a search: its text, how far the first tool stood above the second, whether a call followed."""

    query: str
    margin: float | None
    called: bool


class Drift:
    """Two windows of searches."""

    def __init__(self) -> None:
        """Start empty."""
        self._reference: deque[Search] = deque(maxlen=REFERENCE)
        self._recent: deque[Search] = deque(maxlen=RECENT)

    def note(self, interaction: Interaction) -> None:
        """A search that closed; labels and late outcomes are none."""
        if interaction.label or interaction.late:
            return
        scores = [tool.score for tool in sorted(interaction.tools, key=lambda tool: tool.rank)]
        margin = scores[0] - scores[1] if len(scores) > 1 else None
        self._recent.append(Search(interaction.query, margin, bool(interaction.results)))

    def settle(self) -> None:
        """A unit was cut: what was recent is what the next is compared with."""
        self._reference.extend(self._recent)
        self._recent.clear()

    def figures(self, embed: Embed, seed: int) -> dict[str, float]:
        """{centroid_distance, mmd2, mmd_p, margin, margin_p, no_call_share, no_call_p}; empty before both windows hold enough.

        ``embed`` gives vectors of length 1 by an encoder that never changes, [n, d].
        """
        old, new = list(self._reference), list(self._recent)
        if min(len(old), len(new)) < LEAST:
            return {}
        vectors = embed([search.query for search in (*old, *new)])
        before, after = vectors[: len(old)], vectors[len(old) :]
        squared, p_value = mmd(before, after, seed)
        silent = [[sum(not s.called for s in part), sum(s.called for s in part)] for part in (old, new)]
        figures = {
            "centroid_distance": centroid_distance(before, after),
            "mmd2": squared,
            "mmd_p": p_value,
            "no_call_share": silent[1][0] / len(new),
            # Only a rise is bad news.
            "no_call_p": float(stats.fisher_exact(silent, alternative="less").pvalue),
        }
        margins = [[s.margin for s in part if s.margin is not None] for part in (old, new)]
        if min(map(len, margins)) >= LEAST and len(set(margins[0] + margins[1])) > 1:
            figures["margin"] = float(np.mean(margins[1]))
            figures["margin_p"] = float(stats.ttest_ind(margins[0], margins[1], equal_var=False, alternative="greater").pvalue)
        return figures


def has_drifted(figures: dict[str, float], p_value: float) -> bool:
    """Whether any of the tests says so at ``p_value``, shared out among them (Bonferroni)."""
    found = [value for name, value in figures.items() if name.endswith("_p")]
    return any(value < p_value / len(found) for value in found)


def centroid_distance(before: Vectors, after: Vectors) -> float:
    """1 - cosine of the two mean vectors."""
    a, b = before.mean(axis=0), after.mean(axis=0)
    return float(1.0 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def mmd(before: Vectors, after: Vectors, seed: int) -> tuple[float, float]:
    """(unbiased squared MMD, p-value by permutation); the kernel's width is the median distance."""
    pooled = np.concatenate([before, after]).astype(np.float64)
    squares = np.maximum(0.0, 2.0 - 2.0 * pooled @ pooled.T)
    width = float(np.median(squares[np.triu_indices(len(pooled), 1)])) or 1.0
    kernel = np.exp(-squares / width)
    np.fill_diagonal(kernel, 0.0)
    m, n = len(before), len(after)
    is_before = np.zeros((PERMUTATIONS + 1, m + n))
    is_before[0, :m] = 1.0
    rng = np.random.default_rng(seed)
    for row in range(1, PERMUTATIONS + 1):
        is_before[row, rng.permutation(m + n)[:m]] = 1.0
    within = np.einsum("pi,pi->p", is_before @ kernel, is_before)
    other = 1.0 - is_before
    across = np.einsum("pi,pi->p", is_before @ kernel, other)
    values = within / (m * (m - 1)) + np.einsum("pi,pi->p", other @ kernel, other) / (n * (n - 1)) - 2.0 * across / (m * n)
    return float(values[0]), float((values >= values[0]).mean())
