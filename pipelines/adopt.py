"""Version 0 of a run out of another run's release, in place of a warm start.

Invariants: the adopted weights are exactly those that served (an adapter is merged into the weights it was trained on); optimizers
start fresh; both runs start from the same pretrained models, or the pull towards the frozen base would pull elsewhere.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from actors.core.snapshots import MANIFEST, PIN, READY, SnapshotStore
from actors.core.types import BASE_VERSION, InputError
from actors.index import ENCODER_DIR
from actors.run_dir import FROZEN, RERANKER, OpenedRelease, open_release
from configs.schema import Config


def open_start(config: Config) -> OpenedRelease | None:
    """The release that ``loop.start_from`` names; None where it names none.

    Raises InputError as ``open_release`` does, for the frozen models (a warm start makes more of them), and where the release was
    trained from other pretrained models.
    """
    name = config.loop.start_from
    if name is None:
        return None
    if name == FROZEN:
        raise InputError(f"loop.start_from={FROZEN}: the frozen models are what a warm start begins with; leave it out")
    release = open_release(name, "loop.start_from")
    for part in ("encoder", "rewriter"):
        theirs, ours = getattr(release.config, part).model, getattr(config, part).model
        if theirs != ours:
            raise InputError(f"loop.start_from={name}: its {part}.model is {theirs} and this run's is {ours}; set it to {theirs}")
    theirs, ours = release.config.encoder.sides, config.encoder.sides
    if theirs != ours:
        raise InputError(
            f"loop.start_from={name}: its encoder.sides is {theirs} and this run's is {ours}, so queries would meet other vectors;"
            f" set it to {theirs}"
        )
    return release


def adopt_encoder(release: OpenedRelease, store: SnapshotStore) -> None:
    """Publish the release's encoder as version 0."""
    source = _store(release).fetch("retriever", release.retriever) / ENCODER_DIR
    store.publish("encoder", 0, lambda directory: copy_files(source, directory), {"adopted": release.retriever})


def adopt_rewriter(release: OpenedRelease, store: SnapshotStore, base_dir: Path) -> None:
    """Publish the release's rewriter as version 0: full weights."""
    theirs = _store(release)
    full = base_dir if release.rewriter == BASE_VERSION else theirs.fetch("rewriter", 0)
    adapter = theirs.fetch("rewriter", release.rewriter) if release.rewriter > 0 else None

    def write(directory: Path) -> None:
        if adapter is None:
            copy_files(full, directory)
        else:
            _merge(full, adapter, directory)

    store.publish("rewriter", 0, write, {"adopted": release.rewriter})


def adopt_reranker(release: OpenedRelease, store: SnapshotStore) -> None:
    """Publish the release's reranker, where it has one with a weight."""
    if release.rerank_weight:
        source = _store(release).fetch(RERANKER, 0)
        store.publish(RERANKER, 0, lambda directory: copy_files(source, directory), {"adopted": 0})


def copy_files(source: Path, directory: Path) -> None:
    """Copy what a snapshot holds, without the files that make it one."""
    for file in source.rglob("*"):
        if file.is_file() and file.name not in (READY, MANIFEST) and not file.name.startswith(PIN):
            target = directory / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)


def _merge(full: Path, adapter: Path, directory: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(full, dtype=torch.float32)
    merged: Any = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    merged.save_pretrained(directory)
    AutoTokenizer.from_pretrained(full).save_pretrained(directory)


def _store(release: OpenedRelease) -> SnapshotStore:
    if release.store is None:
        raise ValueError("the frozen models are no run's release")
    return release.store
