"""From a ranking to an answer: what comes first, how much of it, and what is tried out for the log's sake.

Invariants: pure; a tool stands in an answer once; every tool shown carries the probability with which it was shown at its place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Ranking = Sequence[tuple[str, float]]
EXACT_SCORE = 1.0
"""Score of a tool whose name was asked for."""


def put_first(
    ranking: Ranking, exact: Sequence[str], pinned: Sequence[str], score_of: Callable[[str], float]
) -> list[tuple[str, float]]:
    """Pinned tools, then those named exactly, then the ranking without them; ``score_of`` gives the score of a pinned one."""
    first = {tool_id: score_of(tool_id) for tool_id in pinned} | dict.fromkeys(exact, EXACT_SCORE)
    return [*first.items(), *((tool_id, score) for tool_id, score in ranking if tool_id not in first)]


def within_budget(sizes: Sequence[int], max_tokens: int) -> int:
    """How many of the first tools take at most ``max_tokens`` together; the first is taken in any case."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > max_tokens and count:
            return count
    return len(sizes)


def explore(
    shown: Ranking, further: Ranking, first_free: int, share: float, rng: random.Random
) -> tuple[list[tuple[str, float]], list[float], int | None]:
    """(tools to show, propensity of each, the place that was given away).

    With probability ``share`` one place, drawn evenly from those from ``first_free`` on, goes to a tool drawn evenly from
    ``further``: what is never shown is never called, and the log could not correct for it.
    """
    places, tools = len(shown) - first_free, list(shown)
    if places <= 0 or not further or share == 0:
        return tools, [1.0] * len(tools), None
    own = 1.0 - share / places
    propensities = [1.0] * first_free + [own] * places
    if rng.random() >= share:
        return tools, propensities, None
    place = first_free + rng.randrange(places)
    tools[place] = further[rng.randrange(len(further))]
    propensities[place] = share / (places * len(further))
    return tools, propensities, place
