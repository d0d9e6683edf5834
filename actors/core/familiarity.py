"""Which tools are like those that an encoder was trained among, and which are not.

An encoder that learns what one catalog is asked for forgets a little of what others are. Where queries alone were trained, tools
have the base model's vectors, so a query that finds an unfamiliar tool first can be answered by the frozen encoder over the same
index: as before any training, until a run has trained on that tool. A tool is told by its distance to the nearest tool of the
training, with a border that all but a few of those keep among themselves (Sun et al., "Out-of-Distribution Detection with Deep
Nearest Neighbors", ICML 2022). Of queries that distance says less: half of what other catalogs are asked is near some query of the
training (docs/experiments.md, 28).

Invariants: pure (numpy only); in a catalog as it was trained on nothing is unfamiliar.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actors.core.fusion import Vectors

SHARE = 0.02
"""Of the training's own tools, this share is further from all other namespaces than the border."""
_SAMPLED = 2_048
_ROWS = 512


def border(vectors: Vectors, namespaces: Sequence[str]) -> float:
    """The cosine to the nearest tool of the training from which on a tool is familiar.

    ``vectors`` [n, d] are the training's tools, each of one of ``namespaces``: the border is low enough for a new namespace of the
    same kind. Where all are of one, each counts as its own. At most some thousands of tools are asked. -1 for a single tool.
    """
    known = {name: number for number, name in enumerate(dict.fromkeys(namespaces))}
    owners = np.array([known[name] for name in namespaces]) if len(known) > 1 else np.arange(len(vectors))
    rows = np.random.default_rng(0).permutation(len(vectors))[:_SAMPLED]
    found: list[float] = []
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        cosines = vectors[part] @ vectors.T
        cosines[owners[part][:, None] == owners[None]] = -1.0
        found += cosines.max(axis=1).tolist()
    return float(np.quantile(found, SHARE))


def unfamiliar(vectors: Vectors, trained: Vectors, least: float) -> NDArray[np.bool_]:
    """Of each of ``vectors`` [n, d] whether no row of ``trained`` [m, d] is as near as ``least``."""
    found = np.zeros(len(vectors), dtype=bool)
    for start in range(0, len(vectors), _ROWS):
        part = slice(start, start + _ROWS)
        found[part] = (vectors[part] @ trained.T).max(axis=1) < least
    return found
