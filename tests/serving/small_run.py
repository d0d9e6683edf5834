"""A run directory as training leaves it, made in seconds: thirty tools, tiny random models, releases that differ."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from actors import catalog_file
from actors.core.limits import Limits
from actors.core.snapshots import SnapshotStore
from actors.core.types import Catalog
from actors.index import ENCODER_DIR
from actors.index_builder import IndexBuilder
from actors.releases import Release, Releases
from actors.run_dir import RERANKER
from configs.load import load, save
from configs.schema import Config
from pipelines import catalogs
from tests.e2e.small_world import make_world, overrides

ROOT = Path(__file__).parents[2]
ENCODERS = 3
START_TIMEOUT_S = 120.0


def make_run(root: Path) -> Path:
    """A run with retrievers 0 to 2, one rewriter, and releases 0 to 2 of which 0 is served."""
    world, run_dir = make_world(root / "world"), root / "run"
    config = load("configs/base.yaml", [*overrides(world, run_dir), "rewriter.eval_samples=1"])
    save(config, run_dir / "config.yaml")
    corpus = catalogs.load(config.catalog, config.seed)
    store = SnapshotStore(str(run_dir / "snapshots"))
    catalog_file.publish(store, corpus.catalog)
    for version in range(ENCODERS):
        add_retriever(store, config, corpus.catalog, world / "encoder", version)
    for kind in ("rewriter", RERANKER):
        store.publish(kind, 0, lambda directory: _copy(world / "rewriter", directory), {})
    releases = Releases(store, str(run_dir / "releases"))
    for number in range(ENCODERS):
        add_release(releases, corpus.catalog, number, number, {"standard": 0.6 + number / 50, "vague": 0.2 + number / 50})
    releases.promote(0, "gate", "against the frozen release: together +1.0 points")
    return run_dir


def add_retriever(store: SnapshotStore, config: Config, catalog: Catalog, encoder: Path, version: int) -> None:
    """Retriever ``version``: the encoder with weights of its own."""
    changed = encoder.with_name(f"encoder-{version}")
    shutil.copytree(encoder, changed)
    weights = next(changed.rglob("model.safetensors"))
    tensors = load_file(weights)
    torch.manual_seed(version)
    moved = {name: t + 0.02 * torch.randn_like(t) if t.is_floating_point() else t for name, t in tensors.items()}
    save_file(moved, weights, metadata={"format": "pt"})
    builder = IndexBuilder(config.encoder, catalog, "float32", 1)
    store.publish("retriever", version, lambda directory: builder.build(changed, directory) and None, {})
    assert (store.fetch("retriever", version) / ENCODER_DIR).is_dir()


def add_release(releases: Releases, catalog: Catalog, number: int, retriever: int, figures: dict[str, float]) -> None:
    """Release ``number`` of a retriever and rewriter 0; nothing is held back from its answers."""
    limits = asdict(Limits(abstain_below=-1.0))
    releases.add(Release(number, 0, retriever, catalog.catalog_hash, 0.3, figures, limits, rerank_weight=0.2))


def releases_of(run_dir: Path) -> Releases:
    """Of such a run."""
    return Releases(SnapshotStore(str(run_dir / "snapshots")), str(run_dir / "releases"))


def _copy(source: Path, directory: Path) -> None:
    shutil.copytree(source, directory, dirs_exist_ok=True)


@dataclass
class Server:
    """A server in a process of its own."""

    url: str
    run_dir: Path
    process: subprocess.Popen[str]

    @property
    def log_dir(self) -> Path:
        """Its query log."""
        return self.run_dir / "query-log"

    def end(self) -> int:
        """SIGTERM; the exit code. Raises ``TimeoutExpired`` where it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


def start_server(run_dir: Path, port: int, *settings: str) -> Server:
    """Serve ``run_dir``; returns when it answers."""
    command = [sys.executable, "-m", "pipelines.serve", "--run", str(run_dir), "--port", str(port), *settings]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    server = Server(f"http://127.0.0.1:{port}", run_dir, process)
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_drain, args=(process, lines), daemon=True).start()
    told, deadline = [], time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            continue
        if line is None:
            break
        told.append(line)
        if "serving at http" in line:
            return server
    server.end()
    raise AssertionError("the server did not start:\n" + "".join(told))


def _drain(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)
