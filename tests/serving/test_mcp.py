"""MCP on a real Serve application, used by the official client."""

from __future__ import annotations

import asyncio
import json

import pytest
from mcp import Client

from tests.serving.small_run import Server

pytestmark = pytest.mark.serving


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agent_lists_searches_describes_and_reports(server: Server, mode: str) -> None:
    async def use() -> str:
        async with Client(f"{server.url}/mcp", mode=mode, read_timeout_seconds=30) as client:
            assert [t.name for t in (await client.list_tools()).tools] == ["search_tools", "describe_tool", "report_outcome"]
            found = (await client.call_tool("search_tools", {"query": "please create the bucket", "k": 3})).structured_content
            tool_ids = [tool["tool_id"] for tool in found["tools"]]
            assert len(tool_ids) == 3 and "create-bucket" in tool_ids
            described = (await client.call_tool("describe_tool", {"tool_id": "create-bucket"})).structured_content
            assert described["tool_id"] == "create-bucket"
            wrong = await client.call_tool("describe_tool", {"tool_id": "nowhere"})
            assert (wrong.is_error, wrong.content[0].text) == (True, "there is no tool 'nowhere'")
            outcome = {"request_id": found["request_id"], "tool_id": "create-bucket", "result": "succeeded"}
            assert not (await client.call_tool("report_outcome", outcome)).is_error
            return str(found["request_id"])

    request_id = asyncio.run(use())
    logged = [json.loads(line) for file in server.log_dir.glob("*.jsonl") for line in file.read_text().splitlines()]
    assert [e["type"] for e in logged if e.get("request_id") == request_id] == ["search", "outcome"]
