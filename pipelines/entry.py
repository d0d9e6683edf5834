"""What the command ``cohyde`` runs: the command line, or what of it an installation without models can do.

Invariant: ``cohyde mcp`` imports nothing but what ``cohyde[mcp]`` brings, so that an agent's machine needs no more.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line on the process's arguments; returns the exit code."""
    arguments, extra = sys.argv[1:], "cpu"
    try:
        if arguments[:1] == ["mcp"]:
            arguments, extra = arguments[1:], "mcp"
            from pipelines.mcp import main as run
        else:
            from pipelines.cli import main as run
    except ModuleNotFoundError as error:
        print(f"cohyde: {error.name} is not installed; run: pip install 'cohyde[{extra}]'", file=sys.stderr)
        return 2
    return run(arguments)
