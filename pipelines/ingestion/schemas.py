"""Schemas of an OpenAPI document as a tool's JSON Schema: references written out, keywords of OpenAPI alone left out.

Invariants: what comes out is a finite tree of JSON values without references; where a schema holds itself, or would be larger than
a catalog keeps, it is cut at a reference, the deepest first, and that is told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonref import JsonRef, JsonRefError

from actors.core.types import InputError
from pipelines.ingestion.listing import MAX_SCHEMA, clean

DEPTHS = (32, 6, 4, 2, 1)
"""References inside one another that are written out; the first that gives a schema of a size to keep."""
MAX_VALUES = 25_000
"""Of a schema; one that has more is larger than a catalog keeps."""

_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
_LISTED = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SINGLE = frozenset({"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"})
_KEPT = frozenset(
    {"type", "default", "enum", "const", "format", "pattern", "required", "minimum", "maximum", "exclusiveMinimum"}
    | {"exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties"}
    | {"maxProperties", "deprecated", "contentMediaType", "contentEncoding"}
)


class _TooLargeError(Exception):
    """A schema has more values than are kept."""


@dataclass
class Written:
    """A schema, and the references at which it was cut."""

    schema: dict[str, Any]
    cyclic: list[str] = field(default_factory=list)
    shortened: bool = False


def resolve(value: Any, place: str) -> Any:
    """What a reference stands for; anything else as it is. Raises InputError that names a reference that leads nowhere."""
    if type(value) is not JsonRef:
        return value
    named = value.__reference__["$ref"]
    try:
        return value.__subject__
    except JsonRefError as error:
        if isinstance(error.__cause__, InputError):
            raise InputError(f"{place}: $ref {named!r}: {error.__cause__}") from error
        raise InputError(f"{place}: $ref {named!r} leads nowhere; define what it names, or correct it") from error
    except RecursionError as error:
        raise InputError(f"{place}: $ref {named!r} leads back to itself; let it name a schema") from error


def write_out(value: Any, place: str) -> Written:
    """``value``, a schema with references, without them. Raises InputError as ``resolve`` does, and for what is no schema."""
    for depth in DEPTHS:
        walk = _Walk(place, depth)
        try:
            written = Written(walk.schema(value), sorted(walk.cyclic), walk.shortened)
        except (_TooLargeError, RecursionError):
            continue
        if len(json.dumps(written.schema)) <= MAX_SCHEMA:
            break
    else:
        written = Written(_stub(resolve(value, place)), shortened=True)
    return written


class _Walk:
    """One way through a schema; references inside one another are followed ``depth`` deep."""

    def __init__(self, place: str, depth: int) -> None:
        self._place, self._depth, self._left = place, depth, MAX_VALUES
        self._open: list[str] = []
        self.cyclic: set[str] = set()
        self.shortened = False

    def schema(self, value: Any) -> dict[str, Any]:
        if type(value) is not JsonRef:
            return self._plain(value)
        target, uri = resolve(value, self._place), JsonRef.full_uri.fget(value)
        if uri in self._open or len(self._open) >= self._depth:
            if uri in self._open:
                self.cyclic.add(value.__reference__["$ref"])
            else:
                self.shortened = True
            return _stub(target, value.__reference__["$ref"].rpartition("/")[2])
        self._open.append(uri)
        try:
            return self._plain(target)
        finally:
            self._open.pop()

    def _plain(self, value: Any) -> dict[str, Any]:
        if isinstance(value, bool):
            return {} if value else {"not": {}}
        if not isinstance(value, Mapping):
            raise InputError(f"{self._place}: a schema is {value!r:.60}; it must be an object, as {{type: string}}")
        self._take(1)
        written: dict[str, Any] = {}
        for key, inner in value.items():
            if key in _NAMED and isinstance(inner, Mapping):
                written[key] = self._properties(inner)
            elif key in _LISTED and isinstance(inner, list):
                written[key] = [self.schema(one) for one in inner]
            elif key in _SINGLE and isinstance(inner, bool):
                written[key] = inner
            elif key in _SINGLE and isinstance(inner, Mapping):
                written[key] = self.schema(inner)
            elif key in ("description", "title"):
                written[key] = clean(str(inner))
            elif key in _KEPT:
                written[key] = self._value(inner)
        if isinstance(written.get("required"), list):
            # Also what only answers have is named there.
            known = written.get("properties")
            given = value.get("properties")
            left_out = set(given) - set(known) if known is not None and isinstance(given, Mapping) else set()
            written["required"] = [name for name in written["required"] if name not in left_out]
        elif "required" in written:
            del written["required"]
        return _of_3_1(written, bool(value.get("nullable")))

    def _properties(self, properties: Mapping[Any, Any]) -> dict[str, Any]:
        written = {}
        for name, inner in properties.items():
            target = resolve(inner, self._place)
            if isinstance(target, Mapping) and target.get("readOnly") is True:
                continue
            written[clean(str(name))] = self.schema(inner)
        return written

    def _value(self, value: Any) -> Any:
        self._take(1)
        if isinstance(value, Mapping):
            return {str(key): self._value(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._value(inner) for inner in value]
        if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
            return value
        return str(value)

    def _take(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise _TooLargeError


def _of_3_1(schema: dict[str, Any], nullable: bool) -> dict[str, Any]:
    """What OpenAPI 3.0 says in words of its own, in JSON Schema's."""
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and limit in schema:
            schema[exclusive] = schema.pop(limit)
    if nullable and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"].append(None)
    return schema


def _stub(target: Any, name: str = "") -> dict[str, Any]:
    """What stands where a schema is cut: its type, and what it is or is called."""
    about = target if isinstance(target, Mapping) else {}
    kind = about.get("type")
    text = clean(str(about.get("description") or about.get("title") or name))[:200]
    return {"type": kind if isinstance(kind, str) else "object", **({"description": text} if text else {})}
