"""Files and web documents that describe tools, as text and as data: bounded in size, in time and in what their parts repeat.

Invariants: nothing is read beyond ``MAX_BYTES``; a document that is returned is a finite tree of plain values, its aliases counted
as often as they stand, so that whoever walks it ends.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from actors.core.types import InputError

MAX_BYTES: Final = 50_000_000
MAX_VALUES = 5_000_000
"""Values of a document, what an alias repeats counted each time."""
MAX_DEPTH = 200
MAX_KEYS = 10_000
"""Keys that aliases may merge into one mapping."""
STEP_TIMEOUT_S, FETCH_TIMEOUT_S = 15.0, 120.0
_TOO_LARGE = f"is larger than {MAX_BYTES // 1_000_000} MB; split it, or leave out what describes no tools"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as JSON knows it: ``no`` and ``on`` are words, a date is a text; what is merged into a mapping stays within bounds."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what ``<<`` names into ``node``."""
        own = len(node.value)
        super().flatten_mapping(node)
        if len(node.value) > max(own, MAX_KEYS):
            raise yaml.YAMLError(f"aliases merge more than {MAX_KEYS:,} keys into one mapping")


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF"))


def is_url(location: str) -> bool:
    """Whether it is fetched from the web."""
    return location.startswith(("http://", "https://"))


def read_text(location: str) -> str:
    """The text at a path or URL. Raises InputError where there is none, it is too large, too slow or not UTF-8."""
    content = _fetch(location) if is_url(location) else _read(Path(location))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{location}: not UTF-8 (byte {error.start}); save it as UTF-8") from error


def read_data(location: str) -> Any:
    """The JSON or YAML value at a path or URL. Raises InputError as ``read_text`` does, and for what is neither or has no end."""
    data = parse(read_text(location), location)
    _check_finite(data, location)
    return data


def parse(text: str, place: str) -> Any:
    """The value of a JSON or YAML text."""
    try:
        if text.lstrip()[:1] in ("{", "["):
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                # YAML has such brackets too; what it says of a broken text names the line.
                pass
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{place}: neither JSON nor YAML ({error.problem or error.context}{where})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{place}: neither JSON nor YAML ({str(error).splitlines()[0]})") from error
    except RecursionError as error:
        raise InputError(f"{place}: nested too deeply; the limit is {MAX_DEPTH} levels") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: {_TOO_LARGE}")
    return content


def _fetch(url: str) -> bytes:
    deadline = time.monotonic() + FETCH_TIMEOUT_S
    content = bytearray()
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=STEP_TIMEOUT_S) as answer:
            if answer.status_code != httpx.codes.OK:
                raise InputError(
                    f"{url}: answered with status {answer.status_code}; give an address that answers with the document"
                )
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise InputError(f"{url}: {_TOO_LARGE}")
                if time.monotonic() > deadline:
                    raise InputError(f"{url}: was not there within {FETCH_TIMEOUT_S:.0f} s; download it and give the file")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(f"{url}: cannot be fetched ({str(error) or type(error).__name__})") from error
    return bytes(content)


def _check_finite(data: Any, place: str) -> None:
    """Raises InputError where the values, aliases counted each time, are too many, too deep, or hold themselves."""
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(value: Any, depth: int) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) in sizes:
            return sizes[id(value)]
        if id(value) in open_:
            raise InputError(f"{place}: an alias holds itself; write out what it stands for")
        if depth > MAX_DEPTH:
            raise InputError(f"{place}: nested too deeply; the limit is {MAX_DEPTH} levels")
        open_.add(id(value))
        total = 1 + sum(size(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value))
        open_.discard(id(value))
        if total > MAX_VALUES:
            raise InputError(
                f"{place}: its aliases repeat more than {MAX_VALUES:,} values; write out what they stand for, or split it"
            )
        sizes[id(value)] = total
        return total

    size(data, 0)
