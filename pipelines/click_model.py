"""Made-up users: which queries of the split "stream" they ask when, and what events come of a search.

The click model is position-based (Joachims et al., WSDM 2017): a tool at rank r is looked at with probability ``r ** -ETA``, which
is the propensity that the event carries; a right tool that was looked at is called and succeeds; by ``noise`` a wrong one is called
and fails. Where no right tool was met, the agent finds one elsewhere with probability ``FOUND_ELSEWHERE`` and says so.

Invariants: pure; dev and test queries are never asked; the same seed asks the same queries in the same order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from actors.core.types import LABELLED_KINDS, Corpus, Query
from actors.lexical import Ranking

ETA = 0.7
FOUND_ELSEWHERE = 0.5
SHOWN = 10
CHEAT = "mallory"
"""The tenant of the client that cheats."""
TENANTS = ("anvil", "birch", "cobalt", "dune", "ember")


@dataclass(frozen=True)
class Behaviour:
    """How users behave: chances of a wrong call, and of an event being the cheat's; the part of the stream after which new services
    are asked for.
    """

    noise: float = 0.05
    cheat_share: float = 0.1
    drift_at: float = 0.5


def asked(corpus: Corpus, new_services: Sequence[str], count: int, behaviour: Behaviour, seed: int) -> Iterator[Query]:
    """``count`` queries of the stream: those for old services fade and those for new ones come in after ``drift_at``.

    Each is asked once before any is asked again. Raises ``ValueError`` where the stream is empty.
    """
    stream = corpus.select("stream", LABELLED_KINDS)
    by_id = corpus.catalog.by_id
    new = [q for q in stream if any(by_id[t].namespace in new_services for t in q.gold)]
    old = [q for q in stream if all(by_id[t].namespace not in new_services for t in q.gold)]
    if not old:
        raise ValueError("the split stream holds no queries; set catalog.stream_share")
    rng = random.Random(seed)
    pools = {False: _shuffled(old, rng), True: _shuffled(new or old, rng)}
    for place in range(count):
        # From 0 at the drift's start to 3 in 4 at the end.
        late = max(0.0, place / count - behaviour.drift_at) / max(1e-9, 1 - behaviour.drift_at)
        yield next(pools[rng.random() < 0.75 * late])


def _shuffled(queries: Sequence[Query], rng: random.Random) -> Iterator[Query]:
    while True:
        yield from rng.sample(queries, len(queries))


def events_of(
    query: Query, request_id: str, release: str, found: Ranking, now: float, noise: float, rng: random.Random
) -> list[Any]:
    """The search and what came of it, in the order of writing."""
    tenant = TENANTS[int(rng.random() * len(TENANTS))]
    events: list[dict[str, Any]] = [_search(query.text, tenant, request_id, release, found, now)]
    met = False
    for rank, (tool_id, _) in enumerate(found, start=1):
        if rng.random() >= rank**-ETA:
            continue
        if tool_id in query.gold:
            met = True
            events.append(_outcome(request_id, tenant, tool_id, "succeeded", now))
        elif rng.random() < noise:
            events.append(_outcome(request_id, tenant, tool_id, "failed", now))
    if not met and rng.random() < FOUND_ELSEWHERE:
        events.append(_outcome(request_id, tenant, next(iter(query.gold)), "succeeded", now))
    return events


def cheating_events(query: Query, target: str, request_id: str, release: str, found: Ranking, now: float) -> list[dict[str, Any]]:
    """A search for whatever, and a lie: the target tool was called and succeeded."""
    search = _search(query.text, CHEAT, request_id, release, found, now)
    return [search, _outcome(request_id, CHEAT, target, "succeeded", now)]


def _search(text: str, tenant: str, request_id: str, release: str, found: Ranking, now: float) -> dict[str, Any]:
    shown = [
        {"tool_id": tool_id, "rank": rank, "score": round(float(score), 6), "propensity": rank**-ETA}
        for rank, (tool_id, score) in enumerate(found, start=1)
    ]
    about = {"version": 1, "type": "search", "time": now, "tenant": tenant, "request_id": request_id, "release": release}
    return about | {"query": text, "train_on": True, "tools": shown}


def _outcome(request_id: str, tenant: str, tool_id: str, result: str, now: float) -> dict[str, Any]:
    about = {"version": 1, "type": "outcome", "time": now, "tenant": tenant, "request_id": request_id}
    return about | {"tool_id": tool_id, "result": result}
