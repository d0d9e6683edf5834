"""What users found lately, from the process that reads the log to all that serve: one small file, replaced whole.

Invariants: a reader meets the old list or the new one, never a part; nothing in it lacks consent, and its texts are redacted.
Nothing is trained on it and no model is judged by it: the gate's tenth of the queries is in it, as it moves tools for users alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from pyarrow import fs as pafs

from actors.core.snapshots import open_root, read_text, write_text
from actors.core.types import Found, InputError

FILE = "found.json"
LABELS = "labels.json"
"""Labelled training queries in the same form, for ``actors.memory``: written once by the run that fitted its weight."""


def publish(root: str, found: Sequence[Found], file: str = FILE) -> None:
    """Replace the list below ``root``, a local path or a URI that ``pyarrow.fs`` knows."""
    fs, base = open_root(root)
    fs.create_dir(base, recursive=True)
    write_text(fs, f"{base}/{file}", json.dumps([asdict(one) for one in found]))


def stamp(root: str, file: str = FILE) -> str:
    """Another text whenever the list was replaced; empty where there is none."""
    fs, base = open_root(root)
    info = fs.get_file_info(f"{base}/{file}")
    return f"{info.mtime_ns} {info.size}" if info.type == pafs.FileType.File else ""


def read(root: str, file: str = FILE) -> list[Found]:
    """The newest list; empty where there is none."""
    if not stamp(root, file):
        return []
    fs, base = open_root(root)
    return [Found(r["tenant"], r["query"], tuple(r["tool_ids"])) for r in json.loads(read_text(fs, f"{base}/{file}"))]


def read_labels(root: str) -> list[Found]:
    """The labelled queries that a release with a memory answers by. Raises InputError where they are gone."""
    found = read(root, LABELS)
    if not found:
        raise InputError(f"{root}/{LABELS}: is missing or empty, and the release answers by it; restore it")
    return found


def forget(root: str, tenant: str) -> None:
    """Take what a tenant found off the list."""
    if stamp(root):
        publish(root, [one for one in read(root) if one.tenant != tenant])
