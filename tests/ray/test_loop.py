"""The loop over real actors, real Ray Data and a real cluster; only the models are fakes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from actors import remote
from actors.core.snapshots import SnapshotStore
from actors.core.types import PAIRS, REWRITES, Catalog, Corpus, InputError, Query, Tool
from actors.hosts import IndexBuilderHost, RewriterHost, ScorerHost
from actors.monitor import Reporter
from configs.schema import Config, LoopConfig, Placement, RewriterConfig
from pipelines import cotrain, datasets
from pipelines.ray_stages import Handles, Learner, RayStages
from pipelines.units import COHYDE, ENCODER_ALONE, Arm, Planned
from tests import fake_models

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(fake_models)

QUERIES = tuple(Query(f"q{i}", f"how do I do {i}", "standard", "train", {"tool": 1}) for i in range(6))
CORPUS = Corpus(Catalog((Tool("tool", "tool", "Tool", "does it"),)), QUERIES)
SMALL = Placement(cpus=0.5, threads=1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with remote.cluster(Config(), tmp_path_factory.mktemp("run")):
        yield


class Scene:
    """One arm with all its actors; ``trained`` is what each learner trained."""

    def __init__(self, root: Path, arm: Arm, config: Config, seconds: float = 0.0) -> None:
        self.root, self.arm, self.config = root, arm, config
        root.mkdir(exist_ok=True)
        self.store_root, self.calls = str(root / "snapshots"), root / "calls.txt"
        self.trained: dict[str, list[int]] = {"encoder": [], "rewriter": []}
        fake_models.warm_start(self.store_root)
        self.monitor = remote.make_monitor(root / "metrics.jsonl")
        report = Reporter(self.monitor).stage
        rewriter = partial(fake_models.FakeRewriter, str(self.calls), seconds)
        self.handles = Handles(
            monitor=self.monitor,
            registry=remote.make_registry(self.store_root),
            scorer=remote.start(ScorerHost, SMALL, 3, fake_models.FakeScorer, self.store_root, report),
            index_builder=remote.start(IndexBuilderHost, SMALL, 3, fake_models.make_build, "none", self.store_root, report),
            rewriter=remote.start(RewriterHost, SMALL, 3, config.rewriter, rewriter, "none", self.store_root, report),
            encoder=self.learner("encoder"),
            rewriter_learner=self.learner("rewriter"),
        )
        self.stages = RayStages(config, arm, CORPUS, self.handles, self.store_root, str(root / "data"))

    def learner(self, kind: str) -> Learner:
        feed = remote.make_feed()

        def ask(done: int) -> dict[str, Any]:
            job: dict[str, Any] = remote.ask_now(feed.next.remote(done), 60, "the feed")
            return job

        return Learner(kind, feed, partial(fake_models.learner_fit, kind, ask, self.store_root, self.trained[kind]))

    def learners(self) -> list[Learner]:
        return [learner for learner in (self.handles.encoder, self.handles.rewriter_learner) if learner is not None]

    def run(self) -> None:
        units = Planned(self.config.loop, self.config.seed, [q.query_id for q in QUERIES])

        async def scene() -> None:
            for learner in self.learners():
                learner.start()
            try:
                await cotrain.run(self.stages, units, self.config.loop, Reporter(self.monitor).log, self.arm)
            finally:
                await asyncio.gather(*(learner.stop(5) for learner in self.learners()))

        asyncio.run(scene())

    def end(self) -> None:
        feeds = [learner.feed for learner in self.learners()]
        remote.end([*feeds, self.monitor, self.handles.registry, self.handles.scorer])
        remote.end([self.handles.index_builder, self.handles.rewriter])

    def rewriter_pid(self) -> int:
        return int(remote.health(self.handles.rewriter)["pid"])


def config(**loop: Any) -> Config:
    return Config(loop=LoopConfig(**{"units": 2, **loop}), rewriter=RewriterConfig(samples_per_query=3))


def events(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]


def test_rounds_and_their_resumption(cluster: None, tmp_path: Path) -> None:
    scene = Scene(tmp_path / "run", COHYDE, config())
    ready = asyncio.run(remote.wait_ready({"rewriter": scene.handles.rewriter, "scorer": scene.handles.scorer}))
    assert set(ready) == {"rewriter", "scorer"}
    scene.run()
    data = str(scene.root / "data")
    rewrites, scored, pairs = (datasets.read(kind, 1, data) for kind in ("rewrites", "scored", "pairs"))
    order = asyncio.run(Planned(scene.config.loop, scene.config.seed, [q.query_id for q in QUERIES]).take(1)).query_ids
    assert rewrites["query_id"].to_pylist() == [q for q in order for _ in range(3)]
    assert set(rewrites["rewriter_version"].to_pylist()) == {1}
    assert set(rewrites["context_retriever_version"].to_pylist()) == {0}
    assert rewrites["text"][0].as_py().startswith("rewriter 1 how do I do")
    assert "tool of 0" in rewrites["prompt"][0].as_py()
    assert set(scored["retriever_version"].to_pylist()) == {2}
    assert pairs["chosen"][0].as_py().endswith(" 2") and pairs["rejected"][0].as_py().endswith(" 0")
    assert SnapshotStore(scene.store_root).latest("retriever") == 2
    assert scene.trained == {"encoder": [0, 1], "rewriter": [0, 1]}
    trained = [event for event in events(scene.root) if event.get("stage") == "train_rewriter"]
    assert [(event["unit"], event["lag"], event["loss"]) for event in trained] == [(0, 0, 0.25), (1, 0, 0.25)]
    scene.end()

    again = Scene(scene.root, COHYDE, config(units=3))
    again.run()
    assert again.trained == {"encoder": [2], "rewriter": [2]}, "only what was missing"
    again.end()


def test_a_killed_actor_repeats_its_batch_only(cluster: None, tmp_path: Path) -> None:
    scene = Scene(tmp_path / "run", COHYDE, config(mode="continual", queries_per_unit=3, max_rewriter_lag=1), seconds=2.0)
    killed = []

    async def kill() -> None:
        while not scene.calls.exists():
            await asyncio.sleep(0.05)
        killed.append(await asyncio.to_thread(scene.rewriter_pid))
        os.kill(killed[0], signal.SIGKILL)

    scene_latest = scene.stages.latest
    started: list[asyncio.Task[None]] = []

    async def latest() -> tuple[int, int]:
        if not started:
            started.append(asyncio.create_task(kill()))
        return await scene_latest()

    scene.stages.latest = latest  # type: ignore[method-assign]
    scene.run()
    assert len(killed) == 1 and scene.rewriter_pid() != killed[0]
    assert scene.trained == {"encoder": [0, 1], "rewriter": [0, 1]}
    assert len(scene.calls.read_text().splitlines()) == 3, "two units and the batch that died"
    scene.end()


def test_a_dead_learner_ends_the_run_at_once(cluster: None, tmp_path: Path) -> None:
    scene = Scene(tmp_path / "run", ENCODER_ALONE, config())

    def dies() -> None:
        time.sleep(1)
        raise ZeroDivisionError("gradients")

    assert scene.handles.encoder is not None
    scene.handles.encoder.fit = dies
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="gradients"):
        scene.run()
    assert time.monotonic() - started < 15
    assert SnapshotStore(scene.store_root).latest("encoder") == 0
    scene.end()


def test_a_damaged_snapshot_is_one_line(cluster: None, tmp_path: Path) -> None:
    scene = Scene(tmp_path / "run", COHYDE, config())
    (tmp_path / "run" / "snapshots" / "rewriter" / "0" / "weights.txt").write_text("torn")
    with pytest.raises(InputError, match=r"rewriter/0: file weights\.txt is missing or damaged") as error:
        scene.run()
    assert "\n" not in str(error.value)
    scene.end()


def test_a_stalled_generator_is_caught(cluster: None, tmp_path: Path) -> None:
    scene = Scene(tmp_path / "run", COHYDE, config(stall_timeout_s=5), seconds=600.0)
    started = time.monotonic()
    with pytest.raises(cotrain.StallError, match="generate of unit 0"):
        scene.run()
    assert time.monotonic() - started < 30
    scene.end()


def rewrites(block: int, rows: int = 5) -> pa.Table:
    row = dict.fromkeys(REWRITES.names) | {"unit": 0, "query": "q", "sample": 0}
    return pa.Table.from_pylist([{**row, "query_id": f"{block}-{i}"} for i in range(rows)], schema=REWRITES)


def test_parquet_keeps_order_and_schema(cluster: None, tmp_path: Path) -> None:
    root, blocks = str(tmp_path), [rewrites(i) for i in range(4)]
    datasets.configure()
    datasets.write("rewrites", 0, datasets.map_blocks(blocks, lambda block: block), root)
    assert datasets.read("rewrites", 0, root)["query_id"].to_pylist() == [f"{i}-{j}" for i in range(4) for j in range(5)]
    datasets.write("pairs", 0, PAIRS.empty_table(), root)
    assert datasets.read("pairs", 0, root).num_rows == 0
    with pytest.raises(ValueError, match=r"dataset scored: columns differ from its schema: margin, ndcg"):
        datasets.write("scored", 0, datasets.map_blocks(blocks, lambda block: block), root)
    assert not datasets.exists("scored", 0, root)
    with pytest.raises(InputError, match="not in"):
        datasets.read("scored", 0, root)


def test_a_failing_batch_leaves_no_dataset(cluster: None, tmp_path: Path) -> None:
    def fails(block: pa.Table) -> pa.Table:
        raise ZeroDivisionError("no scores")

    with pytest.raises(ray.exceptions.RayTaskError, match="no scores"):
        datasets.write("rewrites", 0, datasets.map_blocks([rewrites(0)], fails), str(tmp_path))
    assert not datasets.exists("rewrites", 0, str(tmp_path))
