"""The MCP server: what an agent is offered, over whatever answers it.

Two things answer: a replica, in its own process (``mcp_http.py``), and the client, from elsewhere (``cohyde mcp``); both are a
``Backend``. Invariants: an answer is compact, for every word of it costs the agent's context: schemas are told by ``describe_tool``
alone; what a model did wrong, and what failed, is a result that says so, which the model reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Protocol

from mcp import types
from mcp.server import Server, ServerRequestContext
from pydantic import BaseModel, Field, ValidationError

from actors.core.events import Name, Result
from serve_app.client.errors import ToolSearchError
from serve_app.schema.catalog import ToolAnswer
from serve_app.schema.search import MAX_K, SearchAnswer
from serve_app.schema.text import Body, QueryText

NAME = "cohyde"
INSTRUCTIONS = (
    "A large catalog of tools (API operations). Call search_tools with what the user wants, in plain words; describe_tool gives the"
    " input schema of a tool that was found; after calling that tool, say with report_outcome how it went, which makes later"
    " searches better."
)
LINE_CHARACTERS = 160
"""Of a title or a description in search_tools' answer."""


class Backend(Protocol):
    """What the tools ask; ``AsyncToolSearch`` is one. Each raises ``ToolSearchError``."""

    async def search(self, query: str, *, k: int | None, namespaces: list[str] | None) -> SearchAnswer:
        """Find tools."""

    async def describe(self, tool_id: str) -> ToolAnswer:
        """One tool."""

    async def report_outcome(self, request_id: str, tool_id: str, result: Result) -> None:
        """What came of a tool."""


Context = ServerRequestContext[Any, Any]
BackendOf = Callable[[Context], Backend]
"""Gives what answers a request: who asks is in the request."""


class SearchArguments(Body):
    """Find the tools that do what a user wants. Answers with ids, titles and a line of description, best first."""

    query: QueryText
    """What is wanted, in the user's words."""
    k: Annotated[int, Field(ge=1, le=MAX_K)] | None = None
    """How many tools; left out: as many as are likely right, at most 10."""
    namespaces: Annotated[list[Name], Field(max_length=100)] | None = None
    """Only tools of these namespaces."""


class DescribeArguments(Body):
    """All that is known of one tool: its description and the JSON Schema of its input."""

    tool_id: Name
    """As search_tools gave it."""


class OutcomeArguments(Body):
    """Say how a tool that search_tools found did when it was called; later searches learn from it."""

    request_id: Name
    """Of search_tools' answer."""
    tool_id: Name
    """Of the tool that was called."""
    result: Result
    """``succeeded``: it did what was wanted; ``failed``: it did not; ``called``: not known."""


class Found(BaseModel):
    """A tool of an answer, in short."""

    tool_id: str
    title: str
    namespace: str
    description: str
    score: float


class Answer(BaseModel):
    """What was found."""

    request_id: str
    tools: list[Found]
    abstained: bool
    degraded: str | None


class Reported(BaseModel):
    """Whether the outcome was written down."""

    written: bool


def make_server(backend_of: BackendOf, version: str) -> Server[Any]:
    """The server, to be run over any transport."""
    tools = [
        _tool("search_tools", "Search tools", SearchArguments, Answer, reads=True),
        _tool("describe_tool", "Describe a tool", DescribeArguments, ToolAnswer, reads=True),
        _tool("report_outcome", "Report an outcome", OutcomeArguments, Reported, reads=False),
    ]
    answers = {"search_tools": _search, "describe_tool": _describe, "report_outcome": _report}

    async def list_tools(context: Context, page: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(context: Context, call: types.CallToolRequestParams) -> types.CallToolResult:
        answer = answers.get(call.name)
        if answer is None:
            return _failed(f"there is no tool {call.name!r}; there are: {', '.join(answers)}")
        try:
            return await answer(backend_of(context), call.arguments or {})
        except ValidationError as error:
            return _failed("; ".join(_wrong(entry) for entry in error.errors(include_url=False)))
        except ToolSearchError as error:
            return _failed(error.detail)

    return Server(NAME, version=version, instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)


async def _search(backend: Backend, arguments: dict[str, Any]) -> types.CallToolResult:
    asked = SearchArguments.model_validate(arguments)
    answer = await backend.search(asked.query, k=asked.k, namespaces=asked.namespaces)
    tools = [
        Found(
            tool_id=tool.tool_id,
            title=_line(tool.title or tool.name),
            namespace=tool.namespace,
            description=_line(tool.description or ""),
            score=tool.score,
        )
        for tool in answer.tools
    ]
    told = [" | ".join(filter(None, (tool.tool_id, tool.title, tool.description))) for tool in tools]
    lines = [f"{place}. {line}" for place, line in enumerate(told, start=1)]
    text = "\n".join([*(lines or ["No tool is likely right; ask again in other words."]), f"request_id: {answer.request_id}"])
    return _told(text, Answer(request_id=answer.request_id, tools=tools, abstained=answer.abstained, degraded=answer.degraded))


async def _describe(backend: Backend, arguments: dict[str, Any]) -> types.CallToolResult:
    tool = await backend.describe(DescribeArguments.model_validate(arguments).tool_id)
    return _told(tool.model_dump_json(exclude={"content_hash", "source"}), tool)


async def _report(backend: Backend, arguments: dict[str, Any]) -> types.CallToolResult:
    asked = OutcomeArguments.model_validate(arguments)
    await backend.report_outcome(asked.request_id, asked.tool_id, asked.result)
    return _told("written", Reported(written=True))


def _tool(name: str, title: str, arguments: type[Body], answer: type[BaseModel], reads: bool) -> types.Tool:
    return types.Tool(
        name=name,
        title=title,
        description=arguments.__doc__,
        input_schema=_schema(arguments),
        output_schema=_schema(answer),
        annotations=types.ToolAnnotations(read_only_hint=reads, destructive_hint=False, open_world_hint=False),
    )


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    # The tool's own description says it already.
    schema.pop("description", None)
    return schema


def _told(text: str, answer: BaseModel) -> types.CallToolResult:
    content = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=list(content), structured_content=answer.model_dump(mode="json"))


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)


def _wrong(entry: Any) -> str:
    message = entry["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, entry['loc'])) or 'arguments'}: {message[:1].lower()}{message[1:]}"


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LINE_CHARACTERS else line[: LINE_CHARACTERS - 3].rstrip() + "..."
