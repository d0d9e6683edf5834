"""A run directory of models that nobody trained: what is served where there is no release yet.

Invariants: the encoder is the published one, texts cut at its own maximum but where a caller says otherwise; rewrites have no
weight; limits are fitted on dev; a directory that is complete is used again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from actors import catalog_file
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, LABELLED_KINDS, InputError
from actors.index_builder import IndexBuilder
from actors.interfaces import Progress
from actors.models import native_precision, resolve_encoder
from actors.run_dir import CONFIG_FILE, FROZEN, RELEASE_FILE, open_release
from actors.scorer import Scorer
from configs.load import save
from configs.schema import CatalogConfig, Config
from pipelines import catalogs
from pipelines.catalogs import synced
from pipelines.files import write_json
from pipelines.ingestion import sync
from pipelines.ingestion.plan import Plan
from pipelines.ingestion.store import Store

FROZEN_RUN = "runs/frozen"
"""Where the frozen models are prepared; those of a catalog folder in a directory of its own beside it."""

Watch = Callable[[str], Progress]
"""From what is being done to where its progress is told."""


def prepare_frozen(
    run_dir: Path, source: str, services: Literal["demo", "all"], watch: Watch, document_tokens: int | None = None
) -> Path:
    """Make ``run_dir`` (or take it as it is), with the frozen encoder's index of the catalog; return it.

    Documents are cut at ``document_tokens``, else at the encoder's own maximum.
    """
    if (run_dir / RELEASE_FILE).is_file():
        return run_dir
    own = {"run_dir": str(run_dir), "catalog": CatalogConfig(source=source, services=services)}
    config = open_release(FROZEN).config.model_copy(update=own)
    if document_tokens is not None:
        config = config.model_copy(update={"encoder": config.encoder.model_copy(update={"document_tokens": document_tokens})})
    corpus = catalogs.load(config.catalog, config.seed)
    store = SnapshotStore(str(run_dir / "snapshots"))
    catalog_file.publish(store, corpus.catalog, synced.entries(source, corpus.catalog))
    base = resolve_encoder(config.encoder.model)
    precision, threads = native_precision(config.precision), os.cpu_count() or 1
    builder = IndexBuilder(config.encoder, corpus.catalog, precision, threads, base)
    store.publish(
        "retriever",
        BASE_VERSION,
        lambda directory: _ignore(builder.build(base, directory, watch(f"Embedding {len(corpus.catalog.tools)} tools"))),
        {"parents": {"encoder": BASE_VERSION}},
    )
    save(config, run_dir / CONFIG_FILE)
    scorer = Scorer(config, corpus.catalog, precision, threads)
    scorer.load(store.fetch("retriever", BASE_VERSION), BASE_VERSION)
    limits = scorer.limits(corpus.select("dev", LABELLED_KINDS), None, 0.0)
    versions = {"rewriter": BASE_VERSION, "retriever": BASE_VERSION, "catalog": corpus.catalog.catalog_hash}
    write_json(run_dir / RELEASE_FILE, {**versions, "fusion_weight": 0.0, "limits": asdict(limits)})
    return run_dir


def catalog_run(folder: Path) -> Path:
    """Where the frozen models of a synced catalog folder are prepared."""
    return Path(f"{FROZEN_RUN}-{folder.expanduser().resolve().name}")


def prepare_catalog(folder: Path, watch: Watch) -> Path:
    """The frozen models' run of a synced catalog folder, made where there is none; what it lacks of the folder's tools is put in.

    Raises InputError for a folder without tools, and where another folder of that name has the run.
    """
    run_dir, source = catalog_run(folder), f"{synced.KIND}:{folder.expanduser().resolve()}"
    if (run_dir / RELEASE_FILE).is_file():
        theirs = open_release(str(run_dir)).config.catalog.source
        if theirs != source:
            raise InputError(f"--catalog {folder}: {run_dir} serves {theirs}; rename the folder, or remove {run_dir}")
        nothing_removed = Plan((), (), (), 0, (), ())
        sync.tell_run(Store(folder), nothing_removed, str(run_dir))
    # Cut as a sync cuts, so that the vectors that it made are found.
    return prepare_frozen(run_dir, source, "all", watch, Config().encoder.document_tokens)


def ensure_catalog(run_dir: str) -> None:
    """Put the catalog of a run into its directory where the run has not done so itself. Raises InputError for no run directory."""
    release = open_release(run_dir, "--run")
    if release.store is not None and not release.store.has(catalog_file.KIND, catalog_file.VERSION):
        catalog = catalogs.load(release.config.catalog, release.config.seed).catalog
        catalog_file.publish(release.store, catalog, synced.entries(release.config.catalog.source, catalog))


def _ignore(_: Any) -> None:
    """A snapshot's writer returns nothing."""
