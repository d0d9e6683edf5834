"""The MCP server, used by the official client: over HTTP from a real server, and over standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from pipelines import mcp as command
from serve_app import keys
from serve_app.client import ToolSearch
from serve_app.loader import Loader
from serve_app.replica import Replica
from tests.word_world import WordEncoder, make_run, served

ROOT = Path(__file__).parents[3]
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
PAINT = {
    "name": "paint",
    "title": "Paint fence",
    "description": "paint fence\nand more " + "words " * 60,
    "namespace": "garden",
    "input_schema": SCHEMA,
}

Use = Callable[[Client], Awaitable[Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Loader, "_encoder", lambda self, source, release: WordEncoder(release.retriever))
        made = make_run(tmp_path_factory.mktemp("mcp") / "run")
        with served(made) as url, ToolSearch(url) as tools:
            tools.put_tool("garden.paint", PAINT)
        yield made


@pytest.fixture(scope="module")
def url(run: Path) -> Iterator[str]:
    with served(run) as address:
        yield address


def over_http(url: str, use: Use, mode: str = "auto", secret: str = "") -> Any:
    async def connected() -> Any:
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            transport = streamable_http_client(f"{url}/mcp", http_client=http)
            async with Client(transport, mode=mode, read_timeout_seconds=30) as client:
                return await use(client)

    return asyncio.run(connected())


def over_stdio(url: str, use: Use, **environment: str) -> Any:
    async def connected() -> Any:
        arguments = ["-m", "pipelines.mcp", "--url", url]
        server = StdioServerParameters(command=sys.executable, args=arguments, cwd=ROOT, env={**os.environ, **environment})
        async with Client(server, read_timeout_seconds=60) as client:
            return await use(client)

    return asyncio.run(connected())


def logged(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for file in (run / "query-log").glob("*.jsonl") for line in file.read_text().splitlines()]
    return [line for line in lines if line["type"] == kind]


def text(result: Any) -> str:
    [block] = result.content
    told: str = block.text
    return told


async def whole_way(client: Client) -> str:
    """Connects, lists, searches, describes and reports, as an agent does; returns the request id."""
    listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(listed) == ["search_tools", "describe_tool", "report_outcome"]
    assert listed["search_tools"].input_schema["required"] == ["query"]
    found = await client.call_tool("search_tools", {"query": "paint fence", "k": 2, "namespaces": ["garden"]})
    assert not found.is_error
    [tool] = found.structured_content["tools"]
    assert (tool["tool_id"], tool["title"], len(tool["description"])) == ("garden.paint", "Paint fence", 160)
    request_id: str = found.structured_content["request_id"]
    first, last = text(found).splitlines()
    assert first.startswith("1. garden.paint | Paint fence | paint fence and more words")
    assert last == f"request_id: {request_id}"
    described = await client.call_tool("describe_tool", {"tool_id": "garden.paint"})
    assert described.structured_content["input_schema"] == SCHEMA
    assert json.loads(text(described))["input_schema"] == SCHEMA
    done = await client.call_tool("report_outcome", {"request_id": request_id, "tool_id": "garden.paint", "result": "succeeded"})
    assert done.structured_content == {"written": True}
    return request_id


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agent_goes_the_whole_way_over_http(url: str, run: Path, mode: str) -> None:
    request_id = over_http(url, whole_way, mode)
    [event] = [e for e in logged(run, "outcome") if e["request_id"] == request_id]
    assert (event["tool_id"], event["result"], event["tenant"]) == ("garden.paint", "succeeded", "local")


@pytest.mark.timeout(90)
def test_an_agent_goes_the_whole_way_over_standard_input_and_output(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    _, secret = keys.add(file, "laptop", ["search", "feedback"], None)
    with served(run, file) as address:
        request_id = over_stdio(address, whole_way, COHYDE_KEY=secret)
    assert [e["tenant"] for e in logged(run, "outcome") if e["request_id"] == request_id] == ["laptop"]


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("search_tools", {}, "query: field required"),
        ("search_tools", {"query": "a", "k": 0}, "k: input should be greater than or equal to 1"),
        ("search_tools", {"query": "a", "limit": 3}, "limit: extra inputs are not permitted"),
        ("search_tools", {"query": " "}, "query: is blank"),
        ("describe_tool", {"tool_id": "nowhere"}, "there is no tool 'nowhere'"),
        ("report_outcome", {"request_id": "r", "tool_id": "t", "result": "liked"}, "result: input should be 'called', "),
        ("call_tool", {}, "there is no tool 'call_tool'; there are: search_tools, describe_tool, report_outcome"),
    ],
)
def test_what_a_model_does_wrong_is_told_to_it(url: str, name: str, arguments: dict[str, Any], told: str) -> None:
    async def use(client: Client) -> Any:
        return await client.call_tool(name, arguments)

    result = over_http(url, use)
    assert result.is_error
    assert text(result).startswith(told)


def test_a_key_counts_as_on_every_other_route(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    _, other = keys.add(file, "shop", ["search"], ["orders"])
    _, feedback = keys.add(file, "shop", ["feedback"], None)

    async def use(client: Client) -> Any:
        return (
            await client.call_tool("search_tools", {"query": "paint fence"}),
            await client.call_tool("describe_tool", {"tool_id": "garden.paint"}),
            await client.call_tool("search_tools", {"query": "paint fence", "namespaces": ["garden"]}),
            await client.call_tool("report_outcome", {"request_id": "r", "tool_id": "t", "result": "failed"}),
        )

    with served(run, file) as address:
        searched, described, elsewhere, reported = over_http(address, use, secret=other)
        assert searched.structured_content["tools"] == []
        assert text(described) == "there is no tool 'garden.paint'"
        assert elsewhere.structured_content["tools"] == []
        assert text(reported) == "the key lacks the scope 'feedback', which this tool needs"
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        for secret, status in (("", 401), (feedback, 403), (other, 200)):
            headers = {"accept": "application/json, text/event-stream", "x-api-key": secret}
            assert httpx.post(f"{address}/mcp", json=call, headers=headers).status_code == status


def test_without_keys_a_page_of_another_machine_is_refused(url: str) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"accept": "application/json, text/event-stream"}
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
        assert httpx.post(f"{url}/mcp", json=call, headers={**accept, **headers}).status_code == 403


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_there_are_no_streams_and_no_sessions(url: str, method: str) -> None:
    refused = httpx.request(method, f"{url}/mcp", headers={"accept": "text/event-stream"})
    assert (refused.status_code, refused.headers["content-type"]) == (405, "application/problem+json")


def test_a_body_that_is_too_large_is_refused(url: str) -> None:
    search = {"name": "search_tools", "arguments": {"query": "x" * 2_000_000}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": search}
    refused = httpx.post(f"{url}/mcp", json=call, headers={"accept": "application/json, text/event-stream"})
    assert refused.status_code == 413


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_failure_of_the_server_tells_nothing_of_its_inside(url: str, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    def broken(self: Replica, tool_id: str, client: Any) -> None:
        raise RuntimeError("secret of the inside")

    async def use(client: Client) -> Any:
        return await client.call_tool("describe_tool", {"tool_id": "x"})

    monkeypatch.setattr(Replica, "tool", broken)
    result = over_http(url, use, mode)
    assert result.is_error
    assert text(result) == "the server failed on this request; its log says why"


@pytest.mark.timeout(90)
def test_a_server_that_is_gone_is_told_to_the_model() -> None:
    async def use(client: Client) -> Any:
        return await client.call_tool("search_tools", {"query": "paint fence"})

    result = over_stdio("http://127.0.0.1:9", use)
    assert result.is_error
    assert text(result).startswith("http://127.0.0.1:9 does not answer")


def test_a_client_without_a_key_does_not_connect(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys.add(file, "shop", ["search"], None)

    async def use(client: Client) -> Any:
        return await client.list_tools()

    with served(run, file) as address, pytest.raises((MCPError, ExceptionGroup, httpx2.HTTPError)):
        over_http(address, use)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--url", "ftp://x"], "mcp: url='ftp://x': must be the address of a server, as http://127.0.0.1:8000"),
        (["--url", "http://x", "--key-file", "{}/none"], "no such file or directory; name a file that holds the key alone"),
        (["--url", "http://x", "--key-file", "{}/two"], "must hold one key and nothing else"),
        ([], "mcp: Missing option '--url'"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    (tmp_path / "two").write_text("cohyde_a\ncohyde_b\n")
    code = command.main([argument.format(tmp_path) for argument in arguments])
    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "")
    [line] = shown.err.splitlines()
    assert told.lower() in line.lower()
