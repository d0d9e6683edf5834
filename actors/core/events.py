"""Query-log events on the wire: what a search showed, what came of it, what a person says is right (docs/query-log.md).

Invariants: one JSON object is one event; an unknown version, type or field is refused with a reason, never guessed at; times are
seconds since the epoch (UTC) of the machine that wrote the event.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

EVENT_VERSION = 1
MAX_EVENT_BYTES = 256 * 1024
MAX_QUERY_CHARACTERS = 4_000

Name = Annotated[str, Field(min_length=1, max_length=256)]
Result = Literal["called", "succeeded", "failed"]


class EventError(ValueError):
    """An event that cannot be used; the message is the reason that the dead-letter file gives."""


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    """Of the format; 1."""
    time: Annotated[float, Field(gt=0, lt=1e11)]
    """When it happened, in seconds since the epoch."""
    tenant: Name
    """Whose it is; caps and deletion go by it."""


class ShownTool(BaseModel):
    """One tool of a search's answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool_id: Name
    rank: Annotated[int, Field(ge=1)]
    """Place in the answer, from 1."""
    score: float
    propensity: Annotated[float, Field(gt=0, le=1)]
    """Probability that a client met this tool at this place: what inverse propensity weighting divides by."""


class _Asked(_Event):
    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)]
    train_on: bool
    """Consent: without it nothing of the event is stored."""

    @field_validator("query")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is blank")
        return value


class SearchEvent(_Asked):
    """A query was answered."""

    type: Literal["search"]
    request_id: Name
    release: Name
    """Which release answered."""
    tools: Annotated[tuple[ShownTool, ...], Field(max_length=1_000)]
    """What was shown, best first."""

    @property
    def request(self) -> str:
        """What its outcomes are joined by: request ids are each tenant's own."""
        return json.dumps([self.tenant, self.request_id])

    @property
    def key(self) -> str:
        """Equal for duplicates of one event."""
        return f"search {self.request}"


class OutcomeEvent(_Event):
    """A shown tool was called, and how that went."""

    type: Literal["outcome"]
    request_id: Name
    tool_id: Name
    result: Result

    @property
    def request(self) -> str:
        """That of the search it belongs to."""
        return json.dumps([self.tenant, self.request_id])

    @property
    def key(self) -> str:
        """Equal for duplicates of one event."""
        return f"outcome {self.request} {self.tool_id} {self.result}"


class LabelEvent(_Asked):
    """Somebody says which tools answer a query."""

    type: Literal["label"]
    tool_ids: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]
    by: Name
    """Who says so: a person, a team, a program."""

    @property
    def key(self) -> str:
        """Equal for duplicates of one event: the same label by the same labeller, whenever it was sent."""
        content = "\0".join([self.tenant, self.query, self.by, *sorted(self.tool_ids)])
        return f"label {hashlib.sha256(content.encode()).hexdigest()[:24]}"


Event = SearchEvent | OutcomeEvent | LabelEvent
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def parse(line: bytes) -> Event:
    """One event from its JSON. Raises ``EventError`` with the reason in one line: field, what is wrong with it."""
    if len(line) > MAX_EVENT_BYTES:
        raise EventError(f"{len(line)} bytes; an event has at most {MAX_EVENT_BYTES}")
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EventError(f"not UTF-8 at byte {error.start}") from error
    try:
        return _EVENT.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # The union's own tag ("search") stands first in the location of a field.
        field = ".".join(str(part) for part in first["loc"] if part not in ("search", "outcome", "label"))
        raise EventError(f"{field or 'event'}: {first['msg']}".replace("\n", " ")) from error
