"""Tools that another tool's description names, as one to be called first ("use this after /search/movie").

Invariants: pure; a name counts where it looks like an identifier, stands whole in the text and is one tool's of the same namespace.
Source: prerequisites as candidates are those of Tool Graph Retriever (2508.05152), which trains a model to find them; here the
catalog says them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from actors.core.types import Tool

_WORD = re.compile(r"[\w/{}.:-]+")
_IDENTIFIER = re.compile(r"[/_\d]|[a-z][A-Z]|\w[.:-]\w")


class NamedTools:
    """Looks up what descriptions name."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        """``tools``: all that may be named."""
        self._by_name: dict[tuple[str, str], str | None] = {}
        for tool in tools:
            for name in {tool.tool_id, tool.name, tool.title, *tool.title.split()[-1:]}:
                if _IDENTIFIER.search(name):
                    # A name of two tools names neither.
                    known = self._by_name.setdefault((tool.namespace, name), tool.tool_id)
                    if known != tool.tool_id:
                        self._by_name[tool.namespace, name] = None

    def of(self, tool: Tool) -> tuple[str, ...]:
        """Ids of the other tools that a tool's description names, in its order."""
        words = (word.strip(".:-") for word in _WORD.findall(tool.description))
        found = dict.fromkeys(self._by_name.get((tool.namespace, word)) for word in words)
        return tuple(tool_id for tool_id in found if tool_id is not None and tool_id != tool.tool_id)


def followed(ranking: Sequence[tuple[str, float]], named: Callable[[str], Sequence[str]]) -> list[tuple[str, float]]:
    """The ranking in which each tool is followed at once by those it names (``named``: tool id -> ids), with its score, where they
    do not stand before it. Tools that are only named are added; those that they name are not.
    """
    found: dict[str, float] = {}
    for tool_id, score in ranking:
        for one in (tool_id, *named(tool_id)):
            found.setdefault(one, score)
    return list(found.items())
