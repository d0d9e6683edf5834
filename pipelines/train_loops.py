"""The learners on Ray Train: one long-lived ``TorchTrainer.fit`` each, whose training function takes job after job from a feed.

A job: {"version", "unit", "seed"}, and for the encoder {"negatives": query id -> tool ids, "data_root": where
rewrites(u) are, or None where the arm has none}, for the rewriter {"data_root": where pairs(u) are}. A job of version 0 is the
warm start: the encoder's needs {"version", "seed"}, the rewriter's {"version", "seed", "contexts": query id -> titles}. The
reranker's only job is like the encoder's first.

Invariants: a version is published (weights, optimizer state and number in one rename, READY last) before it is reported, and the
feed is asked for the version after the newest published one; so a job is trained into the weights exactly once, whatever dies, and
the same way whether or not the process was started anew. Train's checkpoints only name the version. Nothing is published of a job
that raised; where training diverges on a unit of the query log, that unit is refused: the state before it is published again, with
the reason, and the stream goes on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import ray
import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from actors import remote
from actors.core.prompts import catalog_entry, rewrite_prompt
from actors.core.replay import copies, example_from
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, Corpus
from actors.interfaces import Progress
from actors.monitor import Reporter, memory_mb
from actors.processes import give_back_memory
from actors.run_dir import RERANKER
from configs.schema import Config, Placement
from pipelines import datasets, warm_start
from pipelines.catalogs import requests

Kind = Literal["encoder", "rewriter", "reranker"]
Job = Mapping[str, Any]
Train = Callable[[Job, int, Path, Progress], dict[str, Any]]
"""(job, newest published version, empty directory, progress): trains and writes the new version; returns metrics."""

CONTROL_TIMEOUT_S = 60.0
ASK_AGAIN_S = 60.0
"""How long the feed may hold a question; how long a stage may take is the loop's affair."""
VERSION_FILE = "version.txt"
CHECKPOINTS_KEPT = 2


def fit(
    kind: Kind,
    config: Config,
    corpus: Any,
    base_dir: Path,
    precision: remote.Precision,
    store_root: str,
    train_root: str,
    feed: Any,
    monitor: Any,
    name: str,
) -> Callable[[], None]:
    """A call that runs a learner until its feed says stop; it blocks (give it a thread) and raises what training raised.

    ``corpus`` is a reference to a ``Corpus`` (``remote.share``), ``feed`` and ``monitor`` are actor handles. Train keeps its
    checkpoints, a number each, under ``train_root/name``. A worker that died is started again ``loop.max_failures`` times.
    """
    place = config.placement.encoder_trainer if kind == "encoder" else config.placement.rewriter_trainer
    loop_config = {
        "config": config.model_dump(mode="json"),
        "corpus": [corpus],
        "base_dir": str(base_dir),
        "precision": precision,
        "store_root": store_root,
        "feed": feed,
        "monitor": monitor,
        "threads": place.threads,
    }
    loops = {"encoder": encoder_loop, "rewriter": rewriter_loop, RERANKER: reranker_loop}
    trainer = TorchTrainer(
        loops[kind],
        train_loop_config=loop_config,
        scaling_config=_scaling(place),
        run_config=RunConfig(  # type: ignore[call-arg]  # its types are those of Train V1
            name=name,
            storage_path=train_root,
            failure_config=FailureConfig(max_failures=config.loop.max_failures),
            # They name a version and hold nothing else; a run may have no end.
            checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
            worker_runtime_env={"env_vars": remote.thread_environment(place.threads)},
        ),
    )

    def run() -> None:
        trainer.fit()

    return run


def encoder_loop(loop_config: dict[str, Any]) -> None:
    """Ray Train's function of the encoder: publishes "encoder" snapshots, which hold weights and moments."""
    from actors.encoder_trainer import EncoderTrainer
    from actors.training import TrainingDiverged

    config, corpus = Config.model_validate(loop_config["config"]), _corpus(loop_config)
    store = SnapshotStore(loop_config["store_root"])
    place = (Path(loop_config["base_dir"]), loop_config["precision"], loop_config["threads"])
    given = (config.encoder, corpus.catalog, *place, requests.of_any_kind())

    def train(job: Job, done: int, directory: Path, progress: Progress) -> dict[str, Any]:
        # Made anew for each job: between jobs this process holds no weights while others need the memory.
        trainer = EncoderTrainer(*given)
        if done > BASE_VERSION:
            trainer.load(store.fetch("encoder", done))
        if job["version"] == 0:
            steps = config.encoder.warm_start_steps
            rows, shares = warm_start.encoder_warm_start(corpus, config.encoder.warm_start_share)
        else:
            steps = config.encoder.steps_per_unit
            rewrites = _rewrites(job) if job["data_root"] else []
            log, replay = (copies([example_from(record) for record in job[name]], job["seed"]) for name in ("log", "replay"))
            share = 1.0 - config.stream.labelled_share
            rows, shares = warm_start.encoder_unit(corpus, rewrites, job["negatives"], config.encoder, log, share, replay)
        try:
            averaging = 0.0 if job["version"] == 0 else config.encoder.averaging
            metrics = trainer.train(rows, shares, steps, job["seed"], progress, averaging)
        except TrainingDiverged as error:
            if config.loop.mode == "rounds" or done == BASE_VERSION:
                raise
            metrics = {"steps": 0, "refused": str(error)}
            trainer.load(store.fetch("encoder", done))
        trainer.save(directory)
        return metrics

    _serve_jobs("encoder", loop_config, store, train)


