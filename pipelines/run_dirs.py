"""Run directories: whose they are, where their snapshots stand, which release they hold.

Invariants: nothing here writes; a directory is a run's if it holds the resolved configuration.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, InputError
from actors.releases import Releases
from configs.load import load as load_config
from configs.schema import Config

CONFIG_FILE = "config.yaml"
"""The resolved configuration inside a run directory."""

RELEASE_FILE = "release.json"
"""The round that a run of rounds releases."""

OURS = ("logs", ".lock")
"""What stands in a run directory before its configuration does."""

FREE_FIELDS = ("run_dir", "placement.", "loop.stage_timeout_s", "loop.stall_timeout_s", "loop.max_failures")
"""Fields that may differ when a run is resumed: where and how patiently it runs, not what it computes."""

FROZEN = "frozen"
_UNCUT = 1_000_000


@dataclass(frozen=True)
class OpenedRelease:
    """Versions with their settings, ready to be loaded. ``store`` is None for the frozen models."""

    config: Config
    store: SnapshotStore | None
    rewriter: int
    retriever: int
    fusion_weight: float


def open_release(text: str, name: str = "--release") -> OpenedRelease:
    """``frozen`` or ``RUN_DIR[@version]``: a number for rewriter and retriever; without it, what is served, or ``release.json``.

    ``name`` is what the user knows the value by. Raises InputError for a folder that is no run directory, one that has no release
    yet, or an unknown version.
    """
    if text == FROZEN:
        config = Config()
        uncut = config.encoder.model_copy(update={"query_tokens": _UNCUT, "document_tokens": _UNCUT})
        config = config.model_copy(update={"encoder": uncut})
        return OpenedRelease(config, None, BASE_VERSION, BASE_VERSION, config.retrieval.fusion_weight)
    folder, at, version = text.rpartition("@") if re.search(r"@-?\d+$", text) else (text, "", "")
    run_dir = Path(folder)
    if not (run_dir / CONFIG_FILE).is_file():
        raise InputError(f"{name} {text}: {run_dir} is not a run directory (no {CONFIG_FILE}); give one, or {FROZEN}")
    config = load_config(str(run_dir / CONFIG_FILE), [])
    storage = storage_root(config, run_dir)
    store = SnapshotStore(f"{storage}/snapshots")
    record = _released(run_dir, Releases(store, f"{storage}/releases"), int(version) if at else None)
    if not record:
        raise InputError(f"{name} {text}: nothing was released there yet; name a version, as in {folder}@0")
    weight = float(record.get("fusion_weight", config.retrieval.fusion_weight))
    return OpenedRelease(config, store, int(record["rewriter"]), int(record["retriever"]), weight)


def _released(run_dir: Path, releases: Releases, version: int | None) -> dict[str, Any]:
    """The record of a release: of a version, of what is served, or of the round that a run of rounds chose; empty if none."""
    path = run_dir / RELEASE_FILE
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    served = releases.served()
    if version is None:
        return asdict(releases.get(served.number)) if served else record
    if version in releases.numbers():
        return asdict(releases.get(version))
    return record | {"rewriter": version, "retriever": version}


def storage_root(config: Config, run_dir: Path) -> str:
    """Where the run's snapshots, datasets and releases are: ``storage_path`` if set, else ``run_dir``."""
    return (config.storage_path or str(run_dir)).rstrip("/")


def check_run_dir(run_dir: Path, config: Config) -> bool:
    """Whether ``run_dir`` holds an earlier part of this very run (then it is resumed); False where it is new or empty.

    Raises ``InputError`` where it holds the run of another config (naming the first fields that differ) or something else.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"run_dir={run_dir}: not a directory; choose another run_dir")
    saved_file = run_dir / CONFIG_FILE
    if not saved_file.exists():
        if run_dir.exists() and any(entry.name not in OURS for entry in run_dir.iterdir()):
            raise InputError(f"run_dir={run_dir}: not empty and not a run (no {CONFIG_FILE}); choose another run_dir")
        return False
    try:
        loaded = yaml.safe_load(saved_file.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"run_dir={run_dir}: {CONFIG_FILE} cannot be read; choose another run_dir") from error
    saved, wanted = _flat(loaded), _flat(config.model_dump(mode="json"))
    differing = [
        f"{name} is {saved.get(name)!r} there and {wanted.get(name)!r} here"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name) and not name.startswith(FREE_FIELDS)
    ]
    if differing:
        more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
        raise InputError(
            f"run_dir={run_dir} holds the run of another config: {'; '.join(differing[:3])}{more};"
            " choose another run_dir, or repeat the old settings to resume it"
        )
    return True


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat
