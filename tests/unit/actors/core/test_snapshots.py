from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyarrow import fs as pafs

from actors.core.snapshots import READY, SnapshotStore
from actors.core.types import InputError


class Crash(BaseException):
    """Ends the process, as far as the store can tell."""


def writer(text: str):
    def write(directory: Path) -> None:
        (directory / "weights.bin").write_text(text)
        (directory / "deep").mkdir(exist_ok=True)
        (directory / "deep" / "config.json").write_text("{}")

    return write


def test_publish_and_read_back(tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path))
    assert store.latest("encoder") is None
    path = store.publish("encoder", 0, writer("a"), {"parents": [-1]})
    store.publish("encoder", 1, writer("b"), {})
    store.publish("rewriter", 7, writer("c"), {})
    assert store.versions("encoder") == [0, 1]
    assert store.latest("encoder") == 1
    assert (store.fetch("encoder", 0) / "weights.bin").read_text() == "a"
    assert str(store.fetch("encoder", 0)) == path
    manifest = store.manifest("encoder", 0)
    assert manifest["parents"] == [-1] and manifest["version"] == 0 and manifest["kind"] == "encoder"


def test_the_frozen_base_is_version_minus_one(tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path))
    store.publish("retriever", -1, writer("frozen"), {})
    store.publish("retriever", 0, writer("warm"), {})
    assert store.versions("retriever") == [-1, 0]


def test_publish_is_idempotent(tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path))
    store.publish("encoder", 0, writer("first"), {})
    store.publish("encoder", 0, writer("second"), {})
    assert (store.fetch("encoder", 0) / "weights.bin").read_text() == "first"


def count_steps(monkeypatch: pytest.MonkeyPatch, crash_at: int | None) -> list[str]:
    """Every fsync, rename and file write of the store is a step; the process dies right before step ``crash_at``."""
    steps: list[str] = []
    real = {"fsync": os.fsync, "rename": os.rename}
    real_write = Path.write_text

    def step(name: str) -> None:
        if len(steps) == crash_at:
            raise Crash
        steps.append(name)

    def fsync(descriptor: int) -> None:
        step("fsync")
        real["fsync"](descriptor)

    def rename(source: str, target: str) -> None:
        step("rename")
        real["rename"](source, target)

    def write_text(path: Path, text: str) -> int:
        step("write")
        return real_write(path, text)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(Path, "write_text", write_text)
    return steps


def test_crash_at_every_step_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        steps = count_steps(patch, None)
        SnapshotStore(str(tmp_path / "whole")).publish("encoder", 0, writer("a"), {})
    assert len(steps) >= 12, "files, manifest, tree, rename and READY are all steps"
    published_early = 0
    for crash_at in range(len(steps)):
        root = tmp_path / str(crash_at)
        store = SnapshotStore(str(root))
        with monkeypatch.context() as patch:
            count_steps(patch, crash_at)
            with pytest.raises(Crash):
                store.publish("encoder", 0, writer("torn"), {})
        if store.latest("encoder") == 0:
            # Only the last flush was missing: then all of it must be there.
            published_early += 1
            assert (store.fetch("encoder", 0) / "weights.bin").read_text() == "torn"
            continue
        with pytest.raises(InputError):
            store.fetch("encoder", 0)
        store.publish("encoder", 0, writer("whole"), {})
        assert (store.fetch("encoder", 0) / "weights.bin").read_text() == "whole"
        assert sorted(p.name for p in (root / "encoder").iterdir()) == ["0"], "leftovers are cleared"
    assert published_early == 1


def test_half_written_snapshot_is_ignored_and_refused(tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path))
    store.publish("encoder", 0, writer("a"), {})
    store.publish("encoder", 1, writer("b"), {})
    (tmp_path / "encoder" / "1" / READY).unlink()
    assert store.latest("encoder") == 0
    with pytest.raises(InputError, match="half written"):
        store.fetch("encoder", 1)
    with pytest.raises(InputError, match="not in"):
        store.manifest("encoder", 5)


def test_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path))
    path = Path(store.publish("encoder", 0, writer("abc"), {}))
    (path / "weights.bin").write_text("a")
    with pytest.raises(InputError, match=r"weights\.bin is missing or damaged"):
        store.fetch("encoder", 0)


def test_collect_spares_the_newest_and_the_pinned(tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path))
    for version in range(5):
        store.publish("encoder", version, writer(str(version)), {})
    store.pin("encoder", 1, "served")
    store.pin("encoder", 1, "report")
    store.unpin("encoder", 1, "report")
    assert store.collect("encoder", keep=2) == [0, 2]
    assert store.versions("encoder") == [1, 3, 4]
    assert store.fetch("encoder", 1).is_dir(), "a pin is no damage"
    store.unpin("encoder", 1, "served")
    assert store.collect("encoder", keep=2) == [1]
    with pytest.raises(ValueError, match="at least 1"):
        store.collect("encoder", keep=0)


class ObjectStore(SnapshotStore):
    """A store on a file system that is not local, as far as it knows: no rename, downloads."""

    def __init__(self, root: Path, cache_dir: Path) -> None:
        super().__init__(str(root), cache_dir)
        root.mkdir(parents=True, exist_ok=True)
        self._fs, self._base, self._local = pafs.SubTreeFileSystem(str(root), pafs.LocalFileSystem()), "bucket", False


def test_any_file_system(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "remote", tmp_path / "cache")
    store.publish("encoder", 0, writer("a"), {"note": 1})
    local = store.fetch("encoder", 0)
    assert local.is_relative_to(tmp_path / "cache")
    assert (local / "deep" / "config.json").read_text() == "{}"
    assert store.fetch("encoder", 0) == local
    assert store.manifest("encoder", 0)["note"] == 1

    def dies(directory: Path) -> None:
        writer("b")(directory)
        raise Crash

    with pytest.raises(Crash):
        store.publish("encoder", 1, dies, {})
    assert store.latest("encoder") == 0
    store.publish("encoder", 1, writer("c"), {})
    assert (store.fetch("encoder", 1) / "weights.bin").read_text() == "c"
