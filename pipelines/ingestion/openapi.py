"""OpenAPI 3 documents, a tool an operation: a file, a URL, or a folder of files.

Invariants: an operation's id is its ``operationId`` (method and path where it has none, or shares it), and in a folder the file's
name stands before it; references are followed within the document and, from a file, into other files, never to the web and never
from the web to a file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonref

from actors.catalog_file import Entry
from actors.core.text import identifier_words
from actors.core.types import InputError
from actors.interfaces import Progress
from pipelines.catalogs.text import strip_html
from pipelines.ingestion.documents import is_url, read_data
from pipelines.ingestion.listing import Listing, make_entry
from pipelines.ingestion.parameters import input_schema
from pipelines.ingestion.schemas import resolve

SOURCE = "openapi"
SUFFIXES = (".yaml", ".yml", ".json")
MAX_TITLE = 80
"""Characters of a summary that is the title of an operation without a name."""
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

_MARKUP = re.compile(r"</?(?:p|br|a|ul|ol|li|b|i|em|strong|code|pre|div|span|h\d|table)\b[^>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class _Operation:
    """``place`` is how messages name it: document, method and path."""

    place: str
    method: str
    path: str
    about: Mapping[str, Any]
    shared: Any
    """Parameters of all operations of its path."""

    @property
    def by_path(self) -> str:
        """A name for it where it gives itself none."""
        return "_".join([self.method, *re.findall(r"[A-Za-z0-9]+", self.path)])

    @property
    def own_name(self) -> str:
        """Its ``operationId``; empty where it has none that can name a tool."""
        given = self.about.get("operationId")
        return given.strip() if isinstance(given, str) and any(c.isalnum() for c in given) else ""


def read(location: str, namespace: str, progress: Progress) -> Listing:
    """The operations of the document at ``location``, or of those in that folder (each with its file's name in the namespace)."""
    folder = Path(location)
    if is_url(location) or not folder.is_dir():
        entries, notes = _document(location, read_data(location), namespace, progress)
        return Listing(tuple(entries), notes=tuple(notes))
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    all_entries: list[Entry] = []
    all_notes: list[str] = []
    for file in files:
        data = read_data(str(file))
        if (
            not isinstance(data, Mapping)
            or not {"openapi", "swagger"} & data.keys()
            or ("openapi" in data and not data.get("paths"))
        ):
            all_notes.append(f"{file}: describes no operations; left out")
            continue
        inner = ".".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in file.relative_to(folder).with_suffix("").parts)
        entries, notes = _document(str(file), data, f"{namespace}.{inner}", progress)
        all_entries += entries
        all_notes += notes
    if not all_entries:
        raise InputError(
            f"{folder}: holds no OpenAPI document ({', '.join(SUFFIXES)}) with operations; give a folder that does, or a file"
        )
    return Listing(tuple(all_entries), notes=tuple(all_notes))


def _document(place: str, data: Any, namespace: str, progress: Progress) -> tuple[list[Entry], list[str]]:
    _check(place, data)
    base = place if is_url(place) else Path(place).absolute().as_uri()
    try:
        document = jsonref.replace_refs(data, base_uri=base, loader=_loader(base), merge_props=True)
    except RecursionError as error:
        raise InputError(f"{place}: nested too deeply to follow its references; split it") from error
    info = resolve(document.get("info"), f"{place}, info")
    title = str(info.get("title") or "") if isinstance(info, Mapping) else ""
    operations = list(_operations(place, document))
    if not operations:
        raise InputError(f"{place}: has no paths with operations, so there are no tools in it; give the document that has them")
    ids = Counter(operation.own_name for operation in operations)
    entries, notes = [], []
    for done, operation in enumerate(operations, start=1):
        name = operation.own_name
        if name and ids[name] > 1:
            notes.append(f"{operation.place}: shares its operationId {name!r}; it is called {operation.by_path} instead")
            name = ""
        entry, more = _tool(operation, name or operation.by_path, title, namespace)
        entries.append(entry)
        notes += more
        progress(done, len(operations))
    return entries, notes


def _check(place: str, data: Any) -> None:
    if not isinstance(data, Mapping):
        raise InputError(f"{place}: not an OpenAPI document (no openapi: field); give one in YAML or JSON")
    if "swagger" in data:
        raise InputError(
            f"{place}: is OpenAPI {data['swagger']} (Swagger); convert it to 3.x, as with `npx swagger2openapi -o new.yaml OLD`,"
            " and give the new file"
        )
    version = str(data.get("openapi", ""))
    if not version:
        raise InputError(f"{place}: not an OpenAPI document (no openapi: field); give one in YAML or JSON")
    if not version.startswith("3."):
        raise InputError(f"{place}: is OpenAPI {version}; 3.0 and 3.1 can be read")


def _operations(place: str, document: Any) -> Iterator[_Operation]:
    paths = resolve(document.get("paths"), f"{place}, paths")
    if not isinstance(paths, Mapping):
        return
    for path, item in paths.items():
        item = resolve(item, f"{place}, {path}")
        if not isinstance(item, Mapping):
            continue
        for method in METHODS:
            if method in item:
                named = f"{place}, {method.upper()} {path}"
                about = resolve(item[method], named)
                if not isinstance(about, Mapping):
                    raise InputError(f"{named}: is no object; describe the operation, or leave it out")
                yield _Operation(named, method, str(path), about, item.get("parameters"))


def _tool(operation: _Operation, name: str, api: str, namespace: str) -> tuple[Entry, list[str]]:
    about = operation.about
    summary = str(about.get("summary") or "")
    words = " ".join(word[:1].upper() + word[1:] for word in identifier_words(name))
    if name != operation.own_name and 0 < len(summary) <= MAX_TITLE:
        words = summary.rstrip(".")
    description = _described(summary, str(about.get("description") or ""))
    if about.get("deprecated") is True:
        description = f"{description}\nDeprecated.".strip()
    schema, cuts = input_schema(about, operation.shared, operation.place)
    entry, notes = make_entry(namespace, name, description, schema, SOURCE, f"{api}: {words}" if api else words)
    return entry, notes + [f"{entry.tool.tool_id}: {cut}" for cut in cuts]


def _described(summary: str, description: str) -> str:
    """Summary and description, a paragraph each; the summary ends as a sentence does."""
    summary, description = (strip_html(text) if _MARKUP.search(text) else text.strip() for text in (summary, description))
    if not summary or description.lower().startswith(summary.lower().rstrip(".")):
        return description or summary
    return f"{summary if summary[-1] in '.!?:' else f'{summary}.'}\n{description}".strip()


def _loader(base: str) -> Any:
    def load(uri: str) -> Any:
        parts = urlsplit(uri)
        if parts.scheme != "file" or is_url(base):
            raise InputError("is another document on the web, and those are not fetched; bundle all into one file")
        return read_data(unquote(parts.path))

    return load
