"""The MCP server over HTTP, in a replica's own process.

Invariants: stateless, one JSON answer a request, so any replica answers any request of a client; who asks is what the guard found,
as for every other route; a tool needs the scope that its REST route needs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import FastAPI
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from actors.core.events import Result
from serve_app.client.errors import ToolSearchError
from serve_app.keys import Client
from serve_app.keys import Scope as KeyScope
from serve_app.mcp_server import Context, make_server
from serve_app.problems import ProblemError, unexpected
from serve_app.replica import Replica
from serve_app.schema.catalog import ToolAnswer
from serve_app.schema.search import FeedbackRequest, OutcomeFeedback, SearchAnswer, SearchRequest

PATH = "/mcp"
Done = TypeVar("Done")


class McpRoute:
    """The route ``/mcp`` of an application, and the lifespan that it needs."""

    def __init__(self, replica: Replica, version: str) -> None:
        """``version`` is told to clients."""
        server = make_server(lambda context: _InProcess(replica, _asker(context)), version)
        # Host and Origin are the guard's to check.
        self._manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)

    def add_to(self, app: FastAPI) -> None:
        """Answer ``POST /mcp``. Other methods are for streams, which a stateless server has none of."""
        app.router.routes.append(Route(PATH, self, methods=["POST"], include_in_schema=False))

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Requests are answered within; once."""
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await self._manager.handle_request(scope, receive, send)


class _InProcess:
    """A replica, asked in one client's name."""

    def __init__(self, replica: Replica, client: Client) -> None:
        self._replica, self._client = replica, client

    async def search(self, query: str, *, k: int | None, namespaces: list[str] | None) -> SearchAnswer:
        asked = SearchRequest(query=query, k=k, namespaces=namespaces, pinned=[])
        return await self._done("search", lambda: self._replica.search(asked, self._client))

    async def describe(self, tool_id: str) -> ToolAnswer:
        async def tool() -> ToolAnswer:
            return self._replica.tool(tool_id, self._client)

        return await self._done("search", tool)

    async def report_outcome(self, request_id: str, tool_id: str, result: Result) -> None:
        event = OutcomeFeedback(type="outcome", request_id=request_id, tool_id=tool_id, result=result)

        async def written() -> None:
            self._replica.feedback(FeedbackRequest(events=[event]), self._client)

        await self._done("feedback", written)

    async def _done(self, needed: KeyScope, ask: Callable[[], Awaitable[Done]]) -> Done:
        if needed not in self._client.scopes:
            raise ToolSearchError(403, f"the key lacks the scope '{needed}', which this tool needs")
        try:
            return await ask()
        except ProblemError as error:
            raise ToolSearchError(error.status, error.detail, error.errors) from error
        except Exception as error:
            # The model is told, as every other client is, that it is not to blame.
            problem = unexpected(error, "POST", PATH)
            raise ToolSearchError(problem.status, problem.detail) from error


def _asker(context: Context) -> Client:
    assert context.request is not None
    client: Client = context.request.scope["state"]["client"]
    return client
