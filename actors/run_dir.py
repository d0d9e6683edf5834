"""A finished or running run seen from its directory: its settings, where its snapshots stand, which release it holds.

Invariants: nothing here writes; a directory is a run's if it holds the resolved configuration.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pyarrow import fs as pafs

from actors.core.limits import Limits
from actors.core.snapshots import SnapshotStore, open_root
from actors.core.types import BASE_VERSION, InputError
from actors.releases import SERVED, Releases
from configs.load import load as load_config
from configs.schema import Config

CONFIG_FILE = "config.yaml"
"""The resolved configuration inside a run directory."""

RELEASE_FILE = "release.json"
"""The round that a run of rounds releases."""

RERANKER: Final = "reranker"
"""Kind of the snapshot of the rewriter turned round; a run has one, version 0."""

FROZEN = "frozen"


@dataclass(frozen=True)
class OpenedRelease:
    """Versions with their settings, ready to be loaded. ``store`` is None for the frozen models.

    ``name`` is what answers call it: the release's number, "round-N" of a run of rounds, or "frozen".
    """

    name: str
    config: Config
    store: SnapshotStore | None
    rewriter: int
    retriever: int
    fusion_weight: float
    limits: Limits = field(default_factory=Limits)
    rerank_weight: float = 0.0
    """Of the reranker's likelihood beside the cosine, fitted on dev; 0 reranks nothing."""
    memory_weight: float = 0.0
    """Of the nearness of labelled queries beside the cosine (``actors.memory``), fitted on dev; 0 recalls nothing."""
    named_follow: bool = False
    """Whether tools that a found tool's description names follow it (``actors.core.named``); where dev shows a gain."""


def open_release(text: str, name: str = "--release") -> OpenedRelease:
    """``frozen`` or ``RUN_DIR[@version]``: a number for rewriter and retriever; without it, what is served, or ``release.json``.

    ``name`` is what the user knows the value by. Raises InputError for a folder that is no run directory, one that has no release
    yet, or an unknown version.
    """
    if text == FROZEN:
        config = Config()
        config = config.model_copy(update={"encoder": config.encoder.uncut()})
        return OpenedRelease(FROZEN, config, None, BASE_VERSION, BASE_VERSION, config.retrieval.fusion_weight)
    folder, version = _parted(text)
    run_dir = Path(folder)
    if not (run_dir / CONFIG_FILE).is_file():
        raise InputError(f"{name} {text}: {run_dir} is not a run directory (no {CONFIG_FILE}); give one, or {FROZEN}")
    config = load_config(str(run_dir / CONFIG_FILE), [])
    storage = storage_root(config, run_dir)
    store = SnapshotStore(f"{storage}/snapshots")
    record = _released(run_dir, Releases(store, f"{storage}/releases"), int(version) if version else None)
    if version and config.encoder.frozen:
        record["retriever"] = BASE_VERSION
    if not record:
        raise InputError(f"{name} {text}: nothing was released there yet; name a version, as in {folder}@0")
    weight = float(record.get("fusion_weight", config.retrieval.fusion_weight))
    retriever, limits = int(record["retriever"]), Limits(**record.get("limits", {}))
    rerank_weight, memory_weight = float(record.get("rerank_weight", 0.0)), float(record.get("memory_weight", 0.0))
    rewriter = int(record["rewriter"])
    weights = (rerank_weight, memory_weight, bool(record.get("named_follow", False)))
    return OpenedRelease(_name(record), config, store, rewriter, retriever, weight, limits, *weights)


def _parted(text: str) -> tuple[str, str]:
    """Run directory and version; the version is empty where none is named."""
    found = re.fullmatch(r"(.*)@(-?\d+)", text, re.DOTALL)
    return (found[1], found[2]) if found else (text, "")


def _name(record: dict[str, Any]) -> str:
    if "number" in record:
        return str(record["number"])
    newest = max(record["rewriter"], record["retriever"])
    return FROZEN if newest == BASE_VERSION else f"round-{newest}"


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


def root_of(name: str, release: OpenedRelease) -> str:
    """``storage_root`` of the run whose release was opened by ``name``, RUN_DIR[@version]."""
    return storage_root(release.config, Path(_parted(name)[0]))


def storage_root(config: Config, run_dir: Path) -> str:
    """Where the run's snapshots, datasets and releases are: ``storage_path`` if set, else ``run_dir``."""
    return (config.storage_path or str(run_dir)).rstrip("/")


def releases_of(run_dir: str) -> Releases:
    """The releases of a run directory."""
    root = storage_root(_config_of(Path(run_dir)), Path(run_dir))
    return Releases(SnapshotStore(f"{root}/snapshots"), f"{root}/releases")


def stamp_of(run_dir: str) -> str:
    """Another text whenever the run directory may hold another release than before."""
    folder = Path(run_dir)
    config = _config_of(folder)
    fs, root = open_root(storage_root(config, folder))
    local, here = open_root(str(folder))
    infos = [*fs.get_file_info([f"{root}/releases/{SERVED}"]), *local.get_file_info([f"{here}/{RELEASE_FILE}"])]
    return " ".join(f"{info.mtime_ns}:{info.size}" if info.type == pafs.FileType.File else "-" for info in infos)


@lru_cache
def _config_of(folder: Path) -> Config:
    """A run's configuration never changes."""
    return load_config(str(folder / CONFIG_FILE), [])
