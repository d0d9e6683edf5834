"""Searches and their outcomes, joined by tenant and request id into interactions.

Invariants: pure (no clock of its own); request ids are each tenant's own, so no tenant's event touches another's search; each event
counts once, however often and in whatever order it arrives; an outcome that comes after its search was closed still counts, as an
interaction of its own; what cannot be joined is named with its reason, not dropped. The whole state goes through ``state`` and
``Joiner.restore`` unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from actors.core.events import Event, EventError, LabelEvent, OutcomeEvent, Result, SearchEvent, ShownTool
from actors.core.types import Found

_STRENGTH: dict[str, int] = {"called": 0, "failed": 1, "succeeded": 2}


@dataclass(frozen=True, slots=True)
class Interaction:
    """What is known of one search when it closes, or of a label, or what a late outcome adds.

    ``results`` maps tool ids to the strongest result of each; ``tools`` is empty for a label. ``late`` interactions repeat the
    tools of their search with the new results alone.
    """

    interaction_id: str
    time: float
    tenant: str
    query: str
    tools: tuple[ShownTool, ...]
    results: dict[str, Result]
    label: tuple[str, ...] = ()
    late: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that cannot be used, and why."""

    reason: str
    event: Event


@dataclass(frozen=True)
class JoinLimits:
    """Seconds: how long a search stays open for outcomes, how long it is remembered for late ones, how far clocks may be ahead."""

    window_s: float
    memory_s: float
    clock_skew_s: float


@dataclass
class _Open:
    """A search and the results that came; ``closed`` once its interaction was given out."""

    search: SearchEvent
    results: dict[str, Result] = field(default_factory=dict)
    closed: bool = False


