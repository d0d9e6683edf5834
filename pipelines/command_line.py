"""What all commands share: arguments in, exit code out, the libraries' talk to a file.

Invariants: what the user got wrong is one line on stderr and exit code 2, whichever command it was; other failures propagate.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

import typer

from configs.errors import InputError

LOG_BYTES, LOGS_KEPT = 20_000_000, 2
"""A run may have no end; its log must."""


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


def library_logs(directory: Path) -> None:
    """Send what libraries log or warn to ``driver.log`` in ``directory``; silence their bars."""
    directory.mkdir(parents=True, exist_ok=True)
    os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
    file = RotatingFileHandler(directory / "driver.log", maxBytes=LOG_BYTES, backupCount=LOGS_KEPT)
    # Ray Data logs at DEBUG whatever the root's level is.
    file.setLevel(logging.INFO)
    logging.basicConfig(handlers=[file], level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    # Ray's native code writes to the descriptor itself; what Python prints still reaches the user.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with (directory / "driver.log").open("a") as log:
        os.dup2(log.fileno(), 2)
