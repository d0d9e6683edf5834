"""Requests to forget a tenant: written by a command, followed by the intake of the run.

Invariants: a request is a file of its own and stays, so a run that is started again from an older commit follows it again.
"""

from __future__ import annotations

import hashlib
import json

from pyarrow import fs as pafs

from actors.core.snapshots import open_root, read_text, write_text

FOLDER = "forget"


def request(root: str, tenant: str, now: float) -> None:
    """Ask that everything of ``tenant`` up to ``now`` be forgotten; asked again, the later time counts."""
    fs, base = open_root(root)
    fs.create_dir(f"{base}/{FOLDER}", recursive=True)
    name = hashlib.sha256(tenant.encode()).hexdigest()[:16]
    write_text(fs, f"{base}/{FOLDER}/{name}.json", json.dumps({"tenant": tenant, "until": now}))


def requests(root: str) -> dict[str, float]:
    """Tenant -> the time (seconds since the epoch) up to which everything is to be forgotten."""
    fs, base = open_root(root)
    infos = fs.get_file_info(pafs.FileSelector(f"{base}/{FOLDER}", allow_not_found=True))
    records = [json.loads(read_text(fs, info.path)) for info in infos if info.base_name.endswith(".json")]
    return {record["tenant"]: record["until"] for record in records}
