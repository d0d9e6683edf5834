"""Keeps a replica's view up with the run: new releases, changes of the catalog, what users found.

Invariants: the view is replaced by one assignment, after the new one is whole and was tried; what cannot be loaded is refused with
its reason and the old view stays; all loading is done by one thread at a time, under a lock, never by the event loop.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from actors.catalog_file import Entry
from actors.core.types import InputError
from actors.run_dir import OpenedRelease, open_release, stamp_of
from configs.serving import ServingConfig
from serve_app.loader import Loader
from serve_app.view import Ask, View

logger = logging.getLogger(__name__)
AGAIN_AFTER_S = 30.0
"""A release that was refused is tried again after this long."""
PROBE = "create a new thing"


@dataclass(frozen=True)
class Change:
    """What a change of the catalog did."""

    changed: int
    deleted: int
    unchanged: int
    embedded: int


class Watcher:
    """Owns the loader; tells ``on_view`` of each new view."""

    def __init__(self, settings: ServingConfig, on_view: Callable[[View], None], prepare: Callable[[int], None]) -> None:
        """Load the release that is served now. ``prepare`` has the rewriter load a version; it may take its time.

        Raises InputError for a run that has none, or one that cannot be loaded.
        """
        self._settings, self._on_view, self._prepare = settings, on_view, prepare
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._loader = Loader(settings)
        self._stamp = stamp_of(settings.run)
        self._release = open_release(settings.run, "run")
        self._tried = 0.0
        self._behind = False
        self.refused = ""
        """Why the newest release is not served; empty where it is."""
        self.view = self._made(self._release)
        gc.freeze()

    def start(self) -> None:
        """Look for news from now on, in a thread of its own."""
        threading.Thread(target=self._watch, name="watcher", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def look(self) -> None:
        """Take in what is new."""
        with self._lock:
            stamp = stamp_of(self._settings.run)
            again = bool(self.refused) and time.monotonic() - self._tried > AGAIN_AFTER_S
            if stamp != self._stamp or again:
                self._stamp = stamp
                self._take_release()
            # Kept until a view shows it: what was read once is not read again where making the view failed.
            self._behind |= self._loader.poll()
            if self._behind:
                self._replace(self._made(self._release))
                self._behind = False
                self._loader.journal.compact(self._loader.entries)

    def change(self, upserts: Iterable[Entry], deletes: Iterable[str]) -> Change:
        """Change the catalog: durable, and in this replica's view, when it returns."""
        with self._lock:
            self.look()
            known, before = self._loader.entries, self._loader.embedded
            wanted = list({entry.tool.tool_id: entry for entry in upserts}.values())
            new = [entry for entry in wanted if known.get(entry.tool.tool_id) != entry]
            gone = [tool_id for tool_id in dict.fromkeys(deletes) if tool_id in known]
            if new or gone:
                self._loader.journal.append(new, gone)
                self.look()
            return Change(len(new), len(gone), len(wanted) - len(new), self._loader.embedded - before)

    def candidate(self, number: int) -> View:
        """A release that is not served, over the same catalog as it is now. Raises InputError where it cannot be loaded."""
        return Loader(self._settings).view(open_release(f"{self._settings.run}@{number}", "shadow.release"))

    def _watch(self) -> None:
        while not self._stopped.wait(self._settings.look_every_s):
            try:
                self.look()
            except Exception:
                # A file system that is away for a moment must not end the watching.
                logger.exception("looking for news failed; the view stays as it is")

    def _take_release(self) -> None:
        self._tried = time.monotonic()
        try:
            release = open_release(self._settings.run, "run")
            view = self._made(release)
        except (InputError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            self.refused = f"the newest release is refused: {error}"
            logger.error("%s; release %s goes on answering", self.refused, self._release.name)
            return
        self.refused = ""
        self._release = release
        self._replace(view)
        logger.info("release %s is served: rewriter %d, retriever %d", release.name, release.rewriter, release.retriever)

    def _made(self, release: OpenedRelease) -> View:
        """The view, with everything made that its first search would have to wait for."""
        view = self._loader.view(release)
        view.rank([Ask(PROBE, 1)])
        _ = view.by_name, view.by_namespace
        self._prepare(release.rewriter)
        return view

    def _replace(self, view: View) -> None:
        old, self.view = self.view, view
        # A catalog is a hundred thousand objects that live long: the collector must not walk them during searches.
        gc.freeze()
        words = bool(old.words)
        if words:
            view.words[:] = old.words
        self._on_view(view)
        if words:
            view.renew_words()
