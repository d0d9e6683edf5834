"""What the command ``cohyde`` runs: the command line, or what of it an installation without models can do.

Invariant: ``cohyde mcp`` imports nothing but what ``cohyde[mcp]`` brings, so that an agent's machine needs no more.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line on the process's arguments; returns the exit code."""
    extra = "mcp" if sys.argv[1:2] == ["mcp"] else "cpu"
    try:
        if extra == "mcp":
            from pipelines import mcp as command
        else:
            from pipelines import cli as command
    except ModuleNotFoundError as error:
        print(f"cohyde: {error.name} is not installed; run: pip install 'cohyde[{extra}]'", file=sys.stderr)
        return 2
    return command.main(sys.argv[2:]) if extra == "mcp" else command.main()
