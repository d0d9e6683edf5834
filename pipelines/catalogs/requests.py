"""Requests of any kind, to no catalog in particular: what an encoder rehearses while it learns one catalog.

Invariants: no benchmark's query is among them; they are never asked for tools, and no tool is right for one.
"""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parent / "data" / "requests" / "requests.txt"


def of_any_kind() -> list[str]:
    """The requests, in the file's order."""
    return FILE.read_text("utf-8").splitlines()
