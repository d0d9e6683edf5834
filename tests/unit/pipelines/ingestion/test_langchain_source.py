import sys
from pathlib import Path

import pytest

from actors.core.types import InputError
from pipelines.ingestion import langchain_source
from pipelines.ingestion.listing import Listing

MODULE = '''
from typing import Annotated, Callable
from langchain_core.tools import BaseToolkit, InjectedToolArg, StructuredTool, tool
from pydantic import BaseModel, Field

@tool
def refund(order: str, user: Annotated[str, InjectedToolArg], cents: int = 0) -> str:
    """Gives the money of an order back."""
    raise AssertionError("no tool is called")

class Args(BaseModel):
    city: str = Field(description="Which city.")

weather = StructuredTool.from_function(lambda city: city, name="weather", description="Tells the weather.", args_schema=Args)
remote = StructuredTool(
    name="remote", description="Far away.", func=print,
    args_schema={"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
)
TOOLS = [refund, weather, remote]

def make():
    return TOOLS

class Kit(BaseToolkit):
    def get_tools(self):
        return [weather, weather]

kit = Kit()
number = 3
empty = []

def call(back: Callable[[int], int]) -> None:
    """Calls back."""

odd = [StructuredTool.from_function(call)]
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_langchain_tools.py").write_text(MODULE)
    (tmp_path / "broken_tools.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_langchain_tools", raising=False)


def read(location: str) -> Listing:
    return langchain_source.read(location, "lc", lambda done, total: None)


@pytest.mark.parametrize("attribute", ["TOOLS", "make"])
def test_a_list_or_a_function_that_makes_one_is_read_with_what_a_model_is_shown(attribute: str) -> None:
    entries = read(f"my_langchain_tools:{attribute}").entries
    assert [entry.tool.tool_id for entry in entries] == ["lc.refund", "lc.weather", "lc.remote"]
    refund, weather, remote = (entry.input_schema for entry in entries)
    assert entries[0].tool.description == "Gives the money of an order back."
    assert list(refund["properties"]) == ["order", "cents"] and refund["required"] == ["order"]
    assert weather["properties"]["city"]["description"] == "Which city."
    assert remote == {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def test_a_toolkit_and_a_single_tool_are_read_and_a_tool_twice_is_noted() -> None:
    listing = read("my_langchain_tools:kit")
    assert [entry.tool.tool_id for entry in listing.entries] == ["lc.weather"]
    assert listing.notes == ("lc.weather: stands twice in the list; the first is kept",)
    assert [entry.tool.tool_id for entry in read("my_langchain_tools:refund").entries] == ["lc.refund"]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("my_langchain_tools", "give MODULE:ATTRIBUTE"),
        ("no_such_module:TOOLS", "the module cannot be imported"),
        ("broken_tools:TOOLS", "cannot be imported .*no_such_package"),
        ("my_langchain_tools:TOOL", "my_langchain_tools has no TOOL"),
        ("my_langchain_tools:number", "is of type int, not a list of LangChain tools"),
        ("my_langchain_tools:empty", "is an empty list"),
        ("my_langchain_tools:odd", "tool 'call' has an argument without a JSON Schema .*; type it"),
    ],
)
def test_what_holds_no_tools_is_refused_with_a_remedy(location: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(location)


def test_without_langchain_core_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_core.tools", None)
    with pytest.raises(InputError, match="langchain-core is not installed; pip install"):
        read("my_langchain_tools:TOOLS")
