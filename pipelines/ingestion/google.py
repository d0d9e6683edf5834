"""Google's APIs from their discovery documents: a tool a method. The documents come inside ``google-api-python-client``.

A location is ``all`` (the newest version of each API), ``every`` (each version of each), names parted by commas
(``drive,calendar,sheets.v4``), or the path of one document. An API is called as in the documents' file names; those that share a
name have a part after it (``admin.directory``).

Invariants: newest means the highest stable version, else the highest beta, else the highest alpha. A method's id is the way through
the document's resources, so that it stays when a newer version comes; only a version that was asked for stands in it. A schema
holds what a caller sends: parameters of path and query, and the body's properties with one level below them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import googleapiclient

from actors.catalog_file import Entry
from actors.core.text import identifier_words, sentences
from actors.core.types import InputError
from actors.interfaces import Progress
from pipelines.ingestion.listing import Listing, make_entry

SOURCE = "google"
MAX_PROPERTIES, MAX_INNER = 200, 40
"""Properties of a body that are kept, and properties of each of them."""
MAX_ENUM = 50
"""Values of an enumeration that are kept."""

_FILE = re.compile(r"(?P<api>\w+)\.(?:(?P<part>[a-z]+)_?)??(?P<version>v\d[a-zA-Z0-9.]*|alpha|beta|preview)")
_VERSION = re.compile(r"(?:v(?P<major>\d+)(?:\.(?P<minor>\d+))?(?:p\d+)?)?(?P<stage>[a-z]*)(?P<number>\d*)")
_STAGES = {"": 2, "beta": 1, "b": 1}
_OUTPUT = re.compile(r"\W*output[ -]only", re.IGNORECASE)


@dataclass(frozen=True)
class _Document:
    """A discovery document: its API's name, its version, whether the version stands in its tools' ids."""

    api: str
    version: str
    path: Path
    named: bool = False

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Higher is to be preferred."""
        match = _VERSION.match(self.version)
        assert match is not None, "every part of the pattern may be missing"
        return _STAGES.get(match["stage"], 0), int(match["major"] or 0), int(match["minor"] or 0), int(match["number"] or 0)


def documents_dir() -> Path:
    """Where the installed client keeps its discovery documents."""
    return Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"


def read(location: str, namespace: str, progress: Progress) -> Listing:
    """The methods of the APIs at ``location``, namespace ``NAMESPACE.API``; progress in documents.

    Raises InputError for an API or version that is not carried, and for a file that is no discovery document.
    """
    entries: list[Entry] = []
    notes: list[str] = []
    documents = _chosen(location)
    for done, document in enumerate(documents, start=1):
        content = _content(document.path)
        about = _name_of(content, document.api)
        space = ".".join([namespace, document.api, *([document.version] if document.named else [])])
        for way, method in _methods(content):
            entry, cut = _entry(space, about, way, method, content.get("schemas", {}))
            entries.append(entry)
            notes += cut
        progress(done, len(documents))
    return Listing(tuple(entries), notes=tuple(notes))


def _chosen(location: str) -> list[_Document]:
    if location.endswith(".json"):
        content = _content(Path(location))
        return [_Document(str(content["name"]), str(content.get("version", "")), Path(location))]
    known = _carried()
    if location == "all":
        return [versions[0] for versions in known.values()]
    if location == "every":
        return [_named(document) for versions in known.values() for document in versions]
    return list(dict.fromkeys(_find(known, name.strip()) for name in location.split(",") if name.strip()))


def _carried() -> dict[str, list[_Document]]:
    """API -> its documents, the newest first; APIs in the order of their names."""
    found: dict[str, dict[str, _Document]] = defaultdict(dict)
    for path in sorted(documents_dir().glob("*.json")):
        if match := _FILE.fullmatch(path.stem):
            api = f"{match['api']}.{match['part']}" if match["part"] else match["api"]
            # The client carries a few documents twice, under two spellings of one name.
            found[api].setdefault(match["version"], _Document(api, match["version"], path))
    if not found:
        raise InputError(f"google: no discovery documents under {documents_dir()}; install google-api-python-client anew")
    return {api: sorted(versions.values(), key=lambda d: d.rank, reverse=True) for api, versions in found.items()}


