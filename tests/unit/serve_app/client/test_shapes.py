"""Shapes of model vendors' tool search, held against the types of their own libraries."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from anthropic.types import MessageParam, ToolParam, ToolReferenceBlockParam, ToolResultBlockParam
from openai.types.responses import FunctionToolParam, ToolSearchToolParam
from openai.types.responses.response_tool_search_output_item_param_param import ResponseToolSearchOutputItemParamParam
from pydantic import TypeAdapter, ValidationError

from serve_app.client import shapes
from serve_app.schema.search import FoundTool, SearchAnswer, Timings

VENDORS = re.compile("[a-zA-Z0-9_-]{1,64}")
SCHEMA = {"type": "object", "properties": {"far": {"type": "integer"}}, "required": ["far"]}


def tool(tool_id: str, **more: Any) -> FoundTool:
    given = {"rank": 1, "score": 0.5, "name": "go", "title": "Go", "namespace": "", "description": "Goes.", "input_schema": SCHEMA}
    return FoundTool(tool_id=tool_id, **{**given, **more})


def answer(*tools: FoundTool) -> SearchAnswer:
    timings = Timings(total_ms=1, search_ms=1)
    about = {"request_id": "r", "release": "1", "mode": "raw", "rewrites": [], "abstained": not tools, "degraded": None}
    return SearchAnswer(tools=list(tools), timings=timings, **about)  # type: ignore[arg-type]


def check(kind: Any, value: Any) -> None:
    """``value`` is a ``kind`` of the vendor's library, with no key that it does not know."""
    TypeAdapter(kind).validate_python(json.loads(json.dumps(value)), extra="forbid")


def test_names_of_all_short_ids_are_taken_by_vendors_differ_and_lead_back() -> None:
    # Of the characters that escaping could confuse.
    ids = ["".join(letters) for length in range(1, 6) for letters in itertools.product("a.-x2/", repeat=length)]
    names = [shapes.tool_name(tool_id) for tool_id in ids]
    assert [name for name in names if VENDORS.fullmatch(name) is None] == []
    assert len(set(names)) == len(ids)
    assert [shapes.tool_id_of(name) for name in names] == ids


@pytest.mark.parametrize(
    ("tool_id", "name"),
    [
        ("create-bucket", "create-bucket"),
        ("create_bucket", "create_bucket"),
        ("aws.s3.CreateBucket", "aws--s3--CreateBucket"),
        ("made/up", "made-x2f-up"),
        ("größe", "gr-xf6--xdf-e"),
    ],
)
def test_names_are_readable_where_ids_are(tool_id: str, name: str) -> None:
    assert shapes.tool_name(tool_id) == name
    assert shapes.tool_id_of(name) == tool_id


def test_a_long_id_has_a_short_name_that_known_ids_lead_back_from() -> None:
    long = [f"aws.service.{'Operation' * 10}.{n}" for n in range(100)]
    names = [shapes.tool_name(tool_id) for tool_id in long]
    assert {len(name) for name in names} == {64}
    assert len(set(names)) == 100
    assert names[0].startswith("aws--service--Operation")
    assert [shapes.tool_id_of(name, long) for name in names] == long
    with pytest.raises(KeyError):
        shapes.tool_id_of(names[0], long[1:])
    # An id that looks like such a name is not taken for the tool whose name it is.
    assert shapes.tool_name(names[0]) != names[0]
    assert shapes.tool_id_of(shapes.tool_name(names[0]), [*long, names[0]]) == names[0]


def test_a_name_that_a_model_made_up_is_no_error() -> None:
    assert shapes.tool_id_of("-xffffff-") == "-xffffff-"


def test_anthropics_library_takes_the_definitions_and_the_references() -> None:
    found = answer(tool("aws.s3.CreateBucket"), tool("b", title="", description=None, input_schema=None))
    tools = [shapes.anthropic_search_tool(), *shapes.anthropic_tools(found.tools)]
    check(list[ToolParam], tools)
    assert [one.get("defer_loading") for one in tools] == [None, True, True]
    assert [one["description"] for one in tools[1:]] == ["Go\nGoes.", "go"]
    result = shapes.anthropic_tool_result(found, "toolu_1")
    check(ToolResultBlockParam, result)
    check(MessageParam, {"role": "user", "content": [result]})
    check(list[ToolReferenceBlockParam], result["content"])
    # A reference to a name that no tool has fails the whole request.
    assert [one["tool_name"] for one in result["content"]] == [one["name"] for one in tools[1:]]


def test_a_model_is_told_where_there_is_no_tool() -> None:
    result = shapes.anthropic_tool_result(answer(), "toolu_1")
    check(ToolResultBlockParam, result)
    assert result["content"] == [{"type": "text", "text": shapes.NOTHING}]


def test_openais_library_takes_the_output() -> None:
    check(ToolSearchToolParam, shapes.openai_search_tool())
    output = shapes.openai_tool_search_output(answer(tool("aws.s3.CreateBucket"), tool("b", input_schema=None)), "call_1")
    check(ResponseToolSearchOutputItemParamParam, output)
    check(list[FunctionToolParam], output["tools"])
    assert {name: output[name] for name in ("call_id", "execution", "status")} == {
        "call_id": "call_1",
        "execution": "client",
        "status": "completed",
    }
    first = output["tools"][0]
    assert (first["name"], first["parameters"], first["defer_loading"]) == ("aws--s3--CreateBucket", SCHEMA, True)
    check(ResponseToolSearchOutputItemParamParam, shapes.openai_tool_search_output(answer(), "call_1"))


def test_the_check_itself_refuses_what_a_vendor_does_not_take() -> None:
    with pytest.raises(ValidationError):
        check(ToolReferenceBlockParam, {"type": "tool_reference"})
    with pytest.raises(ValidationError):
        check(FunctionToolParam, {"type": "function", "name": "a", "parameters": None, "strict": False, "made_up": 1})