class Joiner:
    """Takes events one by one; gives interactions as they close.

    Time is event time: a search closes once an event of ``window_s`` later was seen, or once the clock is two windows past it (a
    log that has gone quiet).
    """

    def __init__(self, limits: JoinLimits) -> None:
        """Start empty."""
        self._limits = limits
        self._searches: dict[str, _Open] = {}
        self._orphans: dict[str, list[OutcomeEvent]] = {}
        self._seen: dict[str, float] = {}
        self._declined: dict[str, float] = {}
        self._newest = 0.0
        self.duplicates = 0

    def take(self, event: Event, now: float) -> list[Interaction]:
        """What ``event`` completes by itself: a label, a late outcome. Raises ``EventError`` for a clock that is ahead."""
        ahead = event.time - now
        if ahead > self._limits.clock_skew_s:
            raise EventError(
                f"time: {ahead:.0f} s ahead of this machine's clock; at most {self._limits.clock_skew_s:.0f} s are allowed"
            )
        if event.key in self._seen:
            self.duplicates += 1
            return []
        self._seen[event.key] = event.time
        self._newest = max(self._newest, event.time)
        if not isinstance(event, OutcomeEvent) and not event.train_on:
            return self._decline(event)
        if isinstance(event, LabelEvent):
            return [Interaction(event.key, event.time, event.tenant, event.query, (), {}, event.tool_ids)]
        if isinstance(event, SearchEvent):
            self._searches[event.request] = opened = _Open(event)
            for outcome in self._orphans.pop(event.request, []):
                _note(opened.results, outcome)
            return []
        return self._outcome(event)

    def close(self, now: float) -> tuple[list[Interaction], list[DeadLetter]]:
        """Interactions whose window has passed, oldest first; outcomes whose search never came; old searches are forgotten."""
        limits = self._limits
        reached = max(self._newest, now - limits.window_s)
        due = [o for o in self._searches.values() if not o.closed and o.search.time + limits.window_s <= reached]
        interactions = []
        for opened in sorted(due, key=lambda o: (o.search.time, o.search.request)):
            opened.closed = True
            interactions.append(_interaction(opened.search, opened.results))
        lost = [r for r, waiting in self._orphans.items() if min(o.time for o in waiting) + limits.window_s <= reached]
        letters = [DeadLetter("outcome without search", outcome) for request in lost for outcome in self._orphans.pop(request)]
        oldest = reached - limits.memory_s
        self._searches = {r: o for r, o in self._searches.items() if not o.closed or o.search.time > oldest}
        self._seen = {key: time for key, time in self._seen.items() if time > oldest}
        self._declined = {request: time for request, time in self._declined.items() if time > oldest}
        return interactions, letters

    def found(self) -> list[Found]:
        """What users found by searches whose window is open still: a success is known before what was passed over is."""
        opened = [(o.search, tuple(t for t, r in o.results.items() if r == "succeeded")) for o in self._open()]
        return [Found(search.tenant, search.query, tools) for search, tools in opened if tools]

    def forget(self, tenant: str) -> int:
        """Drop what is held of a tenant; return how many searches and outcomes that were."""
        searches = [r for r, o in self._searches.items() if o.search.tenant == tenant]
        for request in searches:
            del self._searches[request]
        kept = {r: [o for o in waiting if o.tenant != tenant] for r, waiting in self._orphans.items()}
        dropped = sum(len(w) for w in self._orphans.values()) - sum(len(w) for w in kept.values())
        self._orphans = {r: waiting for r, waiting in kept.items() if waiting}
        return len(searches) + dropped

    @property
    def waiting(self) -> int:
        """Searches whose window is open."""
        return len(self._open())

    def state(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {
            "searches": [
                {"search": o.search.model_dump(mode="json"), "results": o.results, "closed": o.closed}
                for o in self._searches.values()
            ],
            "orphans": [o.model_dump(mode="json") for waiting in self._orphans.values() for o in waiting],
            "seen": self._seen,
            "declined": self._declined,
            "newest": self._newest,
            "duplicates": self.duplicates,
        }

    @classmethod
    def restore(cls, limits: JoinLimits, state: dict[str, Any]) -> Joiner:
        """The joiner that gave ``state``."""
        joiner = cls(limits)
        for record in state["searches"]:
            search = SearchEvent.model_validate(record["search"])
            joiner._searches[search.request] = _Open(search, dict(record["results"]), record["closed"])
        joiner._hold(OutcomeEvent.model_validate(record) for record in state["orphans"])
        joiner._seen, joiner._declined = dict(state["seen"]), dict(state["declined"])
        joiner._newest, joiner.duplicates = state["newest"], state["duplicates"]
        return joiner

    def _open(self) -> list[_Open]:
        return [opened for opened in self._searches.values() if not opened.closed]

    def _decline(self, event: SearchEvent | LabelEvent) -> list[Interaction]:
        """Without consent only the request's id stays, by which its outcomes are known and passed over."""
        if isinstance(event, SearchEvent):
            self._declined[event.request] = event.time
            self._orphans.pop(event.request, None)
        return []

    def _outcome(self, event: OutcomeEvent) -> list[Interaction]:
        opened = self._searches.get(event.request)
        if opened is None:
            if event.request not in self._declined:
                self._hold([event])
            return []
        changed = _note(opened.results, event)
        if not opened.closed or not changed:
            return []
        return [_interaction(opened.search, {event.tool_id: event.result}, event.key)]

    def _hold(self, outcomes: Iterable[OutcomeEvent]) -> None:
        for outcome in outcomes:
            self._orphans.setdefault(outcome.request, []).append(outcome)


def _note(results: dict[str, Result], outcome: OutcomeEvent) -> bool:
    """Keep the stronger result of a tool; whether anything changed."""
    known = results.get(outcome.tool_id)
    if known is not None and _STRENGTH[known] >= _STRENGTH[outcome.result]:
        return False
    results[outcome.tool_id] = outcome.result
    return True


def _interaction(search: SearchEvent, results: dict[str, Result], late: str = "") -> Interaction:
    return Interaction(
        late or search.key, search.time, search.tenant, search.query, search.tools, dict(results), (), late=bool(late)
    )
