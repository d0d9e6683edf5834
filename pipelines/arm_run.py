"""One arm of a run: its actors, the versions it starts from, its end.

Invariants: what is published is not made again, so a run that is started again goes on; the arms share one warm start; learners and
actors are ended whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from rich.console import Console

from actors import remote
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, Query
from actors.processes import give_back_memory
from actors.run_dir import RERANKER
from pipelines import train_loops, warm_start
from pipelines.adopt import adopt_encoder, adopt_reranker, adopt_rewriter, copy_files, open_start
from pipelines.job import Job
from pipelines.ray_stages import Handles, Learner, RayStages
from pipelines.units import COHYDE, Arm

STOP_TIMEOUT_S = 60.0
FAILED_STOP_TIMEOUT_S = 3.0
"""A learner is not waited for long when the run fails or is interrupted: Ctrl-C ends everything within 20 seconds."""


class ArmRun:
    """The actors of one arm, and version 0 of what it trains."""

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
        self.reranker_learner: Learner | None = None

    @property
    def learners(self) -> list[Learner]:
        """The learners that the arm has now."""
        return [learner for learner in (self.encoder, self.rewriter_learner, self.reranker_learner) if learner]

    @contextlib.asynccontextmanager
    async def ready(self) -> AsyncIterator[RayStages]:
        """The stages over warm-started models; whatever happens inside, learners and actors are ended."""
        try:
            is_main = self.arm.name == COHYDE.name
            if is_main:
                await self._base_retriever()
                await self._reranker()
            else:
                self._take_warm_start()
            for learner in self.learners:
                learner.start()
            if is_main:
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

    def _learner(self, kind: train_loops.Kind) -> Learner:
        feed, job = remote.make_feed(), self.job
        base = job.encoder_base if kind == "encoder" else job.rewriter_base
        # A name of its own: what is trained is read from the snapshots, never from an earlier fit.
        name = f"{kind}-{uuid.uuid4().hex[:8]}"
        given = (job.config, job.shared_corpus, base, job.precision, self.store_root, f"{job.root(self.arm)}/train")
        return Learner(kind, feed, train_loops.fit(kind, *given, feed, job.monitor, name))

    async def _base_retriever(self) -> None:
        if not self.store.has("retriever", BASE_VERSION):
            await self._phase("index of the frozen encoder", self._build(BASE_VERSION))

    async def _warm_start(self) -> None:
        """Version 0 of both models: InfoNCE on catalog pairs and labelled queries, SFT from query to catalog entry.

        Or another run's release, where the configuration names one.
        """
        assert self.rewriter_learner is not None
        release = open_start(self.job.config)
        if release is not None:
            if self.encoder:
                adopt_encoder(release, self.store)
            adopt_rewriter(release, self.store, self.job.rewriter_base)
            adopt_reranker(release, self.store)
            give_back_memory()
        warm = {"version": 0, "unit": None, "seed": self.job.config.seed}
        if self.encoder and not self.store.has("encoder", 0):
            await self._phase("warm start of the encoder", self._published(self.encoder, "encoder", warm))
        if self.encoder and not self.store.has("retriever", 0):
            await self._phase("index of the warm-started encoder", self._build(0))
        if not self.store.has("rewriter", 0):
            job = {**warm, "contexts": await self._sft_contexts()}
            await self._phase("warm start of the rewriter", self._published(self.rewriter_learner, "rewriter", job))

    async def _reranker(self) -> None:
        """Train the rewriter turned round, once, before the other learners start: it takes the rewriter trainer's place."""
        if not self.job.config.rewriter.rerank_rows or self.store.has(RERANKER, 0):
            return
        learner = self.reranker_learner = self._learner(RERANKER)
        learner.start()
        job = {"version": 0, "unit": None, "seed": self.job.config.seed}
        await self._phase("training of the reranker", self._published(learner, RERANKER, job))
        await learner.stop(STOP_TIMEOUT_S)
        self.reranker_learner = None

    async def _sft_contexts(self) -> dict[str, list[str]]:
        """Query id -> titles that the prompts of the rewriter's warm start carry."""
        settings, share = self.job.config.rewriter, self.job.config.encoder.warm_start_share
        count = settings.sft_steps * settings.sft_rows_per_step
        drawn = warm_start.sft_queries(self.job.corpus, share, count, self.job.config.seed)
        queries = list({q.query_id: q for q in drawn}.values())
        by = 0 if self.arm.train_encoder else self.arm.fixed_retriever
        return dict(zip((q.query_id for q in queries), await self.contexts(by, queries), strict=True))

    async def contexts(self, retriever: int, queries: Sequence[Query]) -> list[list[str]]:
        """Titles of the first tools of each query by a retriever: what prompts carry."""
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
            fetched = source.fetch(kind, version)
            self.store.publish(kind, version, partial(copy_files, fetched), source.manifest(kind, version))
