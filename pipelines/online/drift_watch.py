"""Looks at drift now and then while a unit is waited for.

Invariants: never more often than ``EVERY_S``, since it embeds; what it saw is told each time, also where it is no reason to hurry.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from actors.core.drift import Drift, Embed, has_drifted

EVERY_S = 60.0
SEED = 1


class DriftWatch:
    """Whether a unit is to be cut early."""

    def __init__(
        self, embed: Embed, p_value: float, told: Callable[[dict[str, float]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``embed`` by an encoder that never changes; ``told`` takes each set of figures."""
        self._embed, self._p_value, self._told, self._clock = embed, p_value, told, clock
        self._looked_at = float("-inf")

    def __call__(self, drift: Drift) -> bool:
        """True once for each look that found drift."""
        if self._clock() - self._looked_at < EVERY_S:
            return False
        figures = drift.figures(self._embed, SEED)
        # Looked at after: embedding takes its time too.
        self._looked_at = self._clock()
        if not figures:
            return False
        found = has_drifted(figures, self._p_value)
        self._told(figures | {"hurry": float(found)})
        return found
