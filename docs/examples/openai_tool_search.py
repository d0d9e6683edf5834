"""Tool search executed by the client, for OpenAI's Responses API: the pieces of the requests, without the requests.

Needs: pip install 'cohyde[client]' openai.
"""

from __future__ import annotations

from typing import Any

from cohyde import ToolSearch, openai_search_tool, openai_tool_search_output, tool_ids


class Conversation:
    """What grows over the requests of one conversation. Found tools stand in the input itself: ``tools`` never changes."""

    def __init__(self, search: ToolSearch, user: str) -> None:
        """``user`` is what the user says first."""
        self._search = search
        self.tools = [openai_search_tool()]
        self.input: list[dict[str, Any]] = [{"role": "user", "content": user}]
        self.ids: dict[str, str] = {}
        """Name that the model calls a tool by -> tool id."""
        self.requests: dict[str, str] = {}
        """Tool id -> request id of the search that found it, for ``report_outcome``."""

    def answer_search(self, call: dict[str, Any]) -> None:
        """Add the model's output item ``call``, a ``tool_search_call``, and what was found."""
        answer = self._search.search(call["arguments"]["query"])
        self.ids |= tool_ids(answer.tools)
        self.requests |= {tool.tool_id: answer.request_id for tool in answer.tools}
        self.input += [call, openai_tool_search_output(answer, call["call_id"])]


# talk = Conversation(ToolSearch("http://127.0.0.1:8000"), "My pictures take forever to load in Australia.")
# response = openai.OpenAI().responses.create(model=..., input=talk.input, tools=talk.tools, parallel_tool_calls=False)
# for item in response.output: a tool_search_call goes to talk.answer_search(item.model_dump()), a function_call calls the tool
# talk.ids[item.name]
