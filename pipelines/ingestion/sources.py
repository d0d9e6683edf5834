"""Kinds of sources, and how one is written: ``[NAME=]KIND:LOCATION``.

Invariants: a source's name is the namespace of its tools, so two sources never share one; a file's location is kept absolute, so
that a catalog can be read again from any folder.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from actors.core.types import InputError
from pipelines.ingestion import (
    benchmark_sources,
    botocore_source,
    functions,
    google,
    langchain_source,
    mcp_source,
    openapi,
)
from pipelines.ingestion.listing import ReadSource
from pipelines.ingestion.store import Source

KINDS: dict[str, ReadSource] = {
    "openapi": openapi.read,
    "functions": functions.read,
    "mcp": mcp_source.read,
    "google": google.read,
    "botocore": botocore_source.read,
    "langchain": langchain_source.read,
    "beir": benchmark_sources.read_beir,
    "toolret": benchmark_sources.read_toolret,
    "toolbench": benchmark_sources.read_toolbench,
}
"""How each kind of source is read."""
IN_FILES = frozenset({"openapi", "functions", "beir", "toolret", "toolbench"})
"""Kinds whose location is a path or a URL; of other kinds it is a path where a file is there."""
OWN_NAMES = {"google": "google", "botocore": "aws"}
"""What sources of a kind are called that are given no name; their APIs' names follow in the ids."""

_SOURCE = re.compile(r"(?:(?P<name>[^=:]*)=)?(?P<kind>[A-Za-z0-9_-]+):(?P<location>.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class Wanted:
    """A source to be read."""

    name: str
    kind: str
    location: str

    @property
    def spec(self) -> str:
        """Without its name."""
        return f"{self.kind}:{self.location}"


def parse(texts: Iterable[str], known: Mapping[str, Source]) -> list[Wanted]:
    """The sources that ``texts`` ask for; all ``known`` ones where there is none.

    Raises InputError for a text that is no source, a kind that is unknown, and a name that another source has.
    """
    given = list(texts)
    if not given:
        return [Wanted(name, source.kind, source.location) for name, source in known.items()]
    found: dict[str, Wanted] = {}
    for text in given:
        wanted, named = _parse(text)
        other = known.get(wanted.name)
        if other is not None and not named and other.spec != wanted.spec:
            raise InputError(
                f"{text}: {wanted.name!r} is the name of {other.spec}; give this source its own, as {wanted.name}-2={text}, or say"
                f" {wanted.name}={text} if it moved"
            )
        if wanted.name in found:
            raise InputError(f"{text}: {found[wanted.name].spec} is called {wanted.name!r} too; give each a name, as NAME={text}")
        found[wanted.name] = wanted
    return list(found.values())


def _parse(text: str) -> tuple[Wanted, bool]:
    """The source, and whether it was given a name."""
    match = _SOURCE.fullmatch(text)
    if match is None:
        raise InputError(f"{text}: not a source; write [NAME=]KIND:LOCATION, as shop=openapi:shop.yaml (kinds: {', '.join(KINDS)})")
    kind, location, name = match["kind"], match["location"].strip(), match["name"]
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        raise InputError(f"{text}: no kind {kind!r}{f'; meant {near[0]!r}?' if near else ''} (kinds: {', '.join(KINDS)})")
    if not location:
        raise InputError(f"{text}: names no location; write {kind}:LOCATION")
    if name is not None and not _NAME.fullmatch(name):
        raise InputError(f"{text}: a source's name is made of letters, digits, '.', '_' and '-'; {name!r} is not")
    if "://" not in location and (kind in IN_FILES or Path(location).expanduser().is_file()):
        location = str(Path(location).expanduser().absolute())
    return Wanted(name or OWN_NAMES.get(kind) or _slug(kind, location), kind, location), name is not None


def _slug(kind: str, location: str) -> str:
    """A name made of a location's last part."""
    stem = Path(urlsplit(location).path).stem
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or kind
