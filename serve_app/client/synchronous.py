"""The client for programs that wait."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
import tenacity

from actors.core.events import Result
from serve_app.client import calls
from serve_app.client.calls import RETRIES, TIMEOUT_S, Answer, Call, SearchOptions, Terms
from serve_app.schema.catalog import BulkTool, ChangeAnswer, ToolAnswer, ToolBody
from serve_app.schema.operation import ReadyAnswer
from serve_app.schema.search import SearchAnswer


class ToolSearch:
    """A tool search server; connections are kept between calls. May be used from several threads.

    Every method raises ``ToolSearchError`` where the server refuses, fails or is not reached. Lost connections and 429, 502, 503
    and 504 are tried again, at most ``retries`` times, with growing pauses, or after what ``Retry-After`` says. No attempt begins
    later than ``timeout_s`` after the call, and one under way is given what is left of it.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = TIMEOUT_S, retries: int = RETRIES) -> None:
        """``url`` as http://127.0.0.1:8000, ``key`` the secret that ``cohyde keys add`` printed. Raises ``InputError``."""
        self._terms = Terms.of(url, key, timeout_s, retries)
        self._http = httpx.Client(headers=dict(self._terms.headers))

    def __enter__(self) -> Self:
        """Closes when the context ends."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchAnswer:
        """Find the tools that answer ``query``."""
        return self._ask(calls.search(query, options))

    def describe(self, tool_id: str) -> ToolAnswer:
        """One tool with its description and schema; an error of status 404 where there is none."""
        return self._ask(calls.describe(tool_id))

    def report_outcome(self, request_id: str, tool_id: str, result: Result) -> None:
        """Say that a tool of an answer was called, and how that went: what the models learn from."""
        self._ask(calls.outcome(request_id, tool_id, result))

    def label(self, query: str, tool_ids: Sequence[str], by: str, *, train_on: bool = True) -> None:
        """Say which tools answer a query; ``by`` is who says so."""
        self._ask(calls.label(query, tool_ids, by, train_on))

    def put_tool(self, tool_id: str, tool: ToolBody | Mapping[str, Any]) -> ChangeAnswer:
        """Add or replace a tool: name, description, and optionally title, namespace and input_schema."""
        return self._ask(calls.put_tool(tool_id, tool))

    def delete_tool(self, tool_id: str) -> ChangeAnswer:
        """Take a tool out of the catalog."""
        return self._ask(calls.delete_tool(tool_id))

    def bulk(self, upserts: Sequence[BulkTool | Mapping[str, Any]] = (), deletes: Sequence[str] = ()) -> ChangeAnswer:
        """Add, replace and delete several tools as one change."""
        return self._ask(calls.bulk(upserts, deletes))

    def ready(self) -> ReadyAnswer:
        """What answers now, and what is not as it should be."""
        return self._ask(calls.ready())

    def _ask(self, call: Call[Answer]) -> Answer:
        answer: Answer = tenacity.Retrying(**self._terms.retrying())(self._attempt, call, time.monotonic())
        return answer

    def _attempt(self, call: Call[Answer], started: float) -> Answer:
        url, left = self._terms.url + call.path, self._terms.left(started)
        try:
            response = self._http.request(call.method, url, content=call.content(), timeout=left)
        except httpx.RequestError as error:
            raise self._terms.silence(error) from error
        return calls.read(call, response)
