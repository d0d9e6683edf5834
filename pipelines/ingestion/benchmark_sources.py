"""Catalogs of published benchmarks as sources: folders in the layout of BEIR, of ToolRet and of ToolBench.

Invariants: a benchmark's own id stands in the tool's, so that its labels still fit; the text that BEIR and ToolRet prescribe is the
one that is embedded; queries and labels are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.catalog_file import Entry
from actors.core.types import InputError
from actors.interfaces import Progress
from pipelines.catalogs import beir
from pipelines.catalogs.rows import files, once, parsed, text_of
from pipelines.catalogs.rows import read as read_rows
from pipelines.ingestion.listing import Listing, clean, make_entry

_EMPTY: Mapping[str, Any] = {"type": "object", "properties": {}}
_TYPES = {
    **dict.fromkeys(("string", "str", "text", "enum", "file", "binary", "date", "time", "geopoint"), "string"),
    **dict.fromkeys(("number", "float", "double"), "number"),
    **dict.fromkeys(("integer", "int", "long"), "integer"),
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    **dict.fromkeys(("array", "list", "tuple", "set"), "array"),
    **dict.fromkeys(("object", "dict", "map"), "object"),
}
"""Types as benchmarks write them, in JSON Schema's words; an unknown one is left out."""

_Made = tuple[Entry, list[str]]


def read_beir(location: str, namespace: str, progress: Progress) -> Listing:
    """The tools of ``LOCATION/corpus.jsonl``. Raises InputError for a missing file, a broken line, an id given twice."""
    path = Path(location).expanduser() / "corpus.jsonl"
    tools = list(beir.read_tools(path))
    if not tools:
        raise InputError(f"{path}: holds no tools; give one a line")
    made = []
    for done, tool in enumerate(tools, start=1):
        entry, cut = make_entry(namespace, tool.tool_id, tool.description, _EMPTY, "beir", tool.title)
        made.append((_prescribed(entry, tool.name or tool.tool_id, tool.ready_document), cut))
        progress(done, len(tools))
    return _listing(made)


def read_toolret(location: str, namespace: str, progress: Progress) -> Listing:
    """The tools of a folder of ToolRet's files, rows {id, documentation}; progress in files.

    Raises InputError for a folder without such rows, a broken row, an id given twice.
    """
    folder = Path(location).expanduser()
    paths, places = files(folder), dict[str, str]()
    made: list[_Made] = []
    for done, path in enumerate(paths, start=1):
        for place, row in read_rows(path):
            if "documentation" in row:
                tool_id = text_of(row, "id", place)
                once(places, tool_id, place, "tool id")
                made.append(_documented(namespace, tool_id, text_of(row, "documentation", place)))
        progress(done, len(paths))
    if not made:
        raise InputError(f"{folder}: holds no tools; a row of ToolRet's tools has an id and a documentation")
    return _listing(made)


def read_toolbench(location: str, namespace: str, progress: Progress) -> Listing:
    """The APIs of a folder tree of ToolBench, ``CATEGORY/TOOL.json``, namespace ``NAMESPACE.CATEGORY.TOOL``; progress in files.

    Raises InputError for a folder without such files, and for a file that is no tool of ToolBench.
    """
    folder = Path(location).expanduser()
    paths = sorted(path for path in folder.rglob("*.json") if path.is_file())
    if not paths:
        raise InputError(f"{folder}: holds no .json file; ToolBench's tools are CATEGORY/TOOL.json")
    made: list[_Made] = []
    for done, path in enumerate(paths, start=1):
        space = ".".join([namespace, *path.relative_to(folder).with_suffix("").parts])
        made += _toolbench(path, space)
        progress(done, len(paths))
    return _listing(made)


def _listing(made: list[_Made]) -> Listing:
    return Listing(tuple(entry for entry, _ in made), notes=tuple(note for _, cut in made for note in cut))


def _prescribed(entry: Entry, name: str, document: str) -> Entry:
    """With the name that people know, for a benchmark's id says nothing, and the text to embed."""
    return replace(entry, tool=replace(entry.tool, name=name, ready_document=clean(document)))


def _documented(namespace: str, tool_id: str, documentation: str) -> _Made:
    """A tool of ToolRet; most documentations are JSON of a kind that depends on where the tool came from."""
    try:
        about = json.loads(documentation)
    except json.JSONDecodeError:
        about = {}
    about = about if isinstance(about, dict) else {}
    described = next(
        (text for key in ("description", "func_description", "functionality") if (text := about.get(key))), documentation
    )
    name = str(about.get("name") or tool_id)
    entry, cut = make_entry(namespace, tool_id, str(described), _given_schema(about), "toolret", name)
    return _prescribed(entry, name, documentation), cut


def _given_schema(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a documentation says of parameters: JSON Schema, name -> {type, description}, or lists of required and optional ones."""
    if "required_parameters" in about or "optional_parameters" in about:
        return _listed_schema(about)
    given = about.get("parameters") or about.get("input_schema")
    if not isinstance(given, dict):
        return dict(_EMPTY)
    inner = given.get("properties", given)
    if not isinstance(inner, dict):
        return dict(_EMPTY)
    properties = {str(name): _typed(of) for name, of in inner.items() if isinstance(of, dict)}
    required = given.get("required")
    kept = [name for name in required if name in properties] if isinstance(required, list) else []
    return {"type": "object", "properties": properties, **({"required": kept} if kept else {})}


def _listed_schema(about: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of ToolBench's two lists of parameters."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for key in ("required_parameters", "optional_parameters"):
        for parameter in about.get(key) or ():
            if isinstance(parameter, dict) and (name := str(parameter.get("name") or "")):
                properties.setdefault(name, _typed(parameter))
                required += [name] if key.startswith("required") else []
    return {"type": "object", "properties": properties, **({"required": list(dict.fromkeys(required))} if required else {})}


def _typed(about: Mapping[str, Any]) -> dict[str, Any]:
    kind = _TYPES.get(str(about.get("type", "")).split(",")[0].split("(")[0].strip().lower(), "")
    text, default = str(about.get("description") or "").strip(), about.get("default")
    return {
        **({"type": kind} if kind else {}),
        **({"description": text} if text else {}),
        **({"default": default} if default not in (None, "") else {}),
    }


def _toolbench(path: Path, space: str) -> Iterator[_Made]:
    try:
        about = parsed(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from error
    apis = about.get("api_list") if isinstance(about, dict) else None
    if not isinstance(apis, list) or not all(isinstance(api, dict) for api in apis):
        raise InputError(f"{path}: has no api_list; a tool of ToolBench has tool_name, tool_description and api_list")
    tool, of_tool = str(about.get("tool_name") or path.stem), str(about.get("tool_description") or "").strip()
    seen: set[str] = set()
    for number, api in enumerate(apis, start=1):
        name = str(api.get("name") or f"api {number}")
        # Some tools have two APIs of one name; what comes later is told apart by its place.
        unique = f"{name} {number}" if name.lower() in seen else name
        seen.add(name.lower())
        own = str(api.get("description") or "").strip()
        description = "\n".join(text for text in (own, of_tool) if text)
        entry, cut = make_entry(space, _speakable(unique, number), description, _listed_schema(api), "toolbench", f"{tool}: {name}")
        yield replace(entry, tool=replace(entry.tool, name=name)), cut


def _speakable(name: str, number: int) -> str:
    """The name, or the place in its list where it has neither letter nor digit (an address's bare slash)."""
    return name if any(c.isascii() and c.isalnum() for c in name) else f"api {number}"
