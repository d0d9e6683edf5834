"""Answers in the shapes that model vendors' own tool search takes: Anthropic's ``tool_reference`` blocks, OpenAI's
``tool_search_output``. Pure functions; what they return is ready for JSON and for the vendors' libraries.

Invariants: a tool has the same name in a reference, in its definition and in the model's call of it; no two tool ids have one name;
a name is what both vendors take: 1 to 64 letters, digits, "_" and "-".

A name is the tool's id with "." written as "--" and every other character that a name may not have as "-x", its code point in
hexadecimal, and "-". Where the id's own dashes would read as that, they are written so too. What comes out longer than 64
characters is cut, and ends in a digest of the id: such a name is found again among known ids alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from serve_app.schema.search import FoundTool, SearchAnswer

MAX_NAME = 64
"""Newer models take 128 characters; one length for all keeps a tool's name the same everywhere."""
SEARCH_NAME = "search_tools"
SEARCH_DESCRIPTION = (
    "Searches a large catalog of tools for those that do what is wanted. Say in plain words what is to be done; the tools found can"
    " be called afterwards. Search again in other words where nothing fits."
)
SEARCH_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What is to be done, in plain words.", "minLength": 1}},
    "required": ["query"],
    "additionalProperties": False,
}
NOTHING = "No tool of the catalog fits; say in other words what is to be done."

_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_TOKEN = re.compile(r"-x([0-9a-f]{1,6})-|--")
_DIGEST = 26
"""Characters of a digest: 128 bits in base32."""
_HASHED = re.compile(rf".{{{MAX_NAME - _DIGEST - 2}}}-h[a-z2-7]{{{_DIGEST}}}")


def tool_name(tool_id: str) -> str:
    """The name that a model calls the tool by."""
    name = _written(tool_id, dashes=False)
    if _read(name) != tool_id:
        name = _written(tool_id, dashes=True)
    # An id may itself look like a name with a digest; it gets a digest of its own, or the two could meet.
    if len(name) > MAX_NAME or _HASHED.fullmatch(name):
        digest = base64.b32encode(hashlib.sha256(tool_id.encode("utf-8", "surrogatepass")).digest())[:_DIGEST].decode().lower()
        name = f"{name[: MAX_NAME - _DIGEST - 2]:_<{MAX_NAME - _DIGEST - 2}}-h{digest}"
    return name


def tool_id_of(name: str, known: Iterable[str] = ()) -> str:
    """The id of the tool that a model called by ``name``; ``known`` are ids that it may be, as those of the answers so far.

    Raises ``KeyError`` for a shortened name that belongs to none of them.
    """
    if _HASHED.fullmatch(name) is None:
        return _read(name)
    for tool_id in known:
        if tool_name(tool_id) == name:
            return tool_id
    raise KeyError(name)


def tool_ids(tools: Iterable[FoundTool]) -> dict[str, str]:
    """Name -> tool id: what the model's calls of these tools mean."""
    return {tool_name(tool.tool_id): tool.tool_id for tool in tools}


def anthropic_search_tool() -> dict[str, Any]:
    """The tool that a model searches with; the one that is not deferred."""
    return {"name": SEARCH_NAME, "description": SEARCH_DESCRIPTION, "input_schema": SEARCH_SCHEMA}


def anthropic_tools(tools: Sequence[FoundTool]) -> list[dict[str, Any]]:
    """Definitions for ``tools=`` of the next request: every tool that was referred to in the conversation must be among them."""
    return [
        {
            "name": tool_name(tool.tool_id),
            "description": _described(tool),
            "input_schema": tool.input_schema or {"type": "object"},
            "defer_loading": True,
        }
        for tool in tools
    ]


def anthropic_tool_result(answer: SearchAnswer, tool_use_id: str) -> dict[str, Any]:
    """The block that answers the model's call ``tool_use_id`` of the search tool: references to tools, or that there are none."""
    content = [{"type": "tool_reference", "tool_name": tool_name(tool.tool_id)} for tool in answer.tools]
    return {
        "type": "tool_result",
        "tool_use_id": tool_use_id,
        "content": content or [{"type": "text", "text": NOTHING}],
    }


def openai_search_tool() -> dict[str, Any]:
    """The tool search that a model's provider leaves to its client, for ``tools=`` of a request."""
    return {"type": "tool_search", "execution": "client", "description": SEARCH_DESCRIPTION, "parameters": SEARCH_SCHEMA}


def openai_tool_search_output(answer: SearchAnswer, call_id: str) -> dict[str, Any]:
    """The input item that answers the ``tool_search_call`` of ``call_id``, with the definitions of the tools."""
    tools = [
        {
            "type": "function",
            "name": tool_name(tool.tool_id),
            "description": _described(tool),
            "parameters": tool.input_schema or {"type": "object", "properties": {}},
            # Strict takes schemas of one special form alone, which a catalog's need not have.
            "strict": False,
            "defer_loading": True,
        }
        for tool in answer.tools
    ]
    return {"type": "tool_search_output", "call_id": call_id, "execution": "client", "status": "completed", "tools": tools}


def _described(tool: FoundTool) -> str:
    parts = [tool.title, tool.description or ""]
    return "\n".join(part for part in parts if part) or tool.name


def _written(tool_id: str, dashes: bool) -> str:
    return "".join(_character(one, dashes) for one in tool_id)


def _character(one: str, dashes: bool) -> str:
    if one == "." and not dashes:
        return "--"
    if _PLAIN.fullmatch(one) and not (dashes and one == "-"):
        return one
    return f"-x{ord(one):x}-"


def _read(name: str) -> str:
    return _TOKEN.sub(_character_of, name)


def _character_of(token: re.Match[str]) -> str:
    if token[1] is None:
        return "."
    # A name that a model made up may hold anything.
    return chr(code) if (code := int(token[1], 16)) <= sys.maxunicode else token[0]
