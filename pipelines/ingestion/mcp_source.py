"""MCP servers as a source: what ``tools/list`` says, live over streamable HTTP or stdio, or saved in a file.

A location is ``https://HOST/mcp``, ``stdio:COMMAND ARGUMENTS``, or the path of a JSON file: a saved listing (the result of
``tools/list``, the response around it, or a bare list of tools), or a client's configuration with ``mcpServers``, each of which is
read, namespace ``NAMESPACE.SERVER``. In a configuration ``${NAME}`` stands for an environment variable.

Authorization: a URL is asked with the bearer token in ``COHYDE_MCP_TOKEN_NAMESPACE`` (the source's namespace in capitals, other
characters than letters and digits as ``_``), where that variable is set; a configuration has ``headers``. A server that is started
gets no variables of ours but the usual ones (``PATH``, ``HOME``): what it needs stands in a configuration's ``env``.

Invariants: a listing is followed to its end, within bounds of time, pages and tools, or refused as a whole; no secret is sent
unencrypted to another machine, or printed.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import anyio
import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client import Transport
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from actors.catalog_file import Entry
from actors.core.types import InputError
from actors.interfaces import Progress
from pipelines.ingestion.listing import Listing, make_entry

SOURCE = "mcp"
START_SECONDS = 60.0
"""How long a server may take to start and shake hands; some are installed by their first start."""
CALL_SECONDS = 30.0
"""How long it may take for a page."""
LISTING_SECONDS = 300.0
"""How long the whole listing may take."""
MAX_PAGES, MAX_TOOLS = 1_000, 50_000

_FAULTS = (InputError, MCPError, OSError, TimeoutError, ValidationError, httpx2.HTTPError, httpx2.InvalidURL)
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class _Server:
    """A live server: its address and headers, or the command that starts it and its environment."""

    name: str
    url: str = ""
    headers: Mapping[str, str] | None = None
    command: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None
    remedy: str = ""


def read(location: str, namespace: str, progress: Progress) -> Listing:
    """The tools at ``location``; progress in tools.

    Raises InputError for a server that cannot be reached, does not answer in time or lists without an end, and for a file that is
    neither a listing nor a configuration.
    """
    if location.startswith(("http://", "https://")):
        return _live(_at_url(location, namespace), namespace, progress)
    if location.startswith("stdio:"):
        return _live(_from_command(location), namespace, progress)
    path = Path(location).expanduser()
    content = _parsed(path)
    servers = content.get("mcpServers") if isinstance(content, dict) else None
    if servers is None:
        return _saved(content, path, namespace)
    if not isinstance(servers, dict) or not all(isinstance(about, dict) for about in servers.values()):
        raise InputError(f"{path}: mcpServers is not an object of servers; give each one a command or a url")
    configured = [(name, _configured(name, about, path)) for name, about in servers.items() if not about.get("disabled")]
    parts = [_live(server, f"{namespace}.{name}", progress) for name, server in configured]
    entries = tuple(entry for part in parts for entry in part.entries)
    return Listing(entries, all(part.whole for part in parts), tuple(note for part in parts for note in part.notes))


def token_variable(namespace: str) -> str:
    """The environment variable that holds the bearer token of a source."""
    return f"COHYDE_MCP_TOKEN_{re.sub(r'[^A-Z0-9]', '_', namespace.upper())}"


def _at_url(url: str, namespace: str) -> _Server:
    variable = token_variable(namespace)
    token = os.environ.get(variable, "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return _secured(_Server(url, url=url, headers=headers, remedy=f"set {variable} to a token that it accepts"))


def _secured(server: _Server) -> _Server:
    """The server, unless secrets would travel to it in the clear."""
    parts = urlsplit(server.url)
    if server.headers and parts.scheme != "https" and not _is_local(parts.hostname or ""):
        raise InputError(f"mcp:{server.name}: http would send its headers in the clear; give an https address")
    return server


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _from_command(location: str) -> _Server:
    try:
        command = tuple(shlex.split(location.removeprefix("stdio:")))
    except ValueError as error:
        raise InputError(f"mcp:{location}: not a command line ({error}); quote it as for a shell") from error
    if not command:
        raise InputError(f"mcp:{location}: names no command; give stdio:COMMAND ARGUMENTS")
    # Arguments may hold secrets, and a message travels far.
    return _Server(f"stdio:{command[0]}", command=command)


def _configured(name: str, about: Mapping[str, Any], path: Path) -> _Server:
    place = f"{path}: mcpServers.{name}"
    fields = {"headers": about.get("headers") or {}, "env": about.get("env") or {}}
    for field, value in fields.items():
        if not isinstance(value, dict):
            raise InputError(f"{place}.{field}: not an object; give names with values")
        fields[field] = {key: _filled(str(text), f"{place}.{field}.{key}") for key, text in value.items()}
    url, command, arguments = about.get("url"), about.get("command"), about.get("args") or []
    if about.get("type") == "sse":
        raise InputError(
            f"{place}: the transport sse is not supported; give the server's streamable HTTP address, or save its listing"
        )
    if isinstance(url, str) and url:
        remedy = f"see headers in {place}"
        return _secured(_Server(name, url=_filled(url, f"{place}.url"), headers=fields["headers"], remedy=remedy))
    if not isinstance(command, str) or not command or not isinstance(arguments, list):
        raise InputError(f"{place}: has neither a url nor a command with a list of args; give one")
    filled = tuple(_filled(str(text), f"{place}.args") for text in (command, *arguments))
    return _Server(name, command=filled, env=fields["env"])


def _filled(text: str, place: str) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise InputError(f"{place}: the environment has no variable {match[1]}; set it")
        return os.environ[match[1]]

    return _VARIABLE.sub(value, text)


def _live(server: _Server, namespace: str, progress: Progress) -> Listing:
    refused: list[int] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        try:
            tools = anyio.run(partial(_connected, server, log, refused, progress))
        except _FAULTS as error:
            raise InputError(_message(server, error, log, refused)) from error
        except ExceptionGroup as group:
            # The SDK's tasks fail together; the first fault of a known kind says why.
            known, other = group.split(_FAULTS)
            if known is None or other is not None:
                raise
            raise InputError(_message(server, _first(known), log, refused)) from group
    return _listing(tools, namespace, f"mcp:{server.name}")


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _message(server: _Server, error: BaseException, log: TextIO, refused: list[int]) -> str:
    """One line: which server, what happened, what to do. ``log``: what a started server wrote on stderr."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"mcp:{server.name}: {error or 'does not answer'}; see whether it runs, or save its listing to a file"
    if 401 in refused or 403 in refused:
        return f"mcp:{server.name}: refuses us (HTTP {refused[-1]}); {server.remedy}"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        why = f"its listing is not as the protocol wants it ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        return f"mcp:{server.name}: {why}; save the listing to a file and correct it there"
    why = " ".join(str(error).split()) or type(error).__name__
    if refused:
        why = f"{why} (HTTP {refused[-1]})"
    log.seek(0)
    if words := [line.strip() for line in log.read()[-4_000:].splitlines() if line.strip()]:
        why = f"{why}; its last words: {words[-1][:200]}"
    what = "the command" if server.command else "the address"
    return f"mcp:{server.name}: cannot be listed ({why}); check {what}"


