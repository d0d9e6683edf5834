"""Published, immutable directories: how a model or a dataset gets from its writer to its readers.

Invariants: a version is complete exactly when its READY file is there, and READY is written last; readers trust nothing else.
A published version never changes and its number is never used again. Each kind has one writer at a time. A pinned version is
never collected. Layout: ``ROOT/KIND/VERSION/{files..., manifest.json, READY, PIN-NAME...}`` on any ``pyarrow.fs`` file system.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from actors.core.types import InputError

READY = "READY"
MANIFEST = "manifest.json"
PIN = "PIN-"
TEMPORARY = ".tmp-"

WriteThrough = Callable[[pafs.FileSystem, str], None]
"""Writes the files of a version under a path of a file system."""


class SnapshotStore:
    """Versions by kind ("encoder", "retriever", "rewriter", ...) under one root.

    ``root`` is a local path or a URI that ``pyarrow.fs`` knows (``s3://bucket/run``). ``cache_dir`` is where versions of a root
    that is not local are downloaded to.
    """

    def __init__(self, root: str, cache_dir: Path | None = None) -> None:
        """Open the store; nothing is created before the first publish."""
        self.root = root
        self._cache_dir = cache_dir or Path.home() / ".cache" / "cohyde" / "snapshots"
        self._fs, self._base = open_root(root)
        self._local = isinstance(self._fs, pafs.LocalFileSystem)

    def publish(self, kind: str, version: int, write: Callable[[Path], None], manifest: dict[str, Any]) -> str:
        """Publish what ``write(local directory)`` writes as ``version`` of ``kind``; return its path.

        Where the version is already published, nothing is written and ``write`` is not called. ``manifest`` is any JSON (parents,
        metrics); kind, version and time are added.
        """

        def through(fs: pafs.FileSystem, path: str) -> None:
            if self._local:
                write(Path(path))
                return
            with tempfile.TemporaryDirectory(prefix="cohyde-") as directory:
                write(Path(directory))
                pafs.copy_files(directory, path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=fs)

        return self.publish_through(kind, version, through, manifest)

    def publish_through(self, kind: str, version: int, write: WriteThrough, manifest: dict[str, Any]) -> str:
        """As ``publish``, for a writer that takes a file system and a path (Ray Data)."""
        final = self._path(kind, version)
        if self.has(kind, version):
            return final
        self._remove_leftovers(kind, version)
        # An object store has no rename of directories: there the files go to their final name, and READY alone decides.
        staging = f"{self._base}/{kind}/{TEMPORARY}{version}-{uuid.uuid4().hex[:8]}" if self._local else final
        self._fs.create_dir(staging, recursive=True)
        write(self._fs, staging)
        record = {**manifest, "kind": kind, "version": version, "published": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        write_text(self._fs, f"{staging}/{MANIFEST}", json.dumps(record, indent=1, default=str))
        files = self._files(staging)
        if self._local:
            _sync_tree(Path(staging))
            os.rename(staging, final)
            _sync(Path(final).parent)
        write_text(self._fs, f"{final}/{READY}", json.dumps({"id": uuid.uuid4().hex, "files": files}))
        return final

    def has(self, kind: str, version: int) -> bool:
        """Whether the version is published."""
        return bool(self._fs.get_file_info(f"{self._path(kind, version)}/{READY}").type == pafs.FileType.File)

    def versions(self, kind: str) -> list[int]:
        """Published versions, ascending; half-written ones are not among them."""
        selector = pafs.FileSelector(f"{self._base}/{kind}", allow_not_found=True)
        names = [info.base_name for info in self._fs.get_file_info(selector) if info.type == pafs.FileType.Directory]
        numbers = [int(name) for name in names if name.lstrip("-").isdigit()]
        return sorted(number for number in numbers if self.has(kind, number))

    def latest(self, kind: str) -> int | None:
        """The newest published version, or None."""
        versions = self.versions(kind)
        return versions[-1] if versions else None

    def fetch(self, kind: str, version: int) -> Path:
        """A local directory with the files of a published version: the version itself, or a download of it.

        Raises ``InputError`` where the version does not exist, is half written (no READY) or lacks a file that READY names.
        """
        ready = self._ready(kind, version)
        source = self._path(kind, version)
        found = self._files(source)
        for name, size in ready["files"].items():
            if found.get(name) != size:
                raise InputError(f"snapshot {source}: file {name} is missing or damaged; delete the directory to make it anew")
        if self._local:
            return Path(source)
        name = hashlib.sha256(self.root.encode()).hexdigest()[:12]
        target = self._cache_dir / name / kind / f"{version}-{ready['id'][:8]}"
        if not target.exists():
            staging = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex[:8]}")
            staging.mkdir(parents=True)
            pafs.copy_files(source, str(staging), source_filesystem=self._fs, destination_filesystem=pafs.LocalFileSystem())
            try:
                os.rename(staging, target)
            except OSError:
                # Another reader of this machine was faster: its copy is the same.
                shutil.rmtree(staging)
        return target

    def manifest(self, kind: str, version: int) -> dict[str, Any]:
        """The manifest of a published version. Raises ``InputError`` as ``fetch`` does."""
        self._ready(kind, version)
        record: dict[str, Any] = json.loads(read_text(self._fs, f"{self._path(kind, version)}/{MANIFEST}"))
        return record

    def read_from(self, kind: str, version: int) -> tuple[pafs.FileSystem, str]:
        """File system and path of a published version, for readers that need no local copy. Raises as ``fetch`` does."""
        self._ready(kind, version)
        return self._fs, self._path(kind, version)

    def pin(self, kind: str, version: int, name: str) -> None:
        """Keep a version from being collected, under a name; pinning twice is once."""
        self._ready(kind, version)
        write_text(self._fs, f"{self._path(kind, version)}/{PIN}{name}", "")

    def unpin(self, kind: str, version: int, name: str) -> None:
        """Take one pin off; other names still hold."""
        path = f"{self._path(kind, version)}/{PIN}{name}"
        if self._fs.get_file_info(path).type == pafs.FileType.File:
            self._fs.delete_file(path)

    def collect(self, kind: str, keep: int) -> list[int]:
        """Delete all but the newest ``keep`` (at least 1) published versions and the pinned ones; return what was deleted."""
        if keep < 1:
            raise ValueError(f"keep={keep}: the newest version always stays, so keep must be at least 1")
        removed = []
        for version in self.versions(kind)[:-keep]:
            path = self._path(kind, version)
            if any(name.startswith(PIN) for name in self._files(path)):
                continue
            # READY goes first: a crash in between leaves a half-written version, never a published one with holes.
            self._fs.delete_file(f"{path}/{READY}")
            self._fs.delete_dir(path)
            removed.append(version)
        return removed

    def _path(self, kind: str, version: int) -> str:
        return f"{self._base}/{kind}/{version}"

    def _ready(self, kind: str, version: int) -> dict[str, Any]:
        path = self._path(kind, version)
        if self.has(kind, version):
            ready: dict[str, Any] = json.loads(read_text(self._fs, f"{path}/{READY}"))
            return ready
        if self._fs.get_file_info(path).type == pafs.FileType.NotFound:
            raise InputError(f"{kind} version {version} is not in {self.root}; it has {self.versions(kind) or 'none'}")
        raise InputError(f"snapshot {path} is half written (no {READY} file); run the same command again, which makes it anew")

    def _files(self, path: str) -> dict[str, int]:
        infos = self._fs.get_file_info(pafs.FileSelector(path, recursive=True))
        return {info.path[len(path) + 1 :]: info.size for info in infos if info.type == pafs.FileType.File}

    def _remove_leftovers(self, kind: str, version: int) -> None:
        selector = pafs.FileSelector(f"{self._base}/{kind}", allow_not_found=True)
        for info in self._fs.get_file_info(selector):
            if info.base_name == str(version) or info.base_name.startswith(f"{TEMPORARY}{version}-"):
                self._fs.delete_dir(info.path)


def open_root(root: str) -> tuple[pafs.FileSystem, str]:
    """File system and path of a local path or URI."""
    if "://" in root:
        found: tuple[pafs.FileSystem, str] = pafs.FileSystem.from_uri(root)
        return found
    return pafs.LocalFileSystem(), os.path.abspath(root)


def read_text(fs: pafs.FileSystem, path: str) -> str:
    """The whole of a small file."""
    with fs.open_input_stream(path) as stream:
        return bytes(stream.read()).decode()


def write_text(fs: pafs.FileSystem, path: str, text: str) -> None:
    """Write or replace a small file; a reader meets the old text or the new one, never a part."""
    if not isinstance(fs, pafs.LocalFileSystem):
        with fs.open_output_stream(path) as stream:
            stream.write(text.encode())
        return
    temporary = Path(f"{path}{TEMPORARY}{uuid.uuid4().hex[:8]}")
    temporary.write_text(text)
    _sync(temporary)
    os.rename(temporary, path)
    _sync(temporary.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(root: Path) -> None:
    for directory, _, names in os.walk(root):
        for name in names:
            _sync(Path(directory) / name)
        _sync(Path(directory))
