"""Commands on a file of API keys: ``cohyde keys add|list|revoke``.

Invariants: a secret goes to stdout, once, and nothing else does there, so that it can be piped into a vault; running servers follow
the file by themselves.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app import keys

SCOPE_HELP = f"What it may do: {', '.join(keys.SCOPES)} (all); may be repeated. Unless given: {', '.join(keys.DEFAULT_SCOPES)}."
WIDTH_WITHOUT_TERMINAL = 160

File = Annotated[Path, typer.Argument(metavar="FILE", help="The key file, which keys=FILE has a server read.")]

keys_app = typer.Typer(no_args_is_help=True, help="The API keys of a server.")


@keys_app.command("add")
def add(
    file: File,
    tenant: Annotated[str, typer.Option(help="Whose key it is; limits, the query log and its deletion go by it.")],
    scope: Annotated[list[str] | None, typer.Option(help=SCOPE_HELP)] = None,
    namespace: Annotated[list[str] | None, typer.Option(help="See the tools of this namespace alone; may be repeated.")] = None,
    no_training: Annotated[bool, typer.Option("--no-training", help="Store no queries of it and learn nothing from it.")] = False,
) -> None:
    """Make a key; its secret is printed here and never again."""
    scopes = scope or keys.DEFAULT_SCOPES
    id, secret = keys.add(file, tenant, scopes, namespace or None, train_on=not no_training)
    print(f"key {id} of {tenant} may {', '.join(scopes)}; its secret, which is kept nowhere:", file=sys.stderr)
    print(secret)


@keys_app.command("list")
def list_keys(file: File) -> None:
    """All keys, oldest first; secrets cannot be shown."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("id", "tenant", "scopes", "namespaces", "training", "created"):
        table.add_column(name)
    for key in keys.listed(file):
        namespaces = "all" if key.namespaces is None else ", ".join(key.namespaces)
        created = datetime.fromtimestamp(key.created, UTC).strftime("%Y-%m-%d %H:%M:%S")
        row = (key.id, key.tenant, ", ".join(key.scopes), namespaces, "yes" if key.train_on else "no", created)
        table.add_row(*map(escape, row))
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)).print(table)


@keys_app.command("revoke")
def revoke(file: File, id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as the list shows it.")]) -> None:
    """Refuse a key from now on."""
    keys.revoke(file, id)
    print(f"key {id} is revoked; running servers refuse it within seconds")
