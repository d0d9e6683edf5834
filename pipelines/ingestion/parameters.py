"""What a caller gives to an OpenAPI operation, as one JSON Schema of an object: parameters, and the body's properties.

Invariants: names are unique: what is in the path keeps its own, and whoever comes later says where it is (``query_``, ``header_``,
``body_``); what is required stays so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from actors.core.types import InputError
from pipelines.ingestion.listing import clean
from pipelines.ingestion.schemas import resolve, write_out

PLACES = ("path", "query", "header")
OWN_HEADERS = frozenset({"accept", "content-type", "authorization"})
"""Headers that OpenAPI has other words for."""
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def input_schema(operation: Mapping[str, Any], shared: Any, place: str) -> tuple[dict[str, Any], list[str]]:
    """The schema of an operation's input, and what was cut in it. ``shared``: parameters of all operations of its path."""
    made = _Input(place)
    for where in PLACES:
        for parameter in _parameters(operation.get("parameters"), shared, place):
            if parameter["in"] == where:
                made.parameter(parameter, where)
    body = resolve(operation.get("requestBody"), place)
    if isinstance(body, Mapping):
        made.body(body)
    schema: dict[str, Any] = {"type": "object", "properties": made.properties}
    if made.required:
        schema["required"] = made.required
    return schema, made.cuts


def _parameters(own: Any, shared: Any, place: str) -> list[Mapping[str, Any]]:
    """All parameters; an operation's own take the place of shared ones."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for given in (shared, own):
        for parameter in _items(resolve(given, place), place):
            name, where = parameter.get("name"), parameter.get("in")
            if not isinstance(name, str) or not isinstance(where, str):
                raise InputError(f"{place}: a parameter lacks name or in; give it both")
            if where in PLACES and not (where == "header" and name.lower() in OWN_HEADERS):
                found[name, where] = parameter
    return list(found.values())


def _items(values: Any, place: str) -> Iterator[Mapping[str, Any]]:
    if values is None:
        return
    if not isinstance(values, list):
        raise InputError(f"{place}: parameters is no list; write one parameter an item")
    for value in values:
        item = resolve(value, place)
        if not isinstance(item, Mapping):
            raise InputError(f"{place}: a parameter is {item!r:.60}; it must be an object with name, in and schema")
        yield item


class _Input:
    """An input schema while it is put together."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.properties: dict[str, Any] = {}
        self.required: list[str] = []
        self.cuts: list[str] = []

    def parameter(self, parameter: Mapping[str, Any], where: str) -> None:
        given = parameter.get("schema")
        if given is None:
            content = resolve(parameter.get("content"), self._place)
            media = resolve(next(iter(content.values())), self._place) if isinstance(content, Mapping) and content else {}
            given = media.get("schema") if isinstance(media, Mapping) else None
        schema = self._written({} if given is None else given)
        if description := clean(str(parameter.get("description") or "")):
            schema["description"] = description
        self._put(parameter["name"], schema, where, where == "path" or parameter.get("required") is True)

    def body(self, body: Mapping[str, Any]) -> None:
        content = resolve(body.get("content"), self._place)
        if not isinstance(content, Mapping) or not content:
            return
        kind = next((k for k in content if _is_json(str(k))), next((k for k in FORMS if k in content), None))
        media = resolve(content[kind if kind is not None else next(iter(content))], self._place)
        given = media.get("schema") if isinstance(media, Mapping) else None
        schema = self._written({} if given is None else given)
        whole = _object_of(schema) if kind is not None else None
        if whole is None:
            if description := clean(str(body.get("description") or "")):
                schema.setdefault("description", description)
            if kind is None:
                schema.setdefault("contentMediaType", str(next(iter(content))))
            self._put("body", schema, "body", body.get("required") is True)
            return
        for name, inner in whole["properties"].items():
            self._put(name, inner, "body", name in whole["required"])

    def _put(self, name: str, schema: dict[str, Any], where: str, required: bool) -> None:
        name = clean(name)
        while name in self.properties:
            name = f"{where}_{name}"
        self.properties[name] = schema
        if required:
            self.required.append(name)

    def _written(self, given: Any) -> dict[str, Any]:
        written = write_out(given, self._place)
        self.cuts += [f"its schema holds itself at {name}; cut there" for name in written.cyclic]
        if written.shortened:
            self.cuts.append("its schema is too large; what lies deep in it is cut")
        return written.schema


def _is_json(kind: str) -> bool:
    kind = kind.partition(";")[0].strip().lower()
    return kind in ("application/json", "*/*", "application/*") or kind.endswith("+json")


def _object_of(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Properties and required names of an object's schema, those of ``allOf`` too; None for what is no such object."""
    if {"anyOf", "oneOf", "not", "if"} & schema.keys() or schema.get("type", "object") not in ("object", ["object", "null"]):
        return None
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in schema.get("allOf", []):
        inner = _object_of(part)
        if inner is None:
            return None
        properties |= inner["properties"]
        required += inner["required"]
    properties |= schema.get("properties", {})
    required += schema.get("required", [])
    return {"properties": properties, "required": required} if properties else None
