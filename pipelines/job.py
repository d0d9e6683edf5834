"""A whole co-training run: cluster, warm start, the arms of the comparison, the table, the report.

Invariants: every step is idempotent (what is published is not made again), so running the same command again resumes the run; the
arms differ in nothing but the learners they leave out; nothing here looks at a test query before the comparison at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from actors import remote
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, Corpus, InputError, Query
from actors.models import native_precision, resolve_encoder, resolve_rewriter
from actors.monitor import Display
from actors.processes import give_back_memory, memory_by_role
from configs.load import save
from configs.schema import Config
from pipelines import catalogs, cotrain, preflight, train_loops, warm_start
from pipelines.arms import Comparison, RewriteSet
from pipelines.evaluate import snapshot_root
from pipelines.ray_stages import Handles, Learner, RayStages
from pipelines.units import COHYDE, CONFIG_FILE, ENCODER_ALONE, QTA, Arm, Planned

QUERIES_PER_CALL = 256
MEMORY_EVERY_S = 5.0
STOP_TIMEOUT_S = 60.0
FAILED_STOP_TIMEOUT_S = 3.0
"""A learner is not waited for long when the run fails or is interrupted: Ctrl-C ends everything within 20 seconds."""

BASELINES = {"encoder_alone": ENCODER_ALONE, "qta": QTA}


@dataclass(frozen=True)
class Job:
    """What all arms of a run share."""

    config: Config
    run_dir: Path
    corpus: Corpus
    shared_corpus: Any
    monitor: Any
    encoder_base: Path
    rewriter_base: Path
    precision: remote.Precision

    def root(self, arm: Arm) -> str:
        """Where the arm's snapshots and datasets go."""
        base = snapshot_root(self.config, self.run_dir).removesuffix("/snapshots")
        return base if arm == COHYDE else f"{base}/arms/{arm.name}"

    def log(self, record: dict[str, Any]) -> None:
        """Append one event to the run's metrics, fire and forget."""
        self.monitor.log.remote(record)

    @property
    def looped(self) -> list[Query]:
        """The training queries that go through the rounds."""
        return warm_start.fresh_queries(self.corpus, self.config.encoder.warm_start_share)

    @property
    def judged(self) -> list[Query]:
        """The queries that the comparison needs rewrites for."""
        return [*self.corpus.select("dev"), *self.corpus.select("test")]


def run(config: Config, known: bool, console: Console) -> Path:
    """Run, or resume (``known``), the whole job; return the report's path. Raises InputError for what the user can mend."""
    run_dir = Path(config.run_dir).absolute()
    joins = os.environ.get("RAY_ADDRESS", "local") != "local"
    if not joins:
        _print_lines(console, preflight.check(config, None))
    with console.status("Reading the catalog and its queries"):
        corpus = catalogs.load(config.catalog, config.seed)
        catalogs.check_trainable(corpus, config.catalog)
    # Reading a catalog leaves much behind, and this process lives as long as the run.
    give_back_memory()
    console.print(describe(corpus), highlight=False)
    encoder_base, rewriter_base = resolve_encoder(config.encoder.model), resolve_rewriter(config.rewriter.model)
    run_dir.mkdir(parents=True, exist_ok=True)
    save(config, run_dir / CONFIG_FILE)
    if known:
        console.print(f"Resuming the run in {config.run_dir}", highlight=False)
    with remote.cluster(config, run_dir) as cluster:
        if joins:
            _print_lines(console, preflight.check(config, cluster.resources))
        job = Job(
            config,
            run_dir,
            corpus,
            remote.share(corpus),
            remote.make_monitor(run_dir / "metrics.jsonl"),
            encoder_base,
            rewriter_base,
            native_precision(config.precision),
        )
        try:
            with Display(job.monitor, console):
                asyncio.run(_arms(job, console))
        except InputError:
            raise
        except Exception:
            # Shown before the cluster goes down: a thread of Ray's that meets the end of it ends the process without a word.
            traceback.print_exc()
            raise SystemExit(1) from None
    return Comparison(config, run_dir, corpus, job.precision).finish(console)


def describe(corpus: Corpus) -> str:
    """One line: how many tools and queries of which kind and split."""
    counts: dict[str, int] = {}
    for query in corpus.queries:
        name = f"{query.kind} {query.split}"
        counts[name] = counts.get(name, 0) + 1
    queries = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
    return f"catalog {corpus.catalog.catalog_hash}: {len(corpus.catalog.tools)} tools; queries: {queries}"


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, highlight=False)


async def _arms(job: Job, console: Console) -> None:
    sampling = asyncio.ensure_future(_sample_memory(job))
    try:
        for arm in [COHYDE, *(BASELINES[name] for name in job.config.loop.baselines)]:
            if is_finished(job, arm):
                continue
            started = time.monotonic()
            await ArmRun(job, arm, console).run()
            job.log({"event": "phase", "name": f"arm {arm.name}", "seconds": time.monotonic() - started})
    finally:
        sampling.cancel()


