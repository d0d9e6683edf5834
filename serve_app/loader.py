"""Makes views: a release's encoder and vectors over the catalog as it is now, with what users found.

Invariants: a view is whole before anyone sees it; a tool's text is embedded once for an encoder, however often it is served
(vectors are kept by the text's hash beside the run); a release that cannot be loaded raises and leaves everything as it was. Used
by one thread at a time.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from actors import catalog_file, found, onnx_encoder
from actors.catalog_file import Entry, Journal
from actors.core import familiarity
from actors.core.fusion import Vectors
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, Found, InputError
from actors.index import ENCODER_DIR, DenseIndex, familiar_from
from actors.kept_vectors import VectorFiles, text_hash
from actors.memory import Memory
from actors.models import cache_dir, resolve_encoder
from actors.onnx_encoder import OnnxEncoder
from actors.retriever import TextEncoder, moved_by
from actors.run_dir import OpenedRelease, open_release, storage_root
from configs.serving import ServingConfig
from serve_app.view import View

EXPORT_TIMEOUT_S = 600
EXPORTS_KEPT = 8


@dataclass(frozen=True)
class Model:
    """A loaded retriever: its encoder, its own index, and what was embedded with it since."""

    version: int
    encoder: TextEncoder
    frozen: TextEncoder | None
    """The base model's, where queries alone were trained: it embeds what is new in the catalog, and queries that find it unlike all
    that the training knew."""
    familiar_from: float
    index: DenseIndex
    texts: dict[str, str]
    """Tool id -> hash of the text that ``index`` holds for it."""
    extra: dict[str, Vectors]
    """Vectors of texts that its run did not embed, by their hash."""
    queries: dict[str, Vectors] = field(default_factory=dict)
    """Vectors of the queries that users found tools by."""
    memory: Memory | None = None
    unfamiliar: dict[str, bool] = field(default_factory=dict)
    """Of texts that its run did not embed, by their hash."""


class Loader:
    """Reads a run directory, the journal of its catalog and what users found; keeps the newest model loaded."""

    def __init__(self, settings: ServingConfig) -> None:
        """Open the run. Raises InputError where it is none, or holds no catalog."""
        self._settings = settings
        first = open_release(settings.run, "run")
        if first.store is None:
            raise InputError(f"run={settings.run}: the frozen models are no run; `cohyde serve` makes one of them")
        self.store: SnapshotStore = first.store
        self.root = storage_root(first.config, Path(settings.run))
        self.journal = Journal(f"{self.root}/serving/catalog")
        self.entries: dict[str, Entry] = {entry.tool.tool_id: entry for entry in catalog_file.read(self.store)}
        self._own_texts = {tool_id: text_hash(entry.tool.document) for tool_id, entry in self.entries.items()}
        self._touched: set[str] = set()
        self._found: list[Found] = []
        self._found_stamp = ""
        self._model: Model | None = None
        self.embedded = 0
        """Tools embedded since the start."""
        self.poll()

    def poll(self) -> bool:
        """Take in what changed in the catalog and in what users found; whether anything did."""
        changes = self.journal.poll()
        for tool_id, entry in changes.items():
            self._touched.add(tool_id)
            if entry is None:
                self.entries.pop(tool_id, None)
            else:
                self.entries[tool_id] = entry
        stamp = found.stamp(self.root)
        newer = stamp != self._found_stamp
        if newer:
            self._found, self._found_stamp = found.read(self.root), stamp
        return bool(changes) or newer

    def view(self, release: OpenedRelease) -> View:
        """The release over everything that is known now. Raises InputError for a snapshot that is damaged or not there."""
        model = self._model
        if model is None or model.version != release.retriever or (release.memory_weight and model.memory is None):
            model = self._load(release)
        view = self._assemble(release, model)
        self._model = model
        return view

    def _assemble(self, release: OpenedRelease, model: Model) -> View:
        place = {tool_id: row for row, tool_id in enumerate(model.index.tool_ids)}
        fresh = self._vectors(model, [t for t in self._touched if t in self.entries])

        def vector_of(tool_id: str) -> Vectors | None:
            if tool_id in fresh:
                return fresh[tool_id]
            return model.index.rows([place[tool_id]])[0] if tool_id in self.entries and tool_id in place else None

        def embed(queries: Sequence[str]) -> Vectors:
            if missing := [q for q in dict.fromkeys(queries) if q not in model.queries]:
                model.queries.update(zip(missing, model.encoder.encode_queries(missing), strict=True))
            return np.stack([model.queries[q] for q in queries])

        moved = moved_by(vector_of, self._found, release.config.stream.feedback_weight, embed)
        changed = {**fresh, **moved}
        gone = [place[t] for t in {*changed, *self._touched} if t in place]
        index = model.index
        if changed or gone:
            width = model.index.vectors.shape[1]
            vectors = np.stack(list(changed.values())) if changed else np.zeros((0, width), dtype=np.float32)
            index = model.index.changed(gone, list(changed), vectors)
        unfamiliar = self._unfamiliar(model, fresh)
        return View(release, model.encoder, index, dict(self.entries), frozenset(moved), model.memory, model.frozen, unfamiliar)

    def _unfamiliar(self, model: Model, fresh: Mapping[str, Vectors]) -> frozenset[str]:
        """Those of the ``fresh`` tools that are unlike all that the encoder was trained among."""
        if model.frozen is None:
            return frozenset()
        hashes = {t: text_hash(self.entries[t].tool.document) for t in fresh}
        missing = {digest: t for t, digest in hashes.items() if digest not in model.unfamiliar}
        if missing:
            vectors = np.stack([fresh[t] for t in missing.values()])
            trained = model.index.rows(np.arange(len(model.index.tool_ids)))
            found = familiarity.unfamiliar(vectors, trained, model.familiar_from).tolist()
            model.unfamiliar.update(zip(missing, found, strict=True))
        return frozenset(t for t, digest in hashes.items() if model.unfamiliar[digest])

    def _vectors(self, model: Model, tool_ids: Sequence[str]) -> dict[str, Vectors]:
        """Tool id -> vector of each; what this encoder never embedded is embedded now, and kept."""
        hashes = {t: text_hash(self.entries[t].tool.document) for t in tool_ids}
        place = {tool_id: row for row, tool_id in enumerate(model.index.tool_ids)}
        own = {t for t, digest in hashes.items() if model.texts.get(t) == digest}
        missing = {digest: t for t, digest in hashes.items() if t not in own and digest not in model.extra}
        if missing:
            made = (model.frozen or model.encoder).encode_documents([self.entries[t].tool.document for t in missing.values()])
            new = dict(zip(missing, made, strict=True))
            model.extra.update(new)
            self.embedded += len(new)
            self._kept(model.version).add(new)
        return {t: model.index.rows([place[t]])[0] if t in own else model.extra[hashes[t]] for t in tool_ids}

    def _load(self, release: OpenedRelease) -> Model:
        assert release.store is not None
        directory = release.store.fetch("retriever", release.retriever)
        encoder, frozen, least = self._encoder(directory / ENCODER_DIR, release), None, -1.0
        settings = release.config.encoder
        if settings.sides == "queries" and release.retriever != BASE_VERSION:
            uncut = release.config.model_copy(update={"encoder": settings.uncut()})
            frozen = self._encoder(resolve_encoder(settings.model), replace(release, config=uncut))
            least = familiar_from(directory)
        index = DenseIndex.load(directory, half=True)
        if set(index.tool_ids) != set(self._own_texts):
            raise InputError(f"{directory}: its tools are not those of the run's catalog; run the run's own command again")
        kept = self._kept(release.retriever).read()
        memory = self._memory(release.retriever, encoder, kept) if release.memory_weight else None
        return Model(release.retriever, encoder, frozen, least, index, self._own_texts, kept, memory=memory)

    def _memory(self, retriever: int, encoder: TextEncoder, kept: Mapping[str, Vectors]) -> Memory:
        """The run's labelled queries; their vectors are made once for each retriever, and kept."""

        def embed(texts: Sequence[str]) -> Vectors:
            hashes = [text_hash(f"query {text}") for text in texts]
            missing = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in kept}
            made = dict(zip(missing, encoder.encode_queries(list(missing.values())), strict=True)) if missing else {}
            if made:
                self._kept(retriever).add(made)
            return np.stack([made[digest] if digest in made else kept[digest] for digest in hashes])

        return Memory(found.read_labels(self.root), embed)

    def _kept(self, retriever: int) -> VectorFiles:
        """Vectors of texts by one retriever's encoder, beside the run."""
        return VectorFiles(f"{self.root}/serving/vectors/{retriever}")

    def _encoder(self, source: Path, release: OpenedRelease) -> TextEncoder:
        """The encoder for serving, exported once on this machine and kept by what its weights and the exporting code hash to."""
        digest = hashlib.sha256(Path(onnx_encoder.__file__).read_bytes())
        for file in sorted(p for p in source.rglob("*") if p.is_file()):
            digest.update(file.name.encode() + file.read_bytes())
        directory = cache_dir() / "serving" / digest.hexdigest()[:24]
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{directory}.lock", timeout=EXPORT_TIMEOUT_S):
            if not directory.is_dir():
                _export(source, directory)
            os.utime(directory)
        _prune(directory.parent)
        return OnnxEncoder(directory, release.config.encoder, threads=1)


def _export(source: Path, directory: Path) -> None:
    """In a process of its own, which gives way to searches and gives torch's memory back."""
    staging = directory.with_name(f".{directory.name}.{os.getpid()}")
    command = [sys.executable, "-m", "actors.onnx_encoder", str(source), str(staging)]
    done = subprocess.run(["nice", "-n", "10", *command], capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no word of why"]
        raise InputError(f"encoder {source}: its export for serving failed: {last[0]}")
    staging.rename(directory)


def _prune(folder: Path) -> None:
    """Exports are made anew where they are needed again."""
    kept = sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: -p.stat().st_mtime)
    for old in kept[EXPORTS_KEPT:]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
