"""LangChain tools as a source. A location is ``MODULE:ATTRIBUTE``: a list of tools, a toolkit, or a function that returns either.

Invariants: only the named module is imported, with the current folder on its path as for ``python -m``; no tool is called; a schema
is the one that LangChain shows to a model, without arguments that are injected at run time.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from actors.catalog_file import Entry
from actors.core.types import InputError
from actors.interfaces import Progress
from pipelines.ingestion.listing import Listing, make_entry

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

SOURCE = "langchain"


def read(location: str, namespace: str, progress: Progress) -> Listing:
    """The tools at ``location``; progress in tools.

    Raises InputError where langchain-core is missing, and for a module that cannot be imported or holds no tools there.
    """
    try:
        from langchain_core.tools import BaseTool
    except ModuleNotFoundError as error:
        raise InputError("langchain: the package langchain-core is not installed; pip install langchain-core") from error
    given = _named(location)
    found = given() if callable(given) and not isinstance(given, BaseTool) else given
    found = found.get_tools() if hasattr(found, "get_tools") else found
    tools = [found] if isinstance(found, BaseTool) else list(found) if isinstance(found, Iterable) else []
    if not tools or not all(isinstance(tool, BaseTool) for tool in tools):
        raise InputError(
            f"langchain:{location}: is {_kind(found)}, not a list of LangChain tools; name one, or a function that makes one"
        )
    entries: dict[str, Entry] = {}
    notes: list[str] = []
    for done, tool in enumerate(tools, start=1):
        entry, cut = make_entry(namespace, tool.name, tool.description or "", _schema(tool, location), SOURCE)
        notes += cut
        if entry.tool.tool_id in entries:
            notes.append(f"{entry.tool.tool_id}: stands twice in the list; the first is kept")
        entries.setdefault(entry.tool.tool_id, entry)
        progress(done, len(tools))
    return Listing(tuple(entries.values()), notes=tuple(notes))


def _named(location: str) -> Any:
    module_name, _, attribute = location.partition(":")
    if not module_name or not attribute:
        raise InputError(f"langchain:{location}: give MODULE:ATTRIBUTE, such as my_tools:TOOLS")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"langchain:{location}: the module cannot be imported ({error}); run in its folder or install it"
        ) from error
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise InputError(f"langchain:{location}: {module_name} has no {attribute}; name its list of tools")
        value = getattr(value, name)
    return value


def _schema(tool: BaseTool, location: str) -> dict[str, Any]:
    """The arguments that a model gives; a schema is a pydantic model or JSON Schema already."""
    shown: Any = tool.tool_call_schema
    if isinstance(shown, dict):
        return _plain(shown)
    try:
        return _plain(shown.model_json_schema() if issubclass(shown, BaseModel) else shown.schema())
    except PydanticInvalidForJsonSchema as error:
        why = str(error).splitlines()[0]
        raise InputError(
            f"langchain:{location}: tool {tool.name!r} has an argument without a JSON Schema ({why}); type it"
        ) from error


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without the tool's name and description, which the schema repeats."""
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "an empty list" if not value else "a list with other things"
    return f"of type {type(value).__name__}"
