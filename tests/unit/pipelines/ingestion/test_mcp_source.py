import json
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
import uvicorn
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from actors.core.types import InputError
from pipelines.ingestion import mcp_source
from pipelines.ingestion.listing import Listing

TOKEN = "let-me-in"


def read(location: str, namespace: str = "shop") -> Listing:
    return mcp_source.read(location, namespace, lambda done, total: None)


def ids(listing: Listing) -> list[str]:
    return [entry.tool.tool_id for entry in listing.entries]


def tool(name: str, **more: Any) -> types.Tool:
    return types.Tool(name=name, description=f"Does {name}.", input_schema={"type": "object", "properties": {}}, **more)


def page(*tools: types.Tool, then: str | None = None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=list(tools), next_cursor=then)


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """An app on a free port; its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def listed(pages: Callable[[int], Awaitable[types.ListToolsResult]]) -> Listing:
    """What is read of a server that answers with page 0, then with the page that its cursor names."""

    async def list_tools(_: Any, parameters: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return await pages(int(parameters.cursor) if parameters and parameters.cursor else 0)

    with served(Server("paged", on_list_tools=list_tools).streamable_http_app()) as address:
        return read(address)


def test_a_listing_is_followed_to_its_last_page_and_titles_are_the_server_s() -> None:
    async def pages(number: int) -> types.ListToolsResult:
        if number < 2:
            return page(tool(f"t{number}", title="First"), then=str(number + 1))
        return page(tool("t2", annotations=types.ToolAnnotations(title="Last")))

    listing = listed(pages)
    assert ids(listing) == ["shop.t0", "shop.t1", "shop.t2"] and listing.whole and listing.notes == ()
    assert [entry.tool.title for entry in listing.entries] == ["First", "First", "Last"]
    assert listing.entries[0].tool.description == "Does t0." and listing.entries[0].tool.source == "mcp"


async def hangs(number: int) -> types.ListToolsResult:
    await anyio.sleep(60)
    return page()


async def hangs_later(number: int) -> types.ListToolsResult:
    return await hangs(number) if number else page(tool("a"), then="1")


async def repeats(number: int) -> types.ListToolsResult:
    return page(tool("a"), then="1")


async def never_ends(number: int) -> types.ListToolsResult:
    return page(tool(f"t{number}"), then=str(number + 1))


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        (hangs, "does not list its tools within 1 s; see whether it runs"),
        (hangs_later, "its listing stops after 1 tools within 1 s; see whether it runs"),
        (repeats, "no end .gives the same page twice, 2 tools so far.; correct its nextCursor"),
        (never_ends, "no end .has more than 5 pages"),
    ],
)
def test_a_server_that_hangs_or_never_ends_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, pages: Callable[[int], Awaitable[types.ListToolsResult]], message: str
) -> None:
    if "within" in message:
        monkeypatch.setattr(mcp_source, "CALL_SECONDS", 1.0)
    monkeypatch.setattr(mcp_source, "MAX_PAGES", 5)
    with pytest.raises(InputError, match=message) as caught:
        listed(pages)
    assert str(caught.value).startswith("mcp:http://127.0.0.1:") and "\n" not in str(caught.value)


STDIO = """
import os, sys
from mcp.server import MCPServer

server = MCPServer("local")

@server.tool()
def whoami() -> str:
    return ""

