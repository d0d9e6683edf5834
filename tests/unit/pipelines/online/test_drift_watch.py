"""How often drift is looked at, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.core.drift import Drift, Vectors
from actors.core.joining import Interaction
from pipelines.online.drift_watch import EVERY_S, DriftWatch


def test_looks_now_and_then_and_tells_what_it_saw() -> None:
    now, told, asked = [0.0], [], []

    def embed(texts: Sequence[str]) -> Vectors:
        asked.append(texts)
        rows = [[1.0, 0.01 * i] if text.startswith("old") else [0.01 * i, 1.0] for i, text in enumerate(texts)]
        vectors = np.array(rows, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    watch, drift = DriftWatch(embed, 0.05, told.append, lambda: now[0]), Drift()
    assert not watch(drift)
    now[0] += EVERY_S
    for part in ("old", "new"):
        drift.settle()
        for number in range(30):
            drift.note(Interaction(f"{part}{number}", 1.0, "t", f"{part} {number}", (), {}))
    assert watch(drift)
    assert told[0]["hurry"] == 1.0
    assert told[0]["mmd_p"] < 0.01
    assert not watch(drift)
    assert len(asked) == 1
