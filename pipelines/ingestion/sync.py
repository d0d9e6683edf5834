"""Brings a catalog folder, and a run that is served, to what the sources say now.

Invariants: every source is read and the plan is made before anything is written, so that one that fails leaves all as it was; a
text is embedded once, and only then does the catalog change; a run is told before the catalog says so, so that a sync that breaks
off is made good by the next.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from actors import catalog_file
from actors.catalog_file import Entry, Journal
from actors.core.fusion import Vectors
from actors.core.types import InputError
from actors.encoder import Encoder
from actors.interfaces import Progress
from actors.kept_vectors import BaseVectors
from actors.models import native_precision, resolve_encoder
from actors.run_dir import open_release, storage_root
from configs.schema import Config
from pipelines.ingestion import sources
from pipelines.ingestion.plan import Change, Plan, Read, make_plan, read_of
from pipelines.ingestion.sources import Wanted
from pipelines.ingestion.store import Record, Source, Store, entry_of_line

Watch = Callable[[str], Progress]
"""From what is being done to where its progress is told."""
JOURNAL_STEP = 2_000
"""Tools in one file of a run's journal."""


@dataclass(frozen=True)
class Reading:
    """What the sources said, and what follows from it for the tools that are ``stored``."""

    stored: dict[str, Record]
    wanted: tuple[Wanted, ...]
    read: dict[str, Read]
    plan: Plan
    notes: tuple[str, ...]
    dropped: frozenset[str] = frozenset()
    """Sources that the catalog forgets."""

    def after(self) -> list[Record]:
        """The tools of the catalog as it will be."""
        touched = self.plan.touched
        return [*(record for record in self.stored.values() if record.tool_id not in touched), *self.plan.upserts]


@dataclass(frozen=True)
class Told:
    """What a run was told."""

    upserts: int
    deletes: int


def read_sources(store: Store, texts: Sequence[str], watch: Watch) -> Reading:
    """Read the sources that ``texts`` name (all known ones where there is none) and make the plan. Writes nothing.

    Raises InputError for a source that is none or cannot be read, and where two claim one id.
    """
    wanted = sources.parse(texts, store.sources())
    if not wanted:
        raise InputError(f"catalog {store.folder}: knows no sources yet; name one, as shop=openapi:shop.yaml")
    read: dict[str, Read] = {}
    notes: list[str] = []
    for source in wanted:
        try:
            listing = sources.KINDS[source.kind](source.location, source.name, watch(f"Reading {source.name}"))
        except InputError as error:
            raise InputError(f"source {source.name}: {error}") from error
        # Its records are a tenth of a listing's size; of several listings one is held at a time.
        read[source.name] = read_of(source.name, listing.entries, listing.whole)
        notes += listing.notes
    stored = store.records()
    return Reading(stored, tuple(wanted), read, make_plan(stored, read), tuple(notes))


def read_dropped(store: Store, names: Sequence[str]) -> Reading:
    """Plan to forget sources with their tools. Writes nothing. Raises InputError for one that the catalog does not know."""
    known = store.sources()
    for name in names:
        if name not in known:
            raise InputError(f"SOURCE={name}: the catalog {store.folder} has no such source; it has {', '.join(known) or 'none'}")
    stored = store.records()
    removed = tuple(Change(t, f"{r.source} is dropped") for t, r in stored.items() if r.source in names)
    plan = Plan((), (), removed, len(stored) - len(removed), (), ())
    return Reading(stored, (), {}, plan, (), frozenset(names))


def embed(reading: Reading, watch: Watch) -> int:
    """Embed the texts of the catalog as it will be with the frozen base encoder; returns how many were not kept yet."""
    config = Config()
    model, precision = resolve_encoder(config.encoder.model), native_precision(config.precision)
    texts = [record.document for record in reading.after()]
    loaded: list[Encoder] = []

    def encode(part: Sequence[str], progress: Progress | None) -> Vectors:
        # Loading a model takes seconds, which a catalog that did not change need not wait for.
        loaded[:] = loaded or [Encoder(model, config.encoder, precision, os.cpu_count())]
        return loaded[0].encode_documents(part, progress)

    return BaseVectors(model, config.encoder.document_tokens, precision).add(texts, encode, watch("Embedding new texts"))


def tell_run(store: Store, plan: Plan, run_dir: str) -> Told:
    """Put into the catalog of a run what it lacks of ours, or has otherwise, and take out what the plan removes.

    Raises InputError for no run directory.
    """
    release = open_release(run_dir, "--run")
    if release.store is None:
        raise InputError(f"--run {run_dir}: the frozen models are no run; give a run directory")
    journal = Journal(f"{storage_root(release.config, Path(run_dir))}/serving/catalog")
    theirs = {entry.tool.tool_id: entry.content_hash for entry in catalog_file.read(release.store)}
    for tool_id, entry in journal.poll().items():
        if entry is None:
            theirs.pop(tool_id, None)
        else:
            theirs[tool_id] = entry.content_hash
    deletes = [change.tool_id for change in plan.removed if change.tool_id in theirs]
    touched = plan.touched
    waiting: list[Entry] = []
    told = 0

    def take(entry: Entry) -> None:
        nonlocal told
        if theirs.get(entry.tool.tool_id) != entry.content_hash:
            waiting.append(entry)
            told += 1
        if len(waiting) >= JOURNAL_STEP:
            journal.append(waiting, [])
            waiting.clear()

    for _, entry in store.entries():
        if entry.tool.tool_id not in touched:
            take(entry)
    for record in plan.upserts:
        take(entry_of_line(record.line))
    if waiting or deletes:
        journal.append(waiting, deletes)
    return Told(told, len(deletes))


def commit(store: Store, reading: Reading) -> None:
    """Write the plan into the folder; for the holder of its lock."""
    plan, known = reading.plan, {name: source for name, source in store.sources().items() if name not in reading.dropped}
    counts = Counter(record.source for record in reading.after())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for wanted in reading.wanted:
        listing = reading.read[wanted.name]
        # A source that listed nothing stays what it was; one that never listed anything is none.
        if listing.records:
            known[wanted.name] = Source(wanted.kind, wanted.location, now, 0, listing.whole)
    counted = {
        name: Source(source.kind, source.location, source.read, counts[name], source.whole) for name, source in known.items()
    }
    store.write(counted, plan.upserts, [change.tool_id for change in plan.removed])
