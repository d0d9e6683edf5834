from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.core.types import InputError
from pipelines.ingestion import functions

SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Rome"]}}, "required": ["city"]}
CHAT = {"type": "function", "function": {"name": "get_weather", "description": "Tells the weather.", "parameters": SCHEMA}}
RESPONSES = {"type": "function", "name": "get_weather", "description": "Tells the weather.", "parameters": SCHEMA, "strict": True}
ANTHROPIC = {"name": "get_weather", "description": "Tells the weather.", "input_schema": SCHEMA}


def read(tmp_path: Path, content: Any) -> Any:
    path = tmp_path / "tools.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return functions.read(str(path), "w", lambda done, total: None)


@pytest.mark.parametrize("tool", [CHAT, RESPONSES, ANTHROPIC, {**ANTHROPIC, "type": "custom"}])
@pytest.mark.parametrize("shape", ["list", "object", "alone", "lines"])
def test_every_form_gives_the_same_tool(tmp_path: Path, tool: dict[str, Any], shape: str) -> None:
    other = {"name": "ping"}
    content = {
        "list": [tool, other],
        "object": {"model": "m", "tools": [tool, other]},
        "alone": tool,
        "lines": f"{json.dumps(tool)}\n\n{json.dumps(other)}\n",
    }[shape]
    entry = read(tmp_path, content).entries[0]
    assert (entry.tool.tool_id, entry.tool.description, entry.input_schema) == ("w.get_weather", "Tells the weather.", SCHEMA)
    if shape != "alone":
        ping = read(tmp_path, content).entries[1]
        assert (ping.tool.tool_id, ping.input_schema) == ("w.ping", {"type": "object", "properties": {}})


def test_a_tool_of_the_provider_is_left_out_with_a_note(tmp_path: Path) -> None:
    listing = read(tmp_path, [{"type": "web_search_20250305", "name": "web_search"}, CHAT])
    assert [entry.tool.name for entry in listing.entries] == ["get_weather"]
    assert "tool 1: is of type 'web_search_20250305'" in listing.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"name": "a"}\n{"name"\n', r"tools.json:2: not JSON"),
        ("5", "no list of tools"),
        ("[5]", "tool 1: is no object"),
        ('[{"description": "x"}]', "tool 1: has no name"),
        ('[{"name": "a", "parameters": []}, {"name": "b", "parameters": "x"}]', r"tool 2 \(b\): its parameters are no JSON Schema"),
        ('[{"name": "a", "parameters": {"type": "array"}}]', r"tool 1 \(a\): input_schema"),
        ('[{"name": "a", "parameters": {"properties": {"x": 1}}}]', r"tool 1 \(a\): input_schema.properties.x"),
        ('[{"name": "--"}]', r"tool 1 \(--\): w: a tool's name is '--'"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_such_list_is_told_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        read(tmp_path, content)
    assert "\n" not in str(told.value)
