"""What a stream of outcomes can teach without training an encoder: the alternatives that served releases are held against.

Invariants: vectors come from one encoder that nobody trains; a learner takes in an outcome at once; a failed call moves tools, but
teaches a head nothing.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from actors.core.fusion import Vectors

HEAD_RATES, HEAD_BATCH, HEAD_STEPS, HEAD_SCALE = (0.1, 0.3, 1.0, 3.0), 32, 4, 20.0
"""The linear head: learning rates tried, outcomes a step, steps after each full batch (on replayed outcomes), InfoNCE's scale."""
TOOL_RATES = (0.1, 0.3, 1.0, 2.0)
"""How far an outcome moves a tool's vector towards, or a failure away from, the query's; all are tried."""


class Learner(Protocol):
    """An alternative: ranks, then learns."""

    def scores(self, query: Vectors) -> Vectors:
        """Scores of all tools for a query vector, [n]."""

    def learn(self, query: Vectors, outcomes: dict[int, bool]) -> None:
        """Take in outcomes by tool row."""


class Static:
    """The encoder that the run started from."""

    def __init__(self, tools: Vectors) -> None:
        """``tools``: vectors of length 1, [n, d]."""
        self._tools = tools

    def scores(self, query: Vectors) -> Vectors:
        """As ``Learner``."""
        return self._tools @ query

    def learn(self, query: Vectors, outcomes: dict[int, bool]) -> None:
        """Nothing."""


class Head:
    """A linear map of query vectors, from the identity, by SGD on InfoNCE over all tools."""

    def __init__(self, tools: Vectors, rate: float, seed: int) -> None:
        """``tools`` as for ``Static``."""
        self._tools, self._rate, self._map = tools, rate, np.eye(tools.shape[1], dtype=np.float32)
        self._rng = np.random.default_rng(seed)
        self._seen: list[tuple[Vectors, int]] = []

    def scores(self, query: Vectors) -> Vectors:
        """As ``Learner``."""
        return self._tools @ (self._map @ query)

    def learn(self, query: Vectors, outcomes: dict[int, bool]) -> None:
        """Keep successes; train once a batch of new ones is there."""
        for row, succeeded in outcomes.items():
            if succeeded:
                self._seen.append((query, row))
                if len(self._seen) % HEAD_BATCH == 0:
                    self._train()

    def _train(self) -> None:
        for _ in range(HEAD_STEPS):
            chosen = self._rng.choice(len(self._seen), size=min(HEAD_BATCH, len(self._seen)), replace=False)
            queries = np.stack([self._seen[i][0] for i in chosen])
            logits = HEAD_SCALE * (queries @ self._map.T) @ self._tools.T
            chances = np.exp(logits - logits.max(axis=1, keepdims=True))
            chances /= chances.sum(axis=1, keepdims=True)
            chances[np.arange(len(chosen)), [self._seen[i][1] for i in chosen]] -= 1.0
            gradient = HEAD_SCALE * (chances @ self._tools).T @ queries / len(chosen)
            self._map -= (self._rate / HEAD_SCALE * gradient).astype(np.float32)


class MovedTools:
    """Tool vectors that move towards the queries they succeeded for and away from those they failed for."""

    def __init__(self, tools: Vectors, rate: float) -> None:
        """``tools`` as for ``Static``; they are copied."""
        self._tools, self._rate = tools.copy(), rate

    def scores(self, query: Vectors) -> Vectors:
        """As ``Learner``."""
        return self._tools @ query

    def learn(self, query: Vectors, outcomes: dict[int, bool]) -> None:
        """Move."""
        for row, succeeded in outcomes.items():
            moved = self._tools[row] + (self._rate if succeeded else -self._rate) * query
            self._tools[row] = moved / np.linalg.norm(moved)