def is_finished(job: Job, arm: Arm) -> bool:
    """Whether an earlier part of this run did all of the arm's work."""
    store, units = SnapshotStore(f"{job.root(arm)}/snapshots"), job.config.loop.rounds
    trained = {"retriever": arm.train_encoder, "rewriter": arm.train_rewriter}
    if any(wanted and (store.latest(kind) or 0) < units for kind, wanted in trained.items()):
        return False
    return all(rewrites.path.exists() for rewrites, _, _ in rewrite_sets(job, arm))


def rewrite_sets(job: Job, arm: Arm) -> list[tuple[RewriteSet, int, int]]:
    """The rewrites of dev and test that the comparison needs of an arm: (file, rewriter version, retriever version)."""
    units = job.config.loop.rounds
    if not arm.train_rewriter:
        return []
    if arm == QTA:
        return [(RewriteSet(job.run_dir, "qta", None), units, BASE_VERSION)]
    rounds = [(RewriteSet(job.run_dir, "cohyde", number), number, number) for number in range(units + 1)]
    untrained = (RewriteSet(job.run_dir, "zero_shot", None), BASE_VERSION, BASE_VERSION)
    return [untrained, (RewriteSet(job.run_dir, "sft", None), 0, BASE_VERSION), *rounds]


async def _sample_memory(job: Job) -> None:
    while True:
        job.log({"event": "memory", **await asyncio.to_thread(memory_by_role)})
        await asyncio.sleep(MEMORY_EVERY_S)


