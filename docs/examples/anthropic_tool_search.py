"""Tool search executed by the client, for Anthropic's Messages API: the pieces of the requests, without the requests.

Needs: pip install 'cohyde[client]' anthropic.
"""

from __future__ import annotations

from typing import Any

from cohyde import ToolSearch, anthropic_search_tool, anthropic_tool_result, anthropic_tools, tool_ids


class Conversation:
    """What grows over the requests of one conversation: the messages, and the tools that were found in it."""

    def __init__(self, search: ToolSearch, user: str) -> None:
        """``user`` is what the user says first."""
        self._search = search
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": user}]
        self._tools: dict[str, dict[str, Any]] = {}
        self.ids: dict[str, str] = {}
        """Name that the model calls a tool by -> tool id."""
        self.requests: dict[str, str] = {}
        """Tool id -> request id of the search that found it, for ``report_outcome``."""

    @property
    def tools(self) -> list[dict[str, Any]]:
        """``tools=`` of the next request: the search, and every tool found so far, whose definitions wait until referred to."""
        return [anthropic_search_tool(), *self._tools.values()]

    def answer_search(self, content: list[dict[str, Any]], tool_use: dict[str, Any]) -> None:
        """Add the model's message ``content``, which calls the search in its block ``tool_use``, and what was found."""
        answer = self._search.search(tool_use["input"]["query"])
        self._tools |= {tool["name"]: tool for tool in anthropic_tools(answer.tools)}
        self.ids |= tool_ids(answer.tools)
        self.requests |= {tool.tool_id: answer.request_id for tool in answer.tools}
        self.messages += [
            {"role": "assistant", "content": content},
            {"role": "user", "content": [anthropic_tool_result(answer, tool_use["id"])]},
        ]


# talk = Conversation(ToolSearch("http://127.0.0.1:8000"), "My pictures take forever to load in Australia.")
# message = anthropic.Anthropic().messages.create(model=..., max_tokens=1024, messages=talk.messages, tools=talk.tools)
# for block in message.content: a tool_use of "search_tools" goes to talk.answer_search, any other is a call of talk.ids[block.name]