async def _connected(server: _Server, log: TextIO, refused: list[int], progress: Progress) -> list[Mapping[str, Any]]:
    """The tools of a live server, as the protocol has them. Raises one of ``_FAULTS``, alone or in a group."""
    if server.command:
        start = StdioServerParameters(command=server.command[0], args=list(server.command[1:]), env=dict(server.env or {}))
        return await _all_pages(stdio_client(start, errlog=log), server.name, progress)

    async def note(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            refused.append(response.status_code)

    timeout = httpx2.Timeout(CALL_SECONDS)
    async with httpx2.AsyncClient(headers=server.headers, timeout=timeout, event_hooks={"response": [note]}) as http:
        return await _all_pages(streamable_http_client(server.url, http_client=http), server.name, progress)


async def _all_pages(transport: Transport, name: str, progress: Progress) -> list[Mapping[str, Any]]:
    tools: list[Mapping[str, Any]] = []
    cursors: set[str] = set()
    cursor: str | None = None
    doing, seconds = "does not answer", START_SECONDS
    end = anyio.current_time() + LISTING_SECONDS
    with anyio.CancelScope(deadline=anyio.current_time() + START_SECONDS) as scope:
        async with Client(transport, cache=None) as client:
            while True:
                doing = f"its listing stops after {len(tools):,} tools" if tools else "does not list its tools"
                seconds = CALL_SECONDS
                scope.deadline = min(end, anyio.current_time() + CALL_SECONDS)
                page = await client.list_tools(cursor=cursor)
                tools += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
                cursor = page.next_cursor
                progress(len(tools), len(tools) + bool(cursor))
                if not cursor:
                    return tools
                if cursor in cursors or len(cursors) >= MAX_PAGES or len(tools) > MAX_TOOLS:
                    raise InputError(_endless(name, cursor in cursors, len(tools)))
                cursors.add(cursor)
    raise TimeoutError(f"{doing} within {seconds:.0f} s")


def _endless(name: str, repeats: bool, tools: int) -> str:
    why = "gives the same page twice" if repeats else f"has more than {MAX_PAGES:,} pages or {MAX_TOOLS:,} tools"
    return (
        f"mcp:{name}: its listing has no end ({why}, {tools:,} tools so far); correct its nextCursor, or save the listing to a file"
    )


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give https://HOST/mcp, stdio:COMMAND or a file") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({str(error).splitlines()[0]}); give a listing of tools or mcpServers") from error


def _saved(content: Any, path: Path, namespace: str) -> Listing:
    if isinstance(content, dict) and isinstance(content.get("error"), dict):
        raise InputError(f"{path}: is an error ({content['error'].get('message')}), no listing; save it again")
    result = content.get("result", content) if isinstance(content, dict) else {"tools": content}
    tools = result.get("tools") if isinstance(result, dict) else None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InputError(f'{path}: no listing; give {{"tools": [...]}}, a list of tools, or {{"mcpServers": {{...}}}}')
    listing = _listing(tools, namespace, str(path))
    if not result.get("nextCursor"):
        return listing
    note = f"{path}: is one page of several (it has a nextCursor), so no tool is taken out"
    return Listing(listing.entries, whole=False, notes=(*listing.notes, note))


def _listing(tools: Iterable[Mapping[str, Any]], namespace: str, place: str) -> Listing:
    entries: dict[str, Entry] = {}
    notes: list[str] = []
    for number, tool in enumerate(tools, start=1):
        name = tool.get("name")
        if not isinstance(name, str):
            raise InputError(f"{place}, tool {number}: has no name; every tool needs one")
        schema, problem = _schema(tool)
        title = tool.get("title") or (tool.get("annotations") or {}).get("title") or ""
        entry, cut = make_entry(namespace, name, str(tool.get("description") or ""), schema, SOURCE, str(title))
        tool_id = entry.tool.tool_id
        notes += [*cut, *([f"{tool_id}: {problem}"] if problem else [])]
        if tool_id in entries:
            notes.append(f"{tool_id}: is listed twice; the first is kept")
        entries.setdefault(tool_id, entry)
    return Listing(tuple(entries.values()), notes=tuple(notes))


def _schema(tool: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """A tool's parameters, or none and the reason, where its schema is not one of an object."""
    schema = tool.get("inputSchema", _NO_PARAMETERS)
    properties = schema.get("properties", {}) if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping) or schema.get("type", "object") != "object":
        return _NO_PARAMETERS, "its inputSchema is not one of an object and is left out"
    # A schema may be a bare true: anything goes.
    return {**schema, "properties": {name: about if isinstance(about, Mapping) else {} for name, about in properties.items()}}, ""
