"""What all commands share: arguments in, exit code out.

Invariants: what the user got wrong is one line on stderr and exit code 2, whichever command it was; other failures propagate.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from configs.errors import InputError


def run_app(app: typer.Typer, program: str, arguments: Sequence[str] | None = None) -> int:
    """Run ``app`` on ``arguments`` (None: the process's own); returns the exit code.

    ``program`` is its name in help, and without its package in messages.
    """
    name = program.removeprefix("pipelines.")
    command_line = None if arguments is None else list(arguments)
    try:
        code = typer.main.get_command(app).main(args=command_line, prog_name=program, standalone_mode=False)
    except typer.exceptions.TyperException as error:
        message = str(getattr(error, "format_message", error.__str__)())
        print(f"{name}: {' '.join(message.split())} See --help.", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0
