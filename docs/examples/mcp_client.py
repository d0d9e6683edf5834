"""The official MCP client before a CoHyDE server: connects, lists, searches, describes, reports.

Needs: pip install mcp. Run: python docs/examples/mcp_client.py http://127.0.0.1:8000 "put files somewhere"
The key, where the server asks for one, comes from COHYDE_KEY.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def use(url: str, query: str, key: str | None = None) -> dict[str, Any]:
    """What a search by ``query`` finds, and its first tool, of the server at ``url``; its outcome is reported as ``called``."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), read_timeout_seconds=30) as client,
    ):
        offered = [tool.name for tool in (await client.list_tools()).tools]
        found = await client.call_tool("search_tools", {"query": query})
        if found.is_error or not found.structured_content["tools"]:
            return {"offered": offered, "found": found.content[0].text, "first": None}
        first = found.structured_content["tools"][0]["tool_id"]
        described = await client.call_tool("describe_tool", {"tool_id": first})
        outcome = {"request_id": found.structured_content["request_id"], "tool_id": first, "result": "called"}
        await client.call_tool("report_outcome", outcome)
        return {"offered": offered, "found": found.content[0].text, "first": described.structured_content}


if __name__ == "__main__":
    result = asyncio.run(use(sys.argv[1].rstrip("/"), sys.argv[2], os.environ.get("COHYDE_KEY")))
    print(f"tools of the server: {', '.join(result['offered'])}")
    print(result["found"])
    print(result["first"])
