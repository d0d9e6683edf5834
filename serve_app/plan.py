"""What serving starts, told before it is started: deployments with their share of the cluster, and where everything is read.

Invariants: starts and writes nothing, imports no ray; whatever would keep a replica from starting is an ``InputError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors import catalog_file, found
from actors.core.types import InputError
from actors.run_dir import RERANKER, OpenedRelease, storage_root
from configs.serving import ServingConfig
from serve_app.keys import KeyRing

QUERY_LOG = "query-log"
"""In the run directory, where no other directory is named."""


@dataclass(frozen=True)
class Deployed:
    """One deployment; ``cpus`` (logical), ``threads`` and ``memory_gb`` are each replica's."""

    name: str
    replicas: int
    cpus: float
    threads: int
    memory_gb: float


def deployments(settings: ServingConfig, release: OpenedRelease) -> list[Deployed]:
    """Those that serve ``release``, the ingress first."""
    made = [Deployed("Search", settings.replicas, settings.cpus, settings.threads, settings.memory_gb)]
    # What training gave the same model is what it takes here.
    model = (settings.rewriter_cpus, settings.rewriter_threads, release.config.placement.rewriter.memory_gb)
    if settings.rewriter_replicas:
        made.append(Deployed("Rewriter", settings.rewriter_replicas, *model))
    if reads(settings, release):
        made.append(Deployed("Reranker", settings.reranker_replicas, *model))
    return made


def cpus(plan: Sequence[Deployed]) -> float:
    """Logical CPUs that all replicas together ask for."""
    return sum(one.replicas * one.cpus for one in plan)


def reads(settings: ServingConfig, release: OpenedRelease) -> bool:
    """Whether there is a reranker to serve, and one is wanted."""
    return bool(settings.reranker_replicas and release.store is not None and release.store.has(RERANKER, 0))


def query_log(settings: ServingConfig) -> Path:
    """The directory that searches and feedback are written to."""
    return Path(settings.query_log) if settings.query_log else Path(settings.run) / QUERY_LOG


def told(settings: ServingConfig, release: OpenedRelease) -> list[str]:
    """The plan, line by line. Raises InputError where the replicas would not start with these settings."""
    _check(settings, release)
    plan = deployments(settings, release)
    return [*_table(plan), *_places(settings, release)]


def _check(settings: ServingConfig, release: OpenedRelease) -> None:
    store = release.store
    if store is None:
        raise InputError(f"run={settings.run}: the frozen models are no run; `cohyde serve` makes one of them")
    for kind, version in ((catalog_file.KIND, catalog_file.VERSION), ("retriever", release.retriever)):
        if not store.has(kind, version):
            raise InputError(f"run={settings.run}: {store.root} holds no {kind} {version}; run the run's own command again")
    if release.memory_weight:
        found.read_labels(storage_root(release.config, Path(settings.run)))
    if settings.keys:
        KeyRing(settings.keys)
    log = query_log(settings)
    if log.exists() and not log.is_dir():
        raise InputError(f"query_log={log}: not a directory; name the directory of the query log")


def _table(plan: Sequence[Deployed]) -> list[str]:
    lines = [
        f"  {one.name:<9} {one.replicas:3d} replicas, each {one.cpus:4.1f} CPUs {one.threads:3d} threads {one.memory_gb:5.1f} GB"
        for one in plan
    ]
    memory = sum(one.replicas * one.memory_gb for one in plan)
    return [*lines, f"  {'sum':<9} {cpus(plan):.1f} CPUs (logical), {memory:.1f} GB"]


def _places(settings: ServingConfig, release: OpenedRelease) -> list[str]:
    """Where each thing is, and whether it may be in an object store."""
    storage = storage_root(release.config, Path(settings.run))
    asked = f"keys: {settings.keys}" if settings.keys else "keys: none, so only clients of this machine are answered"
    return [
        f"run directory, a file system that all replicas share: {settings.run}",
        f"snapshots, releases, catalog journal, vectors (a file system or an object store): {storage}",
        f"query log, a file system: {query_log(settings)}",
        asked,
    ]
