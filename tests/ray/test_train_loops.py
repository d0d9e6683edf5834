"""Both learners on Ray Train with tiny models: warm start, a unit, a killed worker, the stop job."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import psutil
import pyarrow as pa
import pytest

from actors import remote
from actors.core.snapshots import SnapshotStore
from actors.core.types import PAIRS, REWRITES, Catalog, Corpus, Query, Tool
from configs.schema import Config
from pipelines import datasets, train_loops
from tests.tiny_models import make_encoder, make_rewriter

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

VERBS, NOUNS = ("make", "list", "drop"), ("bucket", "queue")
TOOLS = tuple(Tool(f"{v}-{n}", f"{v}{n}", f"{v} {n}", f"{v} one {n} .") for v in VERBS for n in NOUNS)
QUERIES = tuple(Query(f"q-{t.tool_id}", f"please {t.title}", "vague", "train", {t.tool_id: 1}) for t in TOOLS)
CORPUS = Corpus(Catalog(TOOLS), QUERIES)
WORDS = " ".join([t.document for t in TOOLS] + [q.text for q in QUERIES]).replace(".", " . ").split()
CONFIG = Config.model_validate(
    {
        "encoder": {"warm_start_steps": 3, "steps_per_unit": 3, "pairs_per_step": 6, "mined_negatives": 0},
        "rewriter": {"sft_steps": 2, "sft_rows_per_step": 4, "dpo_steps_per_unit": 2, "pairs_per_step": 2, "lora_rank": 4},
        "placement": {
            "encoder_trainer": {"cpus": 0.5, "threads": 1},
            "rewriter_trainer": {"cpus": 0.5, "threads": 1},
        },
        "loop": {"stage_timeout_s": 120},
    }
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # The cluster's processes inherit it.
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with remote.cluster(Config(), tmp_path_factory.mktemp("run")):
            yield


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {"encoder": make_encoder(root / "encoder", WORDS), "rewriter": make_rewriter(root / "rewriter", WORDS)}


class Run:
    """A learner in a thread, its feed and its snapshots."""

    def __init__(
        self, kind: Literal["encoder", "rewriter"], base: Path, root: Path, max_failures: int, config: Config = CONFIG
    ) -> None:
        root.mkdir(exist_ok=True)
        self.kind, self.store = kind, SnapshotStore(str(root / "snapshots"))
        self.feed, self.monitor = remote.make_feed(), remote.make_monitor(root / "metrics.jsonl")
        self.corpus = remote.share(CORPUS)
        config = config.model_copy(update={"loop": config.loop.model_copy(update={"max_failures": max_failures})})
        self._fit = train_loops.fit(
            kind, config, self.corpus, base, "float32", self.store.root, str(root / "train"), self.feed, self.monitor, "one"
        )
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._fit()
        except BaseException as error:
            self.error = error

    def job(self, version: int, **more: Any) -> None:
        job = {"version": version, "unit": version - 1 if version else None, "seed": 5 + version, **more}
        remote.ask_now(self.feed.put.remote(job), 20, "the feed")

    def wait(self, version: int) -> dict[str, Any]:
        self.until(lambda: self.store.has(self.kind, version))
        return self.store.manifest(self.kind, version)

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 240
        while not true():
            assert self.error is None, self.error
            assert self.thread.is_alive() and time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        remote.ask_now(self.feed.stop.remote(), 20, "the feed")
        self.thread.join(90)
        assert not self.thread.is_alive() and self.error is None


def weights(run: Run, version: int, file: str = "model.safetensors") -> bytes:
    return (run.store.fetch(run.kind, version) / file).read_bytes()


def rewrites(root: Path) -> str:
    rows = [
        {"unit": 0, "query_id": q.query_id, "query": q.text, "sample": 0, "prompt": "p", "text": f"{q.text} one"}
        | {"token_count": 3, "finished": True, "rewriter_version": 0, "context_retriever_version": 0}
        for q in QUERIES
    ]
    datasets.write("rewrites", 0, pa.Table.from_pylist(rows, schema=REWRITES), str(root))
    return str(root)


def pairs(root: Path, rows: int) -> str:
    made = [
        {"unit": 0, "query_id": q.query_id, "prompt": q.text, "chosen": " bucket", "rejected": " queue"}
        | {"chosen_reward": 1.0, "rejected_reward": 0.0, "rewriter_version": 0, "retriever_version": 1, "reference_version": 0}
        for q in QUERIES[:rows]
    ]
    datasets.write("pairs", 0, pa.Table.from_pylist(made, schema=PAIRS), str(root))
    return str(root)


def train_worker() -> psutil.Process | None:
    for process in psutil.Process().children(recursive=True):
        if "ray::RayTrainWorker" in " ".join(process.cmdline()):
            return process
    return None


def unit_of_encoder(run: Run, data_root: str | None) -> None:
    negatives: dict[str, list[str]] = {}
    run.job(1, negatives=negatives, data_root=data_root, log=[], replay=[])


def test_encoder_trains_each_version_once_though_its_worker_is_killed(
    cluster: None, bases: dict[str, Path], tmp_path: Path
) -> None:
    root = rewrites(tmp_path / "data")
    calm = Run("encoder", bases["encoder"], tmp_path / "calm", max_failures=0)
    calm.job(0)
    assert calm.wait(0)["metrics"]["steps"] == 3
    unit_of_encoder(calm, root)
    manifest = calm.wait(1)
    assert manifest["parents"] == {"encoder": 0} and manifest["unit"] == 0 and manifest["metrics"]["worked_s"] > 0
    calm.stop()
    assert remote.ask_now(calm.feed.metrics.remote(1), 20, "the feed")["steps"] == 3

    struck = Run("encoder", bases["encoder"], tmp_path / "struck", max_failures=1)
    struck.job(0)
    struck.wait(0)
    victim = train_worker()
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    unit_of_encoder(struck, root)
    struck.wait(1)
    struck.stop()
    assert struck.store.versions("encoder") == [0, 1]
    assert weights(calm, 0) == weights(struck, 0) != weights(calm, 1) == weights(struck, 1)


def test_rewriter_publishes_weights_then_adapters_and_nothing_of_a_job_that_fails(
    cluster: None, bases: dict[str, Path], tmp_path: Path
) -> None:
    run = Run("rewriter", bases["rewriter"], tmp_path / "run", max_failures=0)
    contexts = {q.query_id: [TOOLS[0].title] for q in QUERIES}
    run.job(0, contexts=contexts)
    assert run.wait(0)["metrics"]["steps"] == 2
    run.job(1, data_root=pairs(tmp_path / "data", rows=4))
    metrics = run.wait(1)["metrics"]
    assert metrics["steps"] == 2 and metrics["pairs"] == 4 and metrics["reward_margin_last"] >= 0
    assert weights(run, 1, "adapter_model.safetensors")
    # Pairs of a unit that nobody wrote: the learner fails for good.
    run.job(2, data_root=str(tmp_path / "nothing"))
    run.thread.join(120)
    assert run.error is not None and "pairs version 1 is not in" in str(run.error)
    assert run.store.versions("rewriter") == [0, 1]


def diverging() -> Config:
    """A continual run whose units diverge, though its warm start, of no steps, does not."""
    return Config.model_validate(
        CONFIG.model_dump()
        | {
            "encoder": CONFIG.encoder.model_dump() | {"warm_start_steps": 0, "learning_rate": 1e30},
            "rewriter": CONFIG.rewriter.model_dump() | {"dpo_learning_rate": 1e30, "dpo_steps_per_unit": 4, "pairs_per_step": 1},
            "loop": CONFIG.loop.model_dump() | {"mode": "continual", "queries_per_unit": 4},
        }
    )


@pytest.mark.faults
def test_a_unit_that_diverges_is_refused_and_the_stream_goes_on(cluster: None, bases: dict[str, Path], tmp_path: Path) -> None:
    encoder = Run("encoder", bases["encoder"], tmp_path / "encoder", 0, diverging())
    encoder.job(0)
    encoder.wait(0)
    unit_of_encoder(encoder, rewrites(tmp_path / "data"))
    assert "learning rate" in encoder.wait(1)["metrics"]["refused"]
    assert weights(encoder, 0) == weights(encoder, 1)
    encoder.stop()
    rewriter = Run("rewriter", bases["rewriter"], tmp_path / "rewriter", 0, diverging())
    rewriter.job(0, contexts={q.query_id: [] for q in QUERIES})
    rewriter.wait(0)
    rewriter.job(1, data_root=pairs(tmp_path / "data", rows=4))
    assert "learning rate" in rewriter.wait(1)["metrics"]["refused"]
    rewriter.stop()