class ArmRun:
    """One arm from its warm start to the rewrites that its comparison needs."""

    def __init__(self, job: Job, arm: Arm, console: Console) -> None:
        """Start the arm's actors (they load models at their first call)."""
        self.job, self.arm, self.console = job, arm, console
        self.store_root, self.data_root = f"{job.root(arm)}/snapshots", f"{job.root(arm)}/data"
        self.store = SnapshotStore(self.store_root)
        self.timeout_s = job.config.loop.stage_timeout_s
        config, corpus, precision = job.config, job.shared_corpus, job.precision
        self.scorer = remote.make_scorer(config, corpus, self.store_root, precision, job.monitor)
        self.builder = remote.make_index_builder(config, corpus, job.encoder_base, self.store_root, precision, job.monitor)
        self.registry = remote.make_registry(self.store_root)
        self.rewriter = None
        if arm.train_rewriter:
            self.rewriter = remote.make_rewriter(config, job.rewriter_base, self.store_root, precision, job.monitor)
        self.encoder = self._learner("encoder") if arm.train_encoder else None
        self.rewriter_learner = self._learner("rewriter") if arm.train_rewriter else None

    async def run(self) -> None:
        """Warm start (or take CoHyDE's), the loop, the rewrites for the comparison."""
        config = self.job.config
        async with self.ready() as stages:
            units = Planned(config.loop, config.seed, [q.query_id for q in self.job.looped])
            await cotrain.run(stages, units, config.loop, self.job.log, self.arm)
            await asyncio.gather(*(learner.stop(STOP_TIMEOUT_S) for learner in self.learners))
            for rewrites in rewrite_sets(self.job, self.arm):
                await self._rewrite_set(*rewrites)

    @property
    def learners(self) -> list[Learner]:
        """The learners that the arm has."""
        return [learner for learner in (self.encoder, self.rewriter_learner) if learner]

    @contextlib.asynccontextmanager
    async def ready(self) -> AsyncIterator[RayStages]:
        """The stages over warm-started models; whatever happens inside, learners and actors are ended."""
        try:
            self._take_warm_start() if self.arm != COHYDE else await self._base_retriever()
            for learner in self.learners:
                learner.start()
            if self.arm == COHYDE:
                await self._warm_start()
            handles = Handles(
                self.job.monitor, self.registry, self.scorer, self.builder, self.rewriter, self.encoder, self.rewriter_learner
            )
            yield RayStages(self.job.config, self.arm, self.job.corpus, handles, self.store_root, self.data_root)
        except BaseException:
            ended = (learner.stop(FAILED_STOP_TIMEOUT_S) for learner in self.learners if learner.future)
            await asyncio.gather(*ended, return_exceptions=True)
            raise
        finally:
            remote.end([h for h in (self.scorer, self.builder, self.registry, self.rewriter) if h is not None])

    def _learner(self, kind: Literal["encoder", "rewriter"]) -> Learner:
        feed, job = remote.make_feed(kind), self.job
        base = job.encoder_base if kind == "encoder" else job.rewriter_base
        # A name of its own: what is trained is read from the snapshots, never from an earlier fit.
        name = f"{kind}-{uuid.uuid4().hex[:8]}"
        given = (job.config, job.shared_corpus, base, job.precision, self.store_root, f"{job.root(self.arm)}/train")
        return Learner(kind, feed, train_loops.fit(kind, *given, feed, job.monitor, name))

    async def _base_retriever(self) -> None:
        if not self.store.has("retriever", BASE_VERSION):
            await self._phase("index of the frozen encoder", self._build(BASE_VERSION))

    async def _warm_start(self) -> None:
        """Version 0 of both models: InfoNCE on catalog pairs and labelled queries, SFT from query to catalog entry."""
        assert self.encoder is not None and self.rewriter_learner is not None
        warm = {"version": 0, "unit": None, "seed": self.job.config.seed}
        if not self.store.has("encoder", 0):
            await self._phase("warm start of the encoder", self._published(self.encoder, "encoder", warm))
        if not self.store.has("retriever", 0):
            await self._phase("index of the warm-started encoder", self._build(0))
        if not self.store.has("rewriter", 0):
            job = {**warm, "contexts": await self._sft_contexts()}
            await self._phase("warm start of the rewriter", self._published(self.rewriter_learner, "rewriter", job))

    async def _sft_contexts(self) -> dict[str, list[str]]:
        """Query id -> titles that the prompts of the rewriter's warm start carry."""
        settings, share = self.job.config.rewriter, self.job.config.encoder.warm_start_share
        count = settings.sft_steps * settings.sft_rows_per_step
        drawn = warm_start.sft_queries(self.job.corpus, share, count, self.job.config.seed)
        queries = list({q.query_id: q for q in drawn}.values())
        return dict(zip((q.query_id for q in queries), await self._contexts(0, queries), strict=True))

    async def _contexts(self, retriever: int, queries: Sequence[Query]) -> list[list[str]]:
        titles = self.job.config.rewriter.context_tools
        call = self.scorer.contexts.remote(retriever, [q.text for q in queries], titles)
        contexts: list[list[str]] = await remote.ask(call, self.timeout_s, "the scorer, which gives prompts their context")
        return contexts

    async def _build(self, version: int) -> dict[str, Any]:
        metrics: dict[str, Any] = await remote.ask(
            self.builder.build.remote(version), self.timeout_s, f"the index of version {version}"
        )
        return metrics

    async def _published(self, learner: Learner, kind: str, job: dict[str, Any]) -> dict[str, Any]:
        await remote.ask(learner.feed.put.remote(job), STOP_TIMEOUT_S, f"the {kind} feed")
        waiting = asyncio.ensure_future(
            remote.ask(self.registry.wait_for.remote(kind, job["version"], self.timeout_s), self.timeout_s, f"the {kind} learner")
        )
        await learner.or_its_failure(waiting)
        metrics: dict[str, Any] = self.store.manifest(kind, job["version"]).get("metrics", {})
        return metrics

    async def _phase(self, name: str, work: Any) -> None:
        started = time.monotonic()
        metrics = await work
        seconds = time.monotonic() - started
        self.job.log({"event": "phase", "name": name, "seconds": seconds, **metrics})
        self.console.print(f"{name}: {seconds:.0f} s", highlight=False)

    def _take_warm_start(self) -> None:
        """The warm start is shared: the baselines begin at CoHyDE's versions."""
        source = SnapshotStore(f"{self.job.root(COHYDE)}/snapshots")
        wanted = [("retriever", BASE_VERSION)]
        wanted += [("encoder", 0), ("retriever", 0)] if self.arm.train_encoder else []
        wanted += [("rewriter", 0)] if self.arm.train_rewriter else []
        for kind, version in wanted:
            self.store.publish(kind, version, _copy_of(source, kind, version), source.manifest(kind, version))

    async def _rewrite_set(self, kept: RewriteSet, rewriter: int, retriever: int) -> None:
        """Write the rewrites of all dev and test queries by one pair of versions, once."""
        if kept.path.exists():
            return
        started = time.monotonic()
        host: Any = self.rewriter
        queries = self.job.judged
        texts: list[list[str]] = []
        name = f"rewrites for the comparison: {kept.name}"
        for start in range(0, len(queries), QUERIES_PER_CALL):
            part = queries[start : start + QUERIES_PER_CALL]
            contexts = await self._contexts(retriever, part)
            call = host.serving_rewrites.remote(
                rewriter, [q.text for q in part], contexts, self.job.config.seed, name, start, len(queries)
            )
            texts += await remote.ask(call, self.timeout_s, "the rewriter, which rewrites dev and test queries")
        kept.write(queries, texts)
        self.job.log({"event": "phase", "name": name, "seconds": time.monotonic() - started})


def _copy_of(source: SnapshotStore, kind: str, version: int) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        fetched = source.fetch(kind, version)
        for file in fetched.rglob("*"):
            if file.is_file() and file.name not in ("READY", "manifest.json") and not file.name.startswith("PIN-"):
                target = directory / file.relative_to(fetched)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)

    return write
