"""Stand-ins for the models inside actors: text operations instead of weights, so that a whole loop takes seconds.

The rewriter writes "<version> <query> <sample>", the scorer prefers later samples, learners only add a version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actors.core.snapshots import SnapshotStore
from actors.core.types import Completion, Query, Score
from actors.hosts import Build
from actors.interfaces import Progress


class FakeRewriter:
    """``seconds`` a batch; writes down in ``calls`` (a file) that a batch was begun."""

    def __init__(self, calls: str, seconds: float = 0.0) -> None:
        self.calls, self.seconds = Path(calls), seconds
        self.weights = "none"

    def load_base(self, model_dir: Path) -> None:
        self.weights = (model_dir / "weights.txt").read_text()

    def load_adapter(self, version: int, adapter_dir: Path) -> None:
        self.weights = (adapter_dir / "weights.txt").read_text()

    def rewrite(
        self,
        queries: Sequence[str],
        contexts: Sequence[Sequence[str]],
        samples: int,
        temperature: float,
        seed: int,
        progress: Progress,
    ) -> tuple[list[str], list[list[Completion]]]:
        with self.calls.open("a") as stream:
            stream.write(f"{self.weights}\n")
        time.sleep(self.seconds)
        progress(len(queries), len(queries))
        prompts = [f"{query} | {', '.join(context)}" for query, context in zip(queries, contexts, strict=True)]
        return prompts, [[Completion(f"{self.weights} {q} {k}", 3, True) for k in range(samples)] for q in queries]


class FakeScorer:
    def __init__(self) -> None:
        self.version = -2

    def load(self, retriever_dir: Path, version: int) -> None:
        assert (retriever_dir / "index.txt").read_text() == f"retriever {version}"
        self.version = version

    def contexts(self, queries: Sequence[str], k: int) -> list[list[str]]:
        return [[f"tool of {self.version}"] * k for _ in queries]

    def score(
        self, queries: Sequence[Query], rewrites: Sequence[Sequence[Completion]], progress: Progress | None = None
    ) -> list[list[Score]]:
        if progress:
            progress(len(queries), len(queries))
        return [[Score(0.1 * k, 0.1 * k, 0.0, 0.0) for k in range(len(samples))] for samples in rewrites]

    def mine_negatives(self, queries: Sequence[Query], k: int) -> list[list[str]]:
        return [["wrong"] * k for _ in queries]


def fake_build(encoder_dir: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
    version = (encoder_dir / "weights.txt").read_text().rpartition(" ")[2]
    (out_dir / "index.txt").write_text(f"retriever {version}")
    progress(1, 1)
    return {"tools": 1}


def make_build() -> Build:
    return fake_build


def publish_text(store: SnapshotStore, kind: str, version: int, name: str = "weights.txt") -> None:
    store.publish(kind, version, lambda d: (d / name).write_text(f"{kind} {version}") and None, {"metrics": {"loss": 0.25}})


def warm_start(store_root: str) -> None:
    """Version 0 of everything, and the frozen retriever."""
    store = SnapshotStore(store_root)
    publish_text(store, "encoder", 0)
    publish_text(store, "rewriter", 0)
    for version in (-1, 0):
        publish_text(store, "retriever", version, "index.txt")


def learner_fit(kind: str, ask: Callable[[int], dict[str, Any]], store_root: str, trained: list[int]) -> None:
    """What a Ray Train function does, without the training: takes jobs until it is told to stop."""
    store = SnapshotStore(store_root)
    while True:
        done = store.latest(kind)
        assert done is not None
        job = ask(done)
        if job.get("stop"):
            return
        assert job["version"] == done + 1
        trained.append(job["unit"])
        publish_text(store, kind, job["version"])