def rewriter_loop(loop_config: dict[str, Any]) -> None:
    """Ray Train's function of the rewriter: publishes "rewriter" snapshots, 0 with full weights, later ones adapters on it."""
    from transformers import AutoTokenizer

    from actors.rewriter_trainer import RewriterTrainer
    from actors.training import TrainingDiverged

    config, corpus = Config.model_validate(loop_config["config"]), _corpus(loop_config)
    settings, base_dir = config.rewriter, Path(loop_config["base_dir"])
    store = SnapshotStore(loop_config["store_root"])
    trainer = RewriterTrainer(settings, loop_config["precision"], loop_config["threads"])

    def train(job: Job, done: int, directory: Path, progress: Progress) -> dict[str, Any]:
        if job["version"] == 0:
            tokenizer: Any = AutoTokenizer.from_pretrained(base_dir)
            count = settings.sft_steps * settings.sft_rows_per_step
            rows = warm_start.sft_rows(
                warm_start.sft_queries(corpus, config.encoder.warm_start_share, count, job["seed"]),
                job["contexts"],
                lambda query, titles: rewrite_prompt(query, titles, tokenizer, settings.prompt_tokens),
                lambda tool_id: catalog_entry(corpus.catalog.by_id[tool_id]),
            )
            return trainer.sft(base_dir, [(row.prompt, row.target) for row in rows], directory, job["seed"], progress)
        adapter = store.fetch("rewriter", done) if done > 0 else None
        pairs = datasets.read("pairs", job["unit"], job["data_root"]).to_pylist()
        given = (store.fetch("rewriter", 0), adapter)
        try:
            return trainer.dpo(*given, pairs, directory, job["seed"], progress)
        except TrainingDiverged as error:
            if config.loop.mode == "rounds":
                raise
            return trainer.dpo(*given, [], directory, job["seed"], progress) | {"refused": str(error)}

    _serve_jobs("rewriter", loop_config, store, train)


def reranker_loop(loop_config: dict[str, Any]) -> None:
    """Ray Train's function of the rewriter turned round: publishes the one "reranker" snapshot, full weights."""
    from actors.rewriter_trainer import RewriterTrainer

    config, corpus = Config.model_validate(loop_config["config"]), _corpus(loop_config)
    trainer = RewriterTrainer(config.rewriter, loop_config["precision"], loop_config["threads"])

    def train(job: Job, done: int, directory: Path, progress: Progress) -> dict[str, Any]:
        rows = warm_start.turned_rows(corpus, config.rewriter.rerank_rows, job["seed"])
        given = [(row.prompt, row.target) for row in rows]
        return trainer.sft(Path(loop_config["base_dir"]), given, directory, job["seed"], progress)

    _serve_jobs(RERANKER, loop_config, SnapshotStore(loop_config["store_root"]), train)


def _serve_jobs(kind: Kind, loop_config: Mapping[str, Any], store: SnapshotStore, train: Train) -> None:
    """Take jobs until the feed says stop; publish and report each."""
    feed = loop_config["feed"]
    report = Reporter(loop_config["monitor"]).stage(f"train {kind}")
    while True:
        newest = store.latest(kind)
        done = BASE_VERSION if newest is None else newest
        asked = feed.next.remote(done, ASK_AGAIN_S)
        job: dict[str, Any] = remote.ask_now(asked, ASK_AGAIN_S + CONTROL_TIMEOUT_S, f"the {kind} feed")
        if job.get("wait"):
            continue
        if job.get("stop"):
            return
        metrics = _publish(kind, store, job, done, train, report)
        remote.ask_now(feed.finished.remote(job["version"], metrics), CONTROL_TIMEOUT_S, f"the {kind} feed")
        _report(job["version"], metrics)
        give_back_memory()


def _publish(kind: Kind, store: SnapshotStore, job: Job, done: int, train: Train, progress: Progress) -> dict[str, Any]:
    """Train a job and publish what it made; return its metrics."""
    metrics: dict[str, Any] = {}

    def write(directory: Path) -> None:
        started = time.monotonic()
        metrics.update(train(job, done, directory, progress))
        metrics.update(worked_s=time.monotonic() - started, memory_mb=memory_mb())

    # The manifest is written after ``write``, so it holds the metrics.
    store.publish(kind, job["version"], write, {"parents": {kind: done}, "unit": job.get("unit"), "metrics": metrics})
    return metrics


def _report(version: int, metrics: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="cohyde-") as directory:
        (Path(directory) / VERSION_FILE).write_text(str(version))
        figures = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        ray.train.report({"version": version, **figures}, checkpoint=Checkpoint.from_directory(directory))


def _rewrites(job: Job) -> list[tuple[str, str]]:
    rows = datasets.read("rewrites", job["unit"], job["data_root"])
    return list(zip(rows["query_id"].to_pylist(), rows["text"].to_pylist(), strict=True))


def _corpus(loop_config: Mapping[str, Any]) -> Corpus:
    what = "the object store, which holds the corpus"
    corpus: Corpus = remote.ask_now(loop_config["corpus"][0], remote.START_TIMEOUT_S, what)
    return corpus


def _scaling(place: Placement) -> ScalingConfig:
    return ScalingConfig(
        num_workers=1,
        use_gpu=place.gpus > 0,
        resources_per_worker={"CPU": place.cpus, **({"GPU": place.gpus} if place.gpus else {})},
    )
