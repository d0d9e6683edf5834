"""The query log's consumer: events in, frozen units out; nothing is lost and nothing is trained twice.

Invariants: a unit is committed in one rename: its examples, the position in the log behind everything they came from, and the state
of joining and replay. A restarted intake goes on from the newest commit and reads again what came after it; so each event reaches
exactly one unit. Without consent, and before redaction, nothing is stored. What cannot be used goes to the dead-letter file with
its place and its reason, never with its text.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.core.drift import Drift
from actors.core.events import Event, EventError, LabelEvent, OutcomeEvent, SearchEvent, parse
from actors.core.joining import Interaction, Joiner, JoinLimits
from actors.core.replay import Example, Replay, ReplayLimits, example_from
from actors.core.snapshots import SnapshotStore
from actors.core.types import Found
from pipelines.streams import Position, Source, SourceLost

KIND = "intake"
STATE_FILE, EXAMPLES_FILE = "state.json", "examples.json"
EVENTS_PER_POLL = 500
POLL_TIMEOUT_S = 1.0
LOST_WAIT_S = 5.0
TOLD_EVERY_S = 10.0
PUBLISHED_EVERY_S = 2.0
READ_AHEAD = 4
"""Units whose examples may wait while nobody asks for a unit."""


@dataclass(frozen=True)
class IntakeLimits:
    """How events are joined and mixed, and when a unit is cut: after ``examples`` new and old ones, or after ``patience_s`` with at
    least ``least`` new ones.
    """

    join: JoinLimits
    replay: ReplayLimits
    examples: int
    least: int
    patience_s: float


class DeadLetters:
    """The dead-letter file: one JSON line for each event that cannot be used. A place is written once, whoever reads it again."""

    def __init__(self, path: Path) -> None:
        """Read which places are in it already."""
        self._path = path
        self._places: set[str] = set()
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                # The last line of a process that was killed may be torn; its place is read again and written anew.
                with contextlib.suppress(json.JSONDecodeError):
                    self._places.add(json.loads(line)["place"])

    def add(self, place: str, reason: str, now: float) -> None:
        """Append a place with its reason, unless it is there."""
        if place in self._places:
            return
        self._places.add(place)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": now, "place": place, "reason": reason}) + "\n")

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)


class Intake:
    """Reads a source, cuts units. One process at a time; not thread-safe."""

    def __init__(
        self,
        source: Source,
        store: SnapshotStore,
        limits: IntakeLimits,
        tool_ids: Callable[[str], bool],
        redact: Callable[[str], str],
        dead_letters: DeadLetters,
        told: Callable[[dict[str, Any]], None] = lambda status: None,
        publish: Callable[[list[Found]], None] = lambda found: None,
        to_forget: Callable[[], dict[str, float]] = dict,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``tool_ids`` tells whether the catalog has a tool; ``told`` gets the status now and then, ``publish`` what users found,
        open searches included, soon after that changed; ``to_forget`` gives the tenants to forget, each with the time up to which.

        Goes on from the store's newest commit.
        """
        self._source, self._store, self._limits, self._clock = source, store, limits, clock
        self._knows, self._redact, self._dead, self._told = tool_ids, redact, dead_letters, told
        self._told_at = self._published_at = 0.0
        self._ended = threading.Event()
        self._publish, self._published = publish, list[Found]()
        self._to_forget, self._forgotten = to_forget, dict[str, float]()
        self._joiner, self._replay = Joiner(limits.join), Replay(limits.replay)
        # Not kept over a restart: it fills again with what comes.
        self._drift = Drift()
        newest = store.latest(KIND)
        position: Position = {}
        if newest is not None:
            state = json.loads((store.fetch(KIND, newest) / STATE_FILE).read_text(encoding="utf-8"))
            self._joiner = Joiner.restore(limits.join, state["joiner"])
            self._replay = Replay.restore(limits.replay, state["replay"])
            position, self._forgotten = state["position"], state["forgotten"]
        self._next = 0 if newest is None else newest + 1
        source.seek(position)

    def unit(
        self,
        index: int,
        seed: int,
        hurry: Callable[[Drift], bool] = lambda drift: False,
    ) -> list[Example] | None:
        """The examples of unit ``index``, cut now (blocking until there are enough) or read back; None after ``end``.

        ``hurry`` sees the drift since the last unit and may ask for one as soon as ``least`` new examples are there. Raises
        ``ValueError`` for a unit after the next.
        """
        if index < self._next:
            return self.read(index)
        if index > self._next:
            raise ValueError(f"unit {index} was asked for before unit {self._next}")
        started = self._clock()
        hurried = False
        while not self._ended.is_set():
            if self._ready(started, hurried := hurried or hurry(self._drift)):
                break
            self.pump(POLL_TIMEOUT_S)
        else:
            return None
        examples = self._replay.cut(self._limits.examples, seed)
        self._drift.settle()
        self._commit(index, examples)
        return examples

    def read(self, index: int) -> list[Example]:
        """The examples of a unit that was cut."""
        records = json.loads((self._store.fetch(KIND, index) / EXAMPLES_FILE).read_text(encoding="utf-8"))
        return [example_from(record) for record in records]

    def pump(self, timeout_s: float) -> int:
        """Take in what the log has, at most one poll of it; return how many records that were."""
        try:
            records = self._source.poll(EVENTS_PER_POLL, timeout_s)
        except SourceLost:
            # The log holds what we have not read; it is asked again.
            time.sleep(min(timeout_s, LOST_WAIT_S))
            return 0
        now = self._clock()
        self._forget()
        for record in records:
            if self._ended.is_set():
                # What was polled is dropped unread: no unit will be cut, and the next process begins at the newest commit.
                return 0
            try:
                event = parse(record.data)
                if event.time > self._forgotten.get(event.tenant, 0.0):
                    self._learn(self._joiner.take(self._usable(event), now))
            except EventError as error:
                self._dead.add(record.place, str(error), now)
        closed, letters = self._joiner.close(now)
        self._learn(closed)
        for letter in letters:
            self._dead.add(letter.event.key, letter.reason, now)
        if now - self._told_at >= TOLD_EVERY_S:
            self._told_at = now
            self._told(self.status())
        if now - self._published_at >= PUBLISHED_EVERY_S:
            self._published_at = now
            self._publish_found()
        return len(records)

    def end(self) -> None:
        """Nothing more is cut, told or published; a call in another thread returns within a poll."""
        self._ended.set()

    def read_ahead(self, wanted: Callable[[], bool]) -> None:
        """Go on reading between units, so that what users find is published soon, until a unit is ``wanted`` or ``end``.

        No more is read than the next units will take at once: what nobody asks for yet waits in the log.
        """
        while not (wanted() or self._ended.is_set()):
            if self._replay.waiting < READ_AHEAD * self._limits.examples:
                self.pump(POLL_TIMEOUT_S)
            else:
                time.sleep(POLL_TIMEOUT_S)

    def reservoir(self, index: int) -> list[Example]:
        """The replay's reservoir as it was when unit ``index`` was cut, that unit's new examples included."""
        if index + 1 == self._next:
            return self._replay.reservoir
        state = json.loads((self._store.fetch(KIND, index) / STATE_FILE).read_text(encoding="utf-8"))
        return Replay.restore(self._limits.replay, state["replay"]).reservoir

    @property
    def held_out(self) -> list[Example]:
        """What the gate judges by."""
        return self._replay.held_out

    def status(self) -> dict[str, Any]:
        """Counts for people and metrics."""
        return {
            "unread": self._source.depth(),
            "open_searches": self._joiner.waiting,
            "examples_waiting": self._replay.waiting,
            "held_out": len(self._replay.held_out),
            "duplicates": self._joiner.duplicates,
            "dead_letters": len(self._dead),
            "refused": dict(self._replay.refused),
        }

    def _ready(self, since: float, hurry: bool) -> bool:
        limits = self._limits
        if self._replay.enough(limits.examples):
            return True
        late = hurry or self._clock() - since >= limits.patience_s
        return late and self._replay.new_available(limits.examples) >= limits.least

    def _usable(self, event: Event) -> Event:
        """The event with its text redacted and without tools that the catalog does not have; raises ``EventError``."""
        if isinstance(event, OutcomeEvent):
            if not self._knows(event.tool_id):
                raise EventError(f"tool_id: {event.tool_id} is not in the catalog")
            return event
        if isinstance(event, LabelEvent):
            unknown = next((t for t in event.tool_ids if not self._knows(t)), None)
            if unknown is not None:
                raise EventError(f"tool_ids: {unknown} is not in the catalog")
            return event.model_copy(update={"query": self._redact(event.query)}) if event.train_on else event
        if not event.train_on:
            return event
        # A tool that left the catalog was shown by an older release: the rest of the answer still tells.
        shown = tuple(tool for tool in event.tools if self._knows(tool.tool_id))
        return SearchEvent.model_copy(event, update={"query": self._redact(event.query), "tools": shown})

    def _learn(self, interactions: Sequence[Interaction]) -> None:
        for interaction in interactions:
            self._replay.add(interaction)
            self._drift.note(interaction)

    def _publish_found(self) -> None:
        found = [*self._replay.found(), *self._joiner.found()]
        if found != self._published:
            self._published = found
            self._publish(found)

    def _forget(self) -> None:
        for tenant, until in self._to_forget().items():
            if self._forgotten.get(tenant, 0.0) < until:
                self._forgotten[tenant] = until
                self._joiner.forget(tenant)
                self._replay.forget(tenant)

    def _commit(self, index: int, examples: Sequence[Example]) -> None:
        position = self._source.position()
        state = {"position": position, "joiner": self._joiner.state(), "replay": self._replay.state(), "forgotten": self._forgotten}

        def write(directory: Path) -> None:
            (directory / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
            (directory / EXAMPLES_FILE).write_text(json.dumps([asdict(e) for e in examples]), encoding="utf-8")

        self._store.publish(KIND, index, write, {"examples": len(examples), "position": position})
        self._next = index + 1
        try:
            self._source.commit(position)
        except SourceLost:
            # Ours is the position that counts; the log is told with the next unit.
            return