server._tool_manager.get_tool("whoami").description = os.environ.get("WHO", "nobody")
server.run("stdio")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A server for stdio; starting it takes seconds where the machine is busy."""
    path = tmp_path / "my server.py"
    path.write_text(STDIO)
    return path


@pytest.mark.timeout(120)
def test_a_server_is_started_and_sees_none_of_our_variables(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "me")
    (entry,) = read(f"stdio:{sys.executable} '{script}'").entries
    assert (entry.tool.tool_id, entry.tool.description) == ("shop.whoami", "nobody")


@pytest.mark.timeout(120)
def test_a_server_that_never_answers_over_stdio_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_source, "START_SECONDS", 1.0)
    marker = tmp_path / "pid"
    command = f"import os, time; open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(100)"
    with pytest.raises(InputError, match="does not answer within 1 s; see whether it runs, or save its listing"):
        read(f'stdio:{sys.executable} -c "{command}"')
    if marker.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(marker.read_text()), 0)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("stdio:", "names no command; give stdio:COMMAND ARGUMENTS"),
        ("stdio:python 'a", "not a command line .*; quote it as for a shell"),
        ("stdio:/no/such/program --token secret", "^mcp:stdio:/no/such/program: cannot be listed .*check the command$"),
        ("/no/such/file.json", "cannot be read .*; give https://HOST/mcp, stdio:COMMAND or a file"),
    ],
)
def test_a_location_that_leads_nowhere_is_named_with_a_remedy(location: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(location)
    assert "secret" not in str(caught.value)


def test_a_program_that_is_no_server_is_told_by_its_last_words() -> None:
    with pytest.raises(InputError, match=r"its last words: no database here\)"):
        read(f"stdio:{sys.executable} -c \"import sys; sys.exit('no database here')\"")


class Guarded(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.headers.get("authorization") == f"Bearer {TOKEN}":
            return await call_next(request)
        return PlainTextResponse("who are you", status_code=401)


@pytest.fixture
def address() -> Iterator[str]:
    """A server over HTTP that wants a token."""
    shop = MCPServer("shop")

    @shop.tool(title="Refund an order")
    def refund(order: str, cents: int = 0) -> str:
        """Gives the money back."""
        return f"{order} {cents}"

    app = shop.streamable_http_app()
    app.add_middleware(Guarded)
    with served(app) as url:
        yield url


def test_a_server_over_http_is_read_with_the_token_of_its_namespace(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"refuses us \(HTTP 401\); set COHYDE_MCP_TOKEN_MY_SHOP to a token that it accepts"):
        read(address, "my-shop")
    monkeypatch.setenv("COHYDE_MCP_TOKEN_MY_SHOP", TOKEN)
    (entry,) = read(address, "my-shop").entries
    assert (entry.tool.tool_id, entry.tool.title) == ("my-shop.refund", "Refund an order")
    assert entry.tool.description == "Gives the money back." and entry.input_schema["required"] == ["order"]
    assert entry.input_schema["properties"]["cents"]["type"] == "integer"


@pytest.mark.timeout(120)
def test_a_configuration_s_servers_are_read_each_under_its_own_name(
    address: str, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = {
        "web": {"url": address, "headers": {"Authorization": "Bearer ${SHOP_TOKEN}"}},
        "local": {"command": sys.executable, "args": [str(script)], "env": {"WHO": "me"}},
        "off": {"command": "/no/such/program", "disabled": True},
    }
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"mcpServers": servers}))
    with pytest.raises(InputError, match=r"mcpServers\.web\.headers\.Authorization: the environment has no variable SHOP_TOKEN"):
        read(str(config), "all")
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    listing = read(str(config), "all")
    assert ids(listing) == ["all.web.refund", "all.local.whoami"] and listing.entries[1].tool.description == "me"
    monkeypatch.setenv("SHOP_TOKEN", "wrong")
    with pytest.raises(InputError, match=r"^mcp:web: refuses us \(HTTP 401\); see headers in .*mcpServers\.web$"):
        read(str(config), "all")


def test_a_token_never_leaves_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHYDE_MCP_TOKEN_SHOP", TOKEN)
    with pytest.raises(InputError, match="http would send its headers in the clear; give an https address"):
        read("http://shop.example/mcp")


def test_an_address_where_nobody_listens_or_no_server_is_at_the_path_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/mcp: cannot be listed .*; check the address"):
        read("http://127.0.0.1:9/mcp")
    monkeypatch.setenv("COHYDE_MCP_TOKEN_SHOP", TOKEN)
    with pytest.raises(InputError, match=r"cannot be listed \(Not Found \(HTTP 404\)\); check the address"):
        read(f"{address}-not-here")


TOOLS = [
    {"name": "a", "description": "Does a.", "inputSchema": {"type": "object", "properties": {"x": True, "y": {"type": "string"}}}},
    {"name": "a", "description": "Again."},
    {"name": "b", "inputSchema": {"type": "array"}},
]


@pytest.mark.parametrize("content", [TOOLS, {"tools": TOOLS}, {"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS}}])
def test_a_saved_listing_is_read_in_each_of_its_shapes(tmp_path: Path, content: object) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(content))
    listing = read(str(path))
    assert ids(listing) == ["shop.a", "shop.b"] and listing.whole
    assert listing.entries[0].input_schema["properties"] == {"x": {}, "y": {"type": "string"}}
    assert listing.notes == (
        "shop.a: is listed twice; the first is kept",
        "shop.b: its inputSchema is not one of an object and is left out",
    )


def test_one_page_of_several_is_not_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps({"tools": TOOLS[:1], "nextCursor": "2"}))
    listing = read(str(path))
    assert not listing.whole and "is one page of several" in listing.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"tool": []}', "no listing; give"),
        ('{"tools": [1]}', "no listing; give"),
        ('{"tools": [{"description": "x"}]}', "tool 1: has no name"),
        ('{"jsonrpc": "2.0", "error": {"code": 1, "message": "went wrong"}}', "is an error .went wrong., no listing"),
        ('{"mcpServers": {"a": {}}}', "mcpServers.a: has neither a url nor a command"),
        ('{"mcpServers": {"a": {"type": "sse", "url": "https://a.example"}}}', "the transport sse is not supported"),
        ('{"mcpServers": []}', "mcpServers is not an object of servers"),
    ],
)
def test_a_file_that_is_no_listing_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tools.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read(str(path))
    assert str(caught.value).startswith(str(path))
