"""Releases: which versions serve together, which of them is served, and who decided what when.

Invariants: a release never changes once it is added; one file says what is served, and it is replaced by one write; every decision
is kept for ever, in a file of its own; the snapshots of every release that was ever promoted stay, so a rollback finds them.
Layout: ``STORE/release/N`` (a snapshot), ``ROOT/served.json``, ``ROOT/audit/NNNNNN-ID.json``.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pyarrow import fs as pafs

from actors.core.snapshots import SnapshotStore, open_root, read_text, write_text
from actors.core.types import InputError

KIND = "release"
FILE = "release.json"
SERVED = "served.json"
Action = Literal["promoted", "kept", "rolled back", "pinned", "unpinned"]


@dataclass(frozen=True, slots=True)
class Release:
    """What serves as one. ``number`` counts candidates from 0; ``figures`` is what the gate saw (slice -> nDCG@5).

    ``limits`` are the fields of ``actors.core.limits.Limits``.
    """

    number: int
    rewriter: int
    retriever: int
    catalog: str
    fusion_weight: float
    figures: dict[str, float]
    limits: dict[str, float] = field(default_factory=dict)
    rerank_weight: float = 0.0
    memory_weight: float = 0.0
    named_follow: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """What is served. ``pinned``: no candidate takes over until it is unpinned."""

    number: int
    pinned: bool
    since: float


class Releases:
    """The releases of a run. Decisions have one writer at a time; readers need no lock."""

    def __init__(self, store: SnapshotStore, root: str) -> None:
        """``root`` is a local path or a URI that ``pyarrow.fs`` knows; nothing is created before the first decision."""
        self._store = store
        self._fs, self._root = open_root(root)

    def add(self, release: Release) -> None:
        """Keep a candidate; its number must be new (an equal one again changes nothing)."""
        text = json.dumps(asdict(release), indent=1)

        def write(directory: Path) -> None:
            (directory / FILE).write_text(text, encoding="utf-8")

        parents = {"rewriter": release.rewriter, "retriever": release.retriever}
        self._store.publish(KIND, release.number, write, {"parents": parents})

    def numbers(self) -> list[int]:
        """All candidates there were, ascending."""
        return self._store.versions(KIND)

    def get(self, number: int) -> Release:
        """One of them. Raises ``InputError`` where there is none of that number."""
        if not self._store.has(KIND, number):
            known = ", ".join(map(str, self.numbers())) or "none yet"
            raise InputError(f"release {number}: there is none of that number; there are: {known}")
        return Release(**json.loads((self._store.fetch(KIND, number) / FILE).read_text(encoding="utf-8")))

    def served(self) -> Served | None:
        """What is served; None before the first promotion."""
        path = f"{self._root}/{SERVED}"
        if self._fs.get_file_info(path).type != pafs.FileType.File:
            return None
        return Served(**json.loads(read_text(self._fs, path)))

    def promote(self, number: int, by: str, reason: str) -> None:
        """Serve ``number``. Raises ``InputError`` where it does not exist, or a pin holds another one."""
        release, served = self.get(number), self.served()
        if served is not None and served.pinned and served.number != number:
            raise InputError(f"release {served.number} is pinned; unpin it before another is promoted")
        self._keep(release)
        self._serve(number, served.pinned if served else False)
        self._note("promoted", number, by, reason)

    def keep(self, number: int, by: str, reason: str) -> None:
        """Note that a candidate does not take over, and why."""
        self._note("kept", self.get(number).number, by, reason)

    def rollback(self, by: str, reason: str) -> int:
        """Serve what was served before; return its number. Raises ``InputError`` where nothing was."""
        earlier = self._served_before()
        if earlier is None:
            raise InputError("nothing was served before the present release; promote one by its number")
        served = self.served()
        self._serve(earlier, served.pinned if served else False)
        self._note("rolled back", earlier, by, reason)
        return earlier

    def pin(self, by: str, pinned: bool) -> int:
        """Hold what is served against candidates, or let them in again; return its number.

        Raises ``InputError`` where nothing is served.
        """
        served = self.served()
        if served is None:
            raise InputError("nothing is served yet; promote a release by its number")
        self._serve(served.number, pinned)
        self._note("pinned" if pinned else "unpinned", served.number, by, "")
        return served.number

    def audit(self) -> list[dict[str, Any]]:
        """All decisions, oldest first: {time, action, number, by, reason, served}."""
        selector = pafs.FileSelector(f"{self._root}/audit", allow_not_found=True)
        paths = sorted(info.path for info in self._fs.get_file_info(selector) if info.base_name.endswith(".json"))
        return [json.loads(read_text(self._fs, path)) for path in paths]

    def _served_before(self) -> int | None:
        """The release before the present one, as a stack: a rollback takes the top off, a promotion puts one on."""
        stack: list[int] = []
        for entry in self.audit():
            if entry["action"] == "promoted" and entry["number"] not in stack[-1:]:
                stack.append(entry["number"])
            elif entry["action"] == "rolled back":
                stack.pop()
        return stack[-2] if len(stack) > 1 else None

    def _keep(self, release: Release) -> None:
        for kind, version in (("rewriter", release.rewriter), ("retriever", release.retriever)):
            if version >= 0:
                self._store.pin(kind, version, f"release-{release.number}")

    def _serve(self, number: int, pinned: bool) -> None:
        self._fs.create_dir(self._root, recursive=True)
        write_text(self._fs, f"{self._root}/{SERVED}", json.dumps(asdict(Served(number, pinned, time.time()))))

    def _note(self, action: Action, number: int, by: str, reason: str) -> None:
        self._fs.create_dir(f"{self._root}/audit", recursive=True)
        count = len(self.audit())
        entry = {"time": time.time(), "action": action, "number": number, "by": by, "reason": reason}
        write_text(self._fs, f"{self._root}/audit/{count:06d}-{uuid.uuid4().hex[:8]}.json", json.dumps(entry))
