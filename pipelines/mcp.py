"""The MCP server on standard input and output, before a server of this project anywhere: ``cohyde mcp --url URL``.

Invariants: what it needs comes with ``cohyde[mcp]``, which holds neither torch nor ray; standard output carries the protocol alone;
the key comes from the environment or a file, for what stands on a command line is seen by every user of the machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from mcp.server.stdio import stdio_server

from configs.errors import InputError
from pipelines.command_line import run_app
from serve_app.client import AsyncToolSearch
from serve_app.client.calls import TIMEOUT_S
from serve_app.mcp_server import make_server

KEY_VARIABLE = "COHYDE_KEY"
VERSION = "1"

command_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@command_app.command()
def command(
    url: Annotated[str, typer.Option(help="Address of the server, as http://127.0.0.1:8000.")],
    key_file: Annotated[Path | None, typer.Option(help=f"File with the API key alone; else the variable {KEY_VARIABLE}.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one call may take, tries included.")] = TIMEOUT_S,
) -> None:
    """Offer a server's tool search to an agent, as an MCP server on standard input and output."""
    key = _key(key_file)
    if sys.stdin.isatty():
        print("mcp: waiting for an MCP client on standard input (docs/agents.md); Ctrl-C ends it", file=sys.stderr)
    asyncio.run(_serve(AsyncToolSearch(url, key, timeout_s=timeout)))


async def _serve(search: AsyncToolSearch) -> None:
    server = make_server(lambda context: search, VERSION)
    async with search, stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def _key(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        key = file.read_text().strip()
    except OSError as error:
        raise InputError(f"--key-file={file}: {error.strerror}; name a file that holds the key alone") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--key-file={file}: is no text; name a file that holds the key alone") from error
    if not key or len(key.split()) > 1:
        raise InputError(f"--key-file={file}: must hold one key and nothing else, as `cohyde keys add` prints it")
    return key


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(command_app, "pipelines.mcp", arguments)


if __name__ == "__main__":
    sys.exit(main())
