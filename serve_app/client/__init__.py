"""The Python client: ``from cohyde import ToolSearch`` where the project is installed.

Invariant: needs httpx, pydantic and tenacity alone, so that an agent's environment takes neither torch nor ray with it.
"""

from serve_app.client.asynchronous import AsyncToolSearch
from serve_app.client.calls import SearchOptions
from serve_app.client.errors import ToolSearchError
from serve_app.client.shapes import (
    anthropic_search_tool,
    anthropic_tool_result,
    anthropic_tools,
    openai_search_tool,
    openai_tool_search_output,
    tool_id_of,
    tool_ids,
    tool_name,
)
from serve_app.client.synchronous import ToolSearch
from serve_app.schema.search import FoundTool, SearchAnswer

__all__ = [
    "AsyncToolSearch",
    "FoundTool",
    "SearchAnswer",
    "SearchOptions",
    "ToolSearch",
    "ToolSearchError",
    "anthropic_search_tool",
    "anthropic_tool_result",
    "anthropic_tools",
    "openai_search_tool",
    "openai_tool_search_output",
    "tool_id_of",
    "tool_ids",
    "tool_name",
]
