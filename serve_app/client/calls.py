"""What both clients send, how they read the answer, and when they ask again.

Invariants: what the server refuses (any 4xx but 429) is never sent twice; no attempt begins after the deadline; a key is in no
message and no representation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote

import httpx
import tenacity
from pydantic import BaseModel, ValidationError

from actors.core.events import Result
from configs.errors import InputError
from serve_app.client.errors import ToolSearchError, of_response, of_silence
from serve_app.schema.catalog import BulkTool, ChangeAnswer, ToolAnswer, ToolBody
from serve_app.schema.operation import ReadyAnswer
from serve_app.schema.search import FeedbackAnswer, SearchAnswer, SearchMode

TIMEOUT_S = 10.0
RETRIES = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S, JITTER_S = 0.1, 5.0, 0.1
PASSING = frozenset({429, 500, 502, 503, 504})
"""Statuses of what may be over by the next attempt; 500 is what a replica that died over a request leaves behind."""

Answer = TypeVar("Answer", bound=BaseModel)


class SearchOptions(TypedDict, total=False):
    """How to search; what is left out is the server's default (docs/serving.md)."""

    k: int | None
    """Tools to answer with; None: as many as the scores justify."""
    mode: SearchMode
    namespaces: Sequence[str] | None
    """Only tools of these namespaces."""
    pinned: Sequence[str]
    """Tool ids to answer with in any case."""
    min_score: float | None
    """Only tools with at least this cosine; -1 answers always."""
    max_tokens: int | None
    """What the tools may take of a model's context."""
    detail: Literal["full", "brief"]
    """``full``, or ``brief``: no descriptions and schemas."""
    explain: bool
    train_on: bool
    """Whether the query may be stored and learned from."""


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request, and what its answer is read as."""

    method: str
    path: str
    answer: type[Answer]
    body: Mapping[str, Any] | None = None

    def content(self) -> bytes | None:
        """The body as JSON in ASCII: what JSON can name and UTF-8 cannot say is for the server to refuse."""
        return None if self.body is None else json.dumps(self.body).encode()


def search(query: str, options: SearchOptions) -> Call[SearchAnswer]:
    """``POST /v1/search``."""
    return Call("POST", "/v1/search", SearchAnswer, {"query": query, **_lists(options)})


def describe(tool_id: str) -> Call[ToolAnswer]:
    """``GET /v1/tools/{id}``."""
    return Call("GET", _tool(tool_id), ToolAnswer)


def outcome(request_id: str, tool_id: str, result: Result) -> Call[FeedbackAnswer]:
    """``POST /v1/feedback`` with an outcome."""
    return _feedback({"type": "outcome", "request_id": request_id, "tool_id": tool_id, "result": result})


def label(query: str, tool_ids: Sequence[str], by: str, train_on: bool) -> Call[FeedbackAnswer]:
    """``POST /v1/feedback`` with a label."""
    return _feedback({"type": "label", "query": query, "tool_ids": list(tool_ids), "by": by, "train_on": train_on})


def put_tool(tool_id: str, tool: ToolBody | Mapping[str, Any]) -> Call[ChangeAnswer]:
    """``PUT /v1/tools/{id}``."""
    return Call("PUT", _tool(tool_id), ChangeAnswer, _plain(tool))


def delete_tool(tool_id: str) -> Call[ChangeAnswer]:
    """``DELETE /v1/tools/{id}``."""
    return Call("DELETE", _tool(tool_id), ChangeAnswer)


def bulk(upserts: Sequence[BulkTool | Mapping[str, Any]], deletes: Sequence[str]) -> Call[ChangeAnswer]:
    """``POST /v1/tools:bulk``."""
    changes = {"upserts": [_plain(tool) for tool in upserts], "deletes": list(deletes)}
    return Call("POST", "/v1/tools:bulk", ChangeAnswer, changes)


def ready() -> Call[ReadyAnswer]:
    """``GET /readyz``."""
    return Call("GET", "/readyz", ReadyAnswer)


def read(call: Call[Answer], response: httpx.Response) -> Answer:
    """The answer. Raises ``ToolSearchError`` for any that is no success, or comes from something else than this server."""
    if not response.is_success:
        raise of_response(response)
    try:
        return call.answer.model_validate_json(response.content)
    except ValidationError as error:
        where = f"{call.method} {response.url.copy_with(query=None)}"
        detail = f"{where} was answered with what is no {call.answer.__name__}; is url that of a CoHyDE server?"
        raise ToolSearchError(response.status_code, detail) from error


@dataclass(frozen=True)
class Terms:
    """Where the server is, and how long and how often it is asked."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    """With the key."""
    timeout_s: float
    retries: int

    @classmethod
    def of(cls, url: str, key: str | None, timeout_s: float, retries: int) -> Terms:
        """Raises ``InputError`` for what cannot work."""
        if not _is_address(url):
            raise InputError(f"url={url!r}: must be the address of a server, as http://127.0.0.1:8000")
        if timeout_s <= 0:
            raise InputError(f"timeout_s={timeout_s}: must be above 0")
        if retries < 0:
            raise InputError(f"retries={retries}: must be 0 or more")
        if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
            # Not the key itself, which would end up in a log.
            raise InputError("key holds what no key has; give the secret that `cohyde keys add` printed")
        named = {} if key is None else {"authorization": f"Bearer {key.strip()}"}
        return cls(url.rstrip("/"), {"content-type": "application/json", "accept": "application/json", **named}, timeout_s, retries)

    def retrying(self) -> dict[str, Any]:
        """The arguments of tenacity's ``Retrying`` and ``AsyncRetrying`` for one call."""
        return {
            "retry": tenacity.retry_if_exception(_passes),
            "wait": _pause,
            "stop": tenacity.stop_after_attempt(1 + self.retries) | tenacity.stop_before_delay(self.timeout_s),
            "reraise": True,
        }

    def left(self, started: float) -> float:
        """Seconds until the deadline of a call that began at ``started`` (monotonic); never none at all, for httpx's sake."""
        return max(0.001, started + self.timeout_s - time.monotonic())

    def silence(self, error: httpx.RequestError) -> ToolSearchError:
        """What is raised where no answer came."""
        return of_silence(self.url, error)


def _is_address(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def _passes(error: BaseException) -> bool:
    return isinstance(error, ToolSearchError) and (error.status is None or error.status in PASSING)


_backoff = tenacity.wait_exponential_jitter(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S, jitter=JITTER_S)


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, ToolSearchError) else None
    return max(asked or 0.0, _backoff(state))


def _feedback(event: dict[str, Any]) -> Call[FeedbackAnswer]:
    return Call("POST", "/v1/feedback", FeedbackAnswer, {"events": [event]})


def _tool(tool_id: str) -> str:
    return f"/v1/tools/{quote(tool_id, safe='')}"


def _plain(tool: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    return tool.model_dump(mode="json", exclude_unset=True) if isinstance(tool, BaseModel) else dict(tool)


def _lists(options: SearchOptions) -> dict[str, Any]:
    given: dict[str, Any] = dict(options)
    return {name: list(value) if isinstance(value, tuple | set | frozenset) else value for name, value in given.items()}
