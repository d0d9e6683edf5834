"""A run that serves in milliseconds: a handful of tools, and an encoder that is a sum of word vectors; and a real server of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import uvicorn

from actors import catalog_file
from actors.core.fusion import Vectors
from actors.core.limits import Limits
from actors.core.snapshots import SnapshotStore
from actors.core.types import Catalog, Tool
from actors.index import ENCODER_DIR, DenseIndex
from actors.interfaces import Progress
from actors.releases import Release, Releases
from configs.load import save
from configs.schema import Config
from configs.serving import ServingConfig
from serve_app.api import make_app
from serve_app.replica import Replica

NAMES = [f"{verb} {thing}" for verb in ("make", "drop") for thing in ("cup", "hat")]
TOOLS = tuple(Tool(name.replace(" ", "-"), name, name, "") for name in NAMES)
PATIENCE_S = 30.0
FAMILIAR_FROM = 0.5
"""One word of two in common."""


class WordEncoder:
    """The sum of a vector for each word; ``turn`` gives each version another space."""

    embedded: list[str] = []  # noqa: RUF012

    def __init__(self, turn: int = 0) -> None:
        self._turn = turn

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        rows = []
        for text in texts:
            words = [w.strip(".,").lower() for w in text.split()]
            seeds = [sum(ord(c) * 31**i for i, c in enumerate(word)) % 2**31 + self._turn for word in words]
            rows.append(np.sum([np.random.default_rng(seed).normal(size=48) for seed in seeds], axis=0))
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), 48)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        self.embedded.extend(texts)
        return self.encode_queries(texts)


def make_run(run_dir: Path, tools: Sequence[Tool] = TOOLS) -> Path:
    """A run with releases 0 and 1, of which 0 is served. Its encoders are no files: whoever loads it gives them."""
    save(Config(run_dir=str(run_dir)), run_dir / "config.yaml")
    store = SnapshotStore(str(run_dir / "snapshots"))
    catalog_file.publish(store, Catalog(tuple(tools)))
    releases = Releases(store, str(run_dir / "releases"))
    for version in range(2):
        vectors = WordEncoder(version).encode_queries([t.document for t in tools])

        def write(directory: Path, vectors: Vectors = vectors) -> None:
            DenseIndex.build([t.tool_id for t in tools], vectors, "exact").save(directory, {"familiar_from": FAMILIAR_FROM})
            (directory / ENCODER_DIR).mkdir()

        store.publish("retriever", version, write, {})
        releases.add(Release(version, 0, version, "hash", 0.0, {}, asdict(Limits())))
    store.publish("rewriter", 0, lambda directory: None, {})
    releases.promote(0, "test", "first")
    return run_dir


@contextlib.contextmanager
def served(run_dir: Path, keys: Path | None = None) -> Iterator[str]:
    """The HTTP application over a replica of the run, on a port of the loopback address; gives its address."""
    settings = ServingConfig(run=str(run_dir), keys=None if keys is None else str(keys), explore_share=0.0)

    async def metrics() -> str:
        return ""

    replica = Replica(settings, None, lambda version, ready: None, lambda name, value, labels: None)
    server = uvicorn.Server(uvicorn.Config(make_app(replica, settings, metrics), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        replica.close()
    assert not thread.is_alive()
