"""Searches that are answered in the shapes of model vendors' own tool search (``serve_app/client/shapes.py`` makes them)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.core.events import Name
from serve_app.schema.search import SearchRequest

ModelName = Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]
"""What a model calls a tool by."""
ToolIds = dict[str, str]
"""Name -> tool id, of each tool of the answer."""


class AnthropicRequest(SearchRequest):
    """One search for a model that called the search tool. Schemas are answered whatever ``detail`` is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "my pictures take forever to load", "tool_use_id": "toolu_01A09q90qw90lq917835"}]}
    )

    tool_use_id: Name
    """Of the model's call."""


class ToolReference(BaseModel):
    """Has the model load a tool."""

    type: Literal["tool_reference"] = "tool_reference"
    tool_name: ModelName


class TextBlock(BaseModel):
    """Said to the model where no tool fits."""

    type: Literal["text"] = "text"
    text: str


class ToolResult(BaseModel):
    """The content block that answers the model's call, for the next message of the role ``user``."""

    type: Literal["tool_result"] = "tool_result"
    tool_use_id: str
    content: list[ToolReference | TextBlock]


class AnthropicTool(BaseModel):
    """A tool's definition."""

    name: ModelName
    description: str
    input_schema: dict[str, Any]
    defer_loading: Literal[True] = True


class AnthropicAnswer(BaseModel):
    """What the next request to the model holds."""

    request_id: str
    """What feedback names the answer by."""
    tool_result: ToolResult
    tools: list[AnthropicTool]
    """To be added to ``tools``, and kept there: a reference to a tool that a request does not define fails it."""
    tool_ids: ToolIds


class OpenAIRequest(SearchRequest):
    """One search for a model whose tool search its client executes. Schemas are answered whatever ``detail`` is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "my pictures take forever to load", "call_id": "call_12xyz"}]}
    )

    call_id: Name
    """Of the model's ``tool_search_call``."""


class OpenAIFunction(BaseModel):
    """A tool's definition."""

    type: Literal["function"] = "function"
    name: ModelName
    description: str
    parameters: dict[str, Any]
    strict: Literal[False] = False
    defer_loading: Literal[True] = True


class ToolSearchOutput(BaseModel):
    """The input item that answers the model's ``tool_search_call``."""

    type: Literal["tool_search_output"] = "tool_search_output"
    call_id: str
    execution: Literal["client"] = "client"
    status: Literal["completed"] = "completed"
    tools: list[OpenAIFunction]


class OpenAIAnswer(BaseModel):
    """What the next request to the model holds."""

    request_id: str
    """What feedback names the answer by."""
    output: ToolSearchOutput
    tool_ids: ToolIds
