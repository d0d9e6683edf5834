"""The client for programs with an event loop; as ``synchronous.py``, method by method."""

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


class AsyncToolSearch:
    """``ToolSearch``, awaited; belongs to one event loop."""

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = TIMEOUT_S, retries: int = RETRIES) -> None:
        """``url`` as http://127.0.0.1:8000, ``key`` the secret that ``cohyde keys add`` printed. Raises ``InputError``."""
        self._terms = Terms.of(url, key, timeout_s, retries)
        self._http = httpx.AsyncClient(headers=dict(self._terms.headers))

    async def __aenter__(self) -> Self:
        """Closes when the context ends."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def search(self, query: str, **options: Unpack[SearchOptions]) -> SearchAnswer:
        """Find the tools that answer ``query``."""
        return await self._ask(calls.search(query, options))

    async def describe(self, tool_id: str) -> ToolAnswer:
        """One tool with its description and schema; an error of status 404 where there is none."""
        return await self._ask(calls.describe(tool_id))

    async def report_outcome(self, request_id: str, tool_id: str, result: Result) -> None:
        """Say that a tool of an answer was called, and how that went: what the models learn from."""
        await self._ask(calls.outcome(request_id, tool_id, result))

    async def label(self, query: str, tool_ids: Sequence[str], by: str, *, train_on: bool = True) -> None:
        """Say which tools answer a query; ``by`` is who says so."""
        await self._ask(calls.label(query, tool_ids, by, train_on))

    async def put_tool(self, tool_id: str, tool: ToolBody | Mapping[str, Any]) -> ChangeAnswer:
        """Add or replace a tool: name, description, and optionally title, namespace and input_schema."""
        return await self._ask(calls.put_tool(tool_id, tool))

    async def delete_tool(self, tool_id: str) -> ChangeAnswer:
        """Take a tool out of the catalog."""
        return await self._ask(calls.delete_tool(tool_id))

    async def bulk(self, upserts: Sequence[BulkTool | Mapping[str, Any]] = (), deletes: Sequence[str] = ()) -> ChangeAnswer:
        """Add, replace and delete several tools as one change."""
        return await self._ask(calls.bulk(upserts, deletes))

    async def ready(self) -> ReadyAnswer:
        """What answers now, and what is not as it should be."""
        return await self._ask(calls.ready())

    async def _ask(self, call: Call[Answer]) -> Answer:
        return await tenacity.AsyncRetrying(**self._terms.retrying())(self._attempt, call, time.monotonic())

    async def _attempt(self, call: Call[Answer], started: float) -> Answer:
        url, left = self._terms.url + call.path, self._terms.left(started)
        try:
            response = await self._http.request(call.method, url, content=call.content(), timeout=left)
        except httpx.RequestError as error:
            raise self._terms.silence(error) from error
        return calls.read(call, response)
