"""Tools and changes of the catalog."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from actors.core.events import Name
from serve_app.schema.text import Body, Printable

MAX_BULK = 10_000
MAX_TEXT = 20_000
"""Characters of a description."""


class InputSchema(BaseModel):
    """JSON Schema of a tool's parameters: of an object; further keywords are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal["object"] = "object"
    properties: dict[str, dict[str, Any]] = {}
    required: list[str] = []

    @model_validator(mode="after")
    def _writable(self) -> InputSchema:
        try:
            json.dumps(self.given(), ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("holds half of a surrogate pair, which UTF-8 cannot say") from error
        return self

    def given(self) -> dict[str, Any]:
        """The schema as it was given."""
        return {"type": self.type, **self.model_dump(exclude_unset=True)}


class ToolBody(Body):
    """A tool, without its id (that is in the path)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "refund_order",
                    "title": "Orders: Refund",
                    "description": "Gives the money of an order back to its buyer.",
                    "namespace": "orders",
                    "input_schema": {
                        "type": "object",
                        "properties": {"order_id": {"type": "string", "description": "Which order."}},
                        "required": ["order_id"],
                    },
                }
            ]
        }
    )

    name: Annotated[Printable, Field(min_length=1, max_length=256)]
    """What callers call it by."""
    title: Annotated[Printable, Field(max_length=512)] = ""
    """How a person would write the name; the name's own words if empty."""
    description: Annotated[Printable, Field(min_length=1, max_length=MAX_TEXT)]
    namespace: Annotated[Printable, Field(max_length=256)] = ""
    input_schema: InputSchema = InputSchema()
    """Its top-level properties are the tool's parameters."""


class BulkTool(ToolBody):
    """A tool with its id."""

    tool_id: Name


class BulkRequest(Body):
    """Several changes of the catalog, applied as one."""

    upserts: Annotated[list[BulkTool], Field(max_length=MAX_BULK, default_factory=list)]
    deletes: Annotated[list[Name], Field(max_length=MAX_BULK, default_factory=list)]


class ChangeAnswer(BaseModel):
    """What a change of the catalog did; durable and searchable in this replica when it is answered, in all within seconds."""

    changed: int
    """Tools whose content is new or different."""
    deleted: int
    unchanged: int
    embedded: int
    """Tools that had to be embedded."""
    tools: int
    """Tools in the catalog now."""


class ToolAnswer(BaseModel):
    """A tool of the catalog."""

    tool_id: str
    name: str
    title: str
    namespace: str
    description: str
    input_schema: dict[str, Any]
    content_hash: str
    source: str
