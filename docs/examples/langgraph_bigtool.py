"""An agent of langgraph-bigtool whose tools are found by a CoHyDE server: give its ``create_agent`` what ``retriever`` returns.

Needs: pip install 'cohyde[client]' langgraph-bigtool, and a chat model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from cohyde import ToolSearch


def retriever(search: ToolSearch, registry: Collection[str], k: int = 5) -> Callable[[str], list[str]]:
    """The ``retrieve_tools_function``; ``registry`` holds the tool ids that the agent can call, as in the server's catalog."""

    def retrieve_tools(query: str) -> list[str]:
        """Find tools that do what is wanted; say it in plain words."""
        # The catalog may be larger than what this agent is given: it must not be sent ids that it cannot call.
        answer = search.search(query, k=min(4 * k, 100), detail="brief")
        return [tool.tool_id for tool in answer.tools if tool.tool_id in registry][:k]

    return retrieve_tools


# tools = {"orders.refund": refund_order, ...}                          # tool id -> function or LangChain tool
# search = ToolSearch("http://127.0.0.1:8000")
# agent = langgraph_bigtool.create_agent(model, tools, retrieve_tools_function=retriever(search, tools)).compile()
