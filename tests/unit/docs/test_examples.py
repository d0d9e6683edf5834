"""Each example of docs/examples, run with the library that it is for, before a real server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import langgraph_bigtool
import pytest
from anthropic.types import MessageParam, ToolParam
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from openai.types.responses import ResponseInputItemParam
from openai.types.responses import ToolParam as OpenAIToolParam
from openai.types.responses.response_tool_search_call import ResponseToolSearchCall
from pydantic import TypeAdapter

from serve_app.client import ToolSearch
from serve_app.loader import Loader
from tests.word_world import WordEncoder, make_run, served

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
PAINT = {"name": "paint", "title": "Paint fence", "description": "paint fence", "namespace": "garden", "input_schema": SCHEMA}


def example(name: str) -> ModuleType:
    # Loaded from its file: the folder is no package, and langgraph_bigtool.py would hide the library of that name.
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # Pydantic looks a class's annotations up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Loader, "_encoder", lambda self, source, release: WordEncoder(release.retriever))
        yield make_run(tmp_path_factory.mktemp("examples") / "run")


@pytest.fixture(scope="module")
def url(run: Path) -> Iterator[str]:
    with served(run) as address:
        yield address


@pytest.fixture(scope="module")
def search(url: str) -> Iterator[ToolSearch]:
    with ToolSearch(url) as client:
        client.put_tool("garden.paint", PAINT)
        yield client


class ToolModel(GenericFakeChatModel):
    """Says what it is told to say, whatever tools are bound to it; remembers their names."""

    bound: list[list[str]] = []  # noqa: RUF012

    def bind_tools(self, tools: Any, **more: Any) -> Any:
        self.bound.append([tool.name if hasattr(tool, "name") else tool.__name__ for tool in tools])
        return self


def test_an_agent_of_langgraph_bigtool_is_given_the_tools_that_are_found(search: ToolSearch) -> None:
    def paint(colour: str) -> str:
        """Paint the fence."""
        return f"the fence is {colour}"

    registry = {"garden.paint": paint}
    # The library calls no tool with langgraph 1 (it looks for a method of ToolNode that is gone): the model answers by itself.
    said = [AIMessage("", tool_calls=[{"name": "retrieve_tools", "args": {"query": "paint fence"}, "id": "1"}]), AIMessage("done")]
    model = ToolModel(messages=iter(said))
    retrieve = example("langgraph_bigtool").retriever(search, registry, k=2)
    # The catalog has more that fits than the agent may call.
    assert len(search.search("paint fence", k=2).tools) == 2
    assert retrieve("paint fence") == ["garden.paint"]
    agent = langgraph_bigtool.create_agent(model, registry, retrieve_tools_function=retrieve).compile()
    ended = agent.invoke({"messages": [("user", "my fence is ugly")]})
    assert ended["selected_tool_ids"] == ["garden.paint"]
    assert [m.content for m in ended["messages"] if isinstance(m, ToolMessage)] == ["Available tools: ['paint']"]
    assert model.bound == [["retrieve_tools"], ["retrieve_tools", "paint"]]


def test_a_langchain_retriever_gives_tools_as_documents(search: ToolSearch) -> None:
    retriever = example("langchain_retriever").ToolRetriever(search=search, k=2, namespaces=["garden"])
    [document] = retriever.invoke("paint fence")
    assert (document.id, document.page_content) == ("garden.paint", "Paint fence\npaint fence")
    assert (document.metadata["tool_id"], document.metadata["input_schema"]) == ("garden.paint", SCHEMA)
    search.report_outcome(document.metadata["request_id"], "garden.paint", "succeeded")
    [awaited] = asyncio.run(retriever.ainvoke("paint fence"))
    assert awaited.id == "garden.paint"


def test_a_conversation_with_anthropics_library_holds_what_was_found(search: ToolSearch) -> None:
    talk = example("anthropic_tool_search").Conversation(search, "my fence is ugly")
    call = {"type": "tool_use", "id": "toolu_1", "name": "search_tools", "input": {"query": "paint fence"}}
    talk.answer_search([call], call)
    TypeAdapter(list[MessageParam]).validate_python(talk.messages)
    TypeAdapter(list[ToolParam]).validate_python(talk.tools, extra="forbid")
    assert [message["role"] for message in talk.messages] == ["user", "assistant", "user"]
    [result] = talk.messages[-1]["content"]
    names = [tool["name"] for tool in talk.tools]
    assert names[:2] == ["search_tools", "garden--paint"]
    assert [block["tool_name"] for block in result["content"]] == names[1:]
    # Another search adds what is new and repeats nothing, which the API refuses.
    talk.answer_search([call], {**call, "id": "toolu_2"})
    assert [tool["name"] for tool in talk.tools] == names
    assert talk.ids["garden--paint"] == "garden.paint"
    search.report_outcome(talk.requests["garden.paint"], "garden.paint", "succeeded")


def test_a_conversation_with_openais_library_holds_what_was_found(search: ToolSearch) -> None:
    talk = example("openai_tool_search").Conversation(search, "my fence is ugly")
    call = ResponseToolSearchCall(
        id="ts_1",
        arguments={"query": "paint fence"},
        call_id="call_1",
        execution="client",
        status="completed",
        type="tool_search_call",
    )
    talk.answer_search(call.model_dump())
    TypeAdapter(list[ResponseInputItemParam]).validate_python(talk.input)
    TypeAdapter(list[OpenAIToolParam]).validate_python(talk.tools)
    output = talk.input[-1]
    assert (output["type"], output["call_id"], output["tools"][0]["name"]) == ("tool_search_output", "call_1", "garden--paint")
    assert talk.ids["garden--paint"] == "garden.paint"
    search.report_outcome(talk.requests["garden.paint"], "garden.paint", "succeeded")


@pytest.mark.timeout(90)
@pytest.mark.usefixtures("search")
def test_the_official_mcp_client_finds_and_describes(url: str, run: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "mcp_client.py"), url, "paint fence"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=80, check=True)
    assert "tools of the server: search_tools, describe_tool, report_outcome" in done.stdout
    assert "1. garden.paint | Paint fence | paint fence" in done.stdout
    assert "'colour'" in done.stdout
    lines = [json.loads(line) for file in (run / "query-log").glob("*.jsonl") for line in file.read_text().splitlines()]
    assert [line["result"] for line in lines if line["type"] == "outcome"][-1] == "called"