def _find(known: Mapping[str, list[_Document]], name: str) -> _Document:
    if name in known:
        return known[name][0]
    for api, versions in known.items():
        for document in versions:
            if name == f"{api}.{document.version}":
                return _named(document)
        if name.startswith(f"{api}."):
            carried = ", ".join(document.version for document in versions)
            parts = [other for other in known if other.startswith(f"{api}.")]
            raise InputError(f"google:{name}: not carried; of {api} there are {', '.join([carried, *parts])}")
    if parts := [other for other in known if other.startswith(f"{name}.")]:
        raise InputError(f"google:{name}: stands for several APIs; give {', '.join(parts)}")
    near = [other for other in known if name.lower() in other.lower()][:8]
    hint = (
        f"do you mean {', '.join(near)}?" if near else f"give all, every or names of the {len(known)} APIs, such as drive,calendar"
    )
    raise InputError(f"google:{name}: no such API is carried; {hint}")


def _named(document: _Document) -> _Document:
    return _Document(document.api, document.version, document.path, named=True)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the path of a discovery document") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({str(error).splitlines()[0]}); give a discovery document") from error
    if not isinstance(content, dict) or not isinstance(content.get("name"), str) or not ({"resources", "methods"} & content.keys()):
        raise InputError(f"{path}: no discovery document; one has a name, and resources with methods")
    return content


def _methods(node: Mapping[str, Any], way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """(names of the resources and the method, the method), in the document's order."""
    for name, method in node.get("methods", {}).items():
        yield (*way, name), method
    for name, resource in node.get("resources", {}).items():
        yield from _methods(resource, (*way, name))


def _name_of(content: Mapping[str, Any], api: str) -> str:
    """ "Google Drive", "Admin SDK directory": how people call an API."""
    title = str(content.get("title") or content["name"]).removesuffix(" API")
    return " ".join([title, *api.split(".")[1:]])


def _entry(
    space: str, api: str, way: tuple[str, ...], method: Mapping[str, Any], schemas: Mapping[str, Any]
) -> tuple[Entry, list[str]]:
    words = [" ".join(identifier_words(name)) for name in way]
    words = [word[:1].upper() + word[1:] for word in words]
    action = " ".join([words[-1], *words[-2:-1]])
    inside = f" ({', '.join(words[:-2])})" if words[:-2] else ""
    description = str(method.get("description", ""))
    return make_entry(space, ".".join(way), description, _schema(method, schemas), SOURCE, f"{api}: {action}{inside}")


def _schema(method: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of what a method takes. A parameter of the address goes before a body's property of the same name."""
    parameters: Mapping[str, Any] = method.get("parameters", {})
    properties = {name: _typed(about, schemas, depth=1) for name, about in parameters.items()}
    body = schemas.get(method.get("request", {}).get("$ref", ""), {})
    for name, about in body.get("properties", {}).items():
        if len(properties) < MAX_PROPERTIES and not _is_output(about):
            properties.setdefault(name, _typed(about, schemas, depth=0))
    required = [name for name, about in parameters.items() if about.get("required")]
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _typed(about: Mapping[str, Any], schemas: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """A property as JSON Schema. ``depth`` 0 opens an object; at 1 it stays closed, and one sentence says what it is."""
    description = str(about.get("description", "")).strip()
    if depth and len(opening := sentences(description)[:1]) == 1:
        description = opening[0]
    kept: dict[str, Any] = {"description": description} if description else {}
    if about.get("repeated"):
        return {**kept, "type": "array", "items": _typed({**about, "repeated": False, "description": ""}, schemas, depth)}
    target = schemas.get(about.get("$ref", ""), about)
    kind = target.get("type", "object")
    if kind != "any":
        kept["type"] = kind
    if "enum" in about:
        kept["enum"] = about["enum"][:MAX_ENUM]
    if kind == "array":
        kept["items"] = _typed(target.get("items", {"type": "any"}), schemas, depth)
    elif kind == "object" and not depth and (inner := target.get("properties")):
        kept["properties"] = {n: _typed(a, schemas, 1) for n, a in list(inner.items())[:MAX_INNER] if not _is_output(a)}
    return kept


def _is_output(about: Mapping[str, Any]) -> bool:
    """Whether only answers hold the property."""
    return bool(about.get("readOnly")) or _OUTPUT.match(str(about.get("description", ""))) is not None
