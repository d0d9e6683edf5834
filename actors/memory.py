"""Labelled queries as further texts of their tools: what was asked before, and which tools answered it.

A tool's score is its cosine plus ``weight`` times the highest cosine of the query to one of the tool's labelled queries: the
nearest-neighbour rule (Cover and Hart, 1967) beside the entry's own text. It finds what no text about the tool says, as which tools
belong to one errand, and says nothing of a tool that nobody asked for yet: the weight is fitted on dev, and 0 where that costs.

Invariants: vectors are of one retriever version; comparisons and serving look at the same neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from actors.core.fusion import Vectors, top
from actors.core.types import Found, Query
from actors.lexical import Ranking
from actors.retriever import Retriever

NEAREST = 64
"""Labelled queries that a query is held against in the end: the nearest ones."""
_CELLS = 1 << 24


@dataclass(frozen=True)
class Recalled:
    """A raw ranking, and what labelled queries say of it."""

    ranking: Ranking
    near: Mapping[str, float]
    """Tool -> highest cosine of the query to its labelled queries, above 0."""
    cosines: Mapping[str, float]
    """Of the tools of ``near`` that ``ranking`` lacks."""

    def ranked(self, weight: float) -> Ranking:
        """By cosine + ``weight`` * nearness; as it was where the weight is 0."""
        if not weight:
            return self.ranking
        scores = {**dict(self.ranking), **self.cosines}
        return sorted(((t, s + weight * self.near.get(t, 0.0)) for t, s in scores.items()), key=lambda found: -found[1])


class Memory:
    """Labelled queries by their vectors."""

    def __init__(self, labelled: Sequence[Found], embed: Callable[[Sequence[str]], Vectors]) -> None:
        """``embed``: texts to unit rows, [m, d]."""
        self._tools = [one.tool_ids for one in labelled]
        self._vectors = embed([one.query for one in labelled])

    def near(self, queries: Vectors) -> list[dict[str, float]]:
        """``Recalled.near`` of each of ``queries``, unit rows [n, d]."""
        found: list[dict[str, float]] = []
        step = max(1, _CELLS // max(1, len(self._tools)))
        for start in range(0, len(queries), step):
            cosines = queries[start : start + step] @ self._vectors.T
            for row, places in zip(cosines, top(cosines, NEAREST), strict=True):
                own: dict[str, float] = {}
                for place in places[row[places] > 0].tolist():
                    for tool_id in self._tools[place]:
                        own.setdefault(tool_id, float(row[place]))
                found.append(own)
        return found


def recall(
    ranking: Ranking, near: Mapping[str, float], cosines: Callable[[Sequence[str]], Iterable[float]], known: Callable[[str], bool]
) -> Recalled:
    """Put together; ``known`` says which tools may be found, ``cosines`` is asked for those that ``ranking`` lacks."""
    own = {tool_id: value for tool_id, value in near.items() if known(tool_id)}
    ranked = {tool_id for tool_id, _ in ranking}
    missing = [tool_id for tool_id in own if tool_id not in ranked]
    return Recalled(ranking, own, dict(zip(missing, map(float, cosines(missing)), strict=True)))


def recall_all(retriever: Retriever, memory: Memory, texts: Sequence[str], depth: int) -> list[Recalled]:
    """Of each query, over the retriever's whole catalog; raw rankings ``depth`` deep."""
    vectors, rankings = retriever.asked(texts)[0], retriever.rank(list(texts), None, "raw", 0.0, depth)
    place = {tool_id: row for row, tool_id in enumerate(retriever.dense.tool_ids)}

    def cosines(vector: Vectors, tool_ids: Sequence[str]) -> list[float]:
        found: list[float] = (retriever.dense.rows([place[t] for t in tool_ids]) @ vector).tolist()
        return found

    return [
        recall(ranking, near, partial(cosines, vector), place.__contains__)
        for ranking, near, vector in zip(rankings, memory.near(vectors), vectors, strict=True)
    ]


def labelled(queries: Sequence[Query]) -> list[Found]:
    """Labelled training queries as they are kept."""
    return [Found("", query.text, tuple(query.gold)) for query in queries]
