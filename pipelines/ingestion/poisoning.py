"""Tool poisoning: text in a tool's description or schema that speaks to the model instead of saying what the tool does.

Invariants: pure and without a model; a rule says what a passage does (gives orders about other tools, hides something from the
user, asks for secrets), not which words are bad: ordinary documentation is full of secrets, policies and tokens. What no rule knows
passes: known patterns are found, no determined author, so a stranger's catalog still needs a reader.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.catalog_file import Entry
from pipelines.ingestion.poisoning_rules import RULES
from pipelines.ingestion.rule_patterns import compiled

MAX_TEXTS = 5_000
"""Texts of one tool that are looked at."""
_SHOWN = 90
"""Characters of a passage that are shown."""


@dataclass(frozen=True)
class Suspicion:
    """A passage that a model could take for an order: where it stands, what it does, its words."""

    place: str
    what: str
    passage: str


_RULES = compiled(RULES)
_INVISIBLE = re.compile(
    # Tag characters, direction changes, supplementary variation selectors, fillers; zero-width ones where they part plain letters.
    r"[\U000e0000-\U000e007f\U000e0100-\U000e01ef\u202a-\u202e\u2066-\u2069\u115f\u1160\u3164\uffa0]"
    r"|(?<=[\x21-\x7e])[\u200b-\u200d\u2060-\u2064\ufeff\u00ad]+(?=[\x21-\x7e])|[\u200b-\u200d\u2060-\u2064\ufeff]{2,}"
)
_ENCODED = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{40,}={0,2}")


def suspicions(entry: Entry) -> list[Suspicion]:
    """The passages of a tool that could be orders to a model, the first of each kind."""
    texts = [*_texts(entry)]
    joined = "\n\n".join(text for _, text in texts)
    lowered = " ".join(joined.lower().split())
    found: dict[str, Suspicion] = {}
    for what, words, pattern in _RULES:
        if what not in found and any(word in lowered for word in words) and (first := _first(texts, what, pattern.search)):
            found[what] = first
    if not joined.isascii() and (hidden := _first(texts, "holds invisible characters", _INVISIBLE.search)):
        found[hidden.what] = hidden
    if encoded := _first(texts, "holds encoded text", _encoded):
        found[encoded.what] = encoded
    return list(found.values())


def _first(texts: Sequence[tuple[str, str]], what: str, search: Any) -> Suspicion | None:
    for place, text in texts:
        if (match := search(text)) is not None:
            passage = " ".join(text[max(0, match.start() - 10) : match.start() + _SHOWN].split())
            return Suspicion(place, what, _visible(passage))
    return None


def _encoded(text: str) -> re.Match[str] | None:
    """A stretch of base64 that says something: several words in plain letters."""
    for match in _ENCODED.finditer(text):
        padded = match[0].rstrip("=").replace("-", "+").replace("_", "/")
        try:
            decoded = base64.b64decode(padded + "=" * (-len(padded) % 4)).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if decoded.isprintable() and len(re.findall(r"[A-Za-z]{2,}", decoded)) >= 4 and decoded.count(" ") >= 3:
            return match
    return None


def _visible(text: str) -> str:
    return _INVISIBLE.sub(lambda match: f"<U+{ord(match[0][0]):04X}>", text)


def _texts(entry: Entry) -> Iterator[tuple[str, str]]:
    """(place, text) of everything that a model may be shown of a tool."""
    tool = entry.tool
    yield "its description", tool.description
    yield "its title", f"{tool.name}\n{tool.title}"
    if tool.ready_document:
        yield "its text", tool.ready_document
    for number, pair in enumerate(_strings(entry.input_schema, "")):
        if number >= MAX_TEXTS:
            return
        yield pair


def _strings(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """The texts of a schema, names of properties too; it is a tree, for it was read from JSON."""
    if isinstance(node, str):
        yield f"its parameter {place}" if place else "its schema", node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _named(str(key), value, place)
    elif isinstance(node, Sequence):
        for value in node:
            yield from _strings(value, place)


def _named(key: str, value: Any, place: str) -> Iterator[tuple[str, str]]:
    if key == "properties" and isinstance(value, Mapping):
        for name, about in value.items():
            inner = f"{place}.{name}" if place else str(name)
            yield f"its parameter {inner}", str(name).replace("_", " ")
            yield from _strings(about, inner)
    elif key not in ("type", "format", "$ref", "required"):
        yield from _strings(value, place)
