"""The ``Stages`` of the loop over actor handles: Ray Data between the stages, feeds and snapshots towards the learners.

Invariants: a stage whose output is published does nothing; what is published was made by exactly the versions the loop asked for;
a stage that has to wait for a learner fails as soon as the learner does, with the learner's own traceback; whatever blocks runs in
a daemon thread, so that a cancelled stage never holds up the end of the process.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from actors import remote
from actors.core.replay import Example, query_of
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, LABELLED_KINDS, Corpus, Query, Unit
from actors.processes import give_back_memory
from configs.schema import Config
from pipelines import datasets, stages
from pipelines.online.gatekeeper import Gatekeeper
from pipelines.threads import in_thread
from pipelines.units import Arm

QUERIES_PER_BLOCK = 128
"""Queries that an actor is given at once: enough to fill the engine, few enough that a restarted actor repeats little."""
WAIT_S = 5.0
"""A stage that waits for a learner offers its job again this often: a restarted feed has forgotten it."""
CONTROL_TIMEOUT_S = 60.0
"""Deadline of calls that do no work; an actor that restarts meanwhile answers after some seconds."""
ENCODER_STATES_KEPT = 2
KEPT_UNITS = 4
"""Units whose snapshots and records stay beside those in flight (continual mode)."""
LABELLED_MINED = 512
"""Labelled queries that hard negatives are mined for in a small unit: more than its batches hold."""
UNITS_IN_FLIGHT = 8
"""Far more than any lag lets be under way."""

Result = TypeVar("Result")


class LearnerEnded(RuntimeError):
    """A learner's training function returned before the loop was done with it."""


@dataclass
class Learner:
    """One long-lived training function and the feed it takes its jobs from.

    ``fit`` blocks until a stop job, and raises what training raised.
    """

    name: str
    feed: Any
    fit: Callable[[], Any]
    future: asyncio.Future[Any] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start ``fit`` in a thread of its own; call inside the loop's event loop."""
        self.future = in_thread(self.fit, f"{self.name}-fit")

    async def stop(self, timeout_s: float) -> None:
        """Send the stop job and wait for the end of ``fit`` for ``timeout_s`` at most."""
        await remote.ask(self.feed.stop.remote(), timeout_s, f"the {self.name} feed")
        if self.future is not None:
            await asyncio.wait([self.future], timeout=timeout_s)

    async def or_its_failure(self, awaited: asyncio.Future[Result]) -> Result:
        """The result of ``awaited``, unless the learner ends before. Raises what ``fit`` raised, or ``LearnerEnded``."""
        if self.future is None:
            raise LearnerEnded(f"the {self.name} learner was not started")
        try:
            await asyncio.wait([awaited, self.future], return_when=asyncio.FIRST_COMPLETED)
            if not awaited.done():
                self.future.result()
                raise LearnerEnded(f"the {self.name} learner ended before it was told to")
            return awaited.result()
        finally:
            awaited.cancel()


@dataclass(frozen=True)
class Handles:
    """Handles of the actors of one arm; what an arm does not use is None."""

    monitor: Any
    registry: Any
    scorer: Any
    index_builder: Any
    rewriter: Any
    encoder: Learner | None
    rewriter_learner: Learner | None


class RayStages:
    """``Stages`` for one arm, with its own store of snapshots and root of datasets."""

    def __init__(self, config: Config, arm: Arm, corpus: Corpus, handles: Handles, store_root: str, data_root: str) -> None:
        """``store_root`` and ``data_root`` are local paths or URIs that every node reaches."""
        self.config, self.arm, self.handles, self.data_root = config, arm, handles, data_root
        self.store = SnapshotStore(store_root)
        self.queries: dict[str, Query] = {query.query_id: query for query in corpus.queries}
        self.examples: dict[int, Sequence[Example]] = {}
        self.reservoir: dict[int, Sequence[Example]] = {}
        self.gatekeeper: Gatekeeper | None = None
        datasets.configure()

    async def judge(self, version: int) -> dict[str, Any]:
        """Hand the pair of ``version`` to the gate."""
        if self.gatekeeper is None:
            raise ValueError("this run has no gate")
        result = await self.gatekeeper.judge(version)
        self._collect()
        return result

    def admit(self, index: int, examples: Sequence[Example], reservoir: Sequence[Example]) -> None:
        """Take in what unit ``index`` got from users, and drop what earlier units got that are through the loop."""
        self.examples[index], self.reservoir[index] = examples, reservoir
        for done in [i for i in self.examples if i < index - UNITS_IN_FLIGHT]:
            self.reservoir.pop(done)
            for example in self.examples.pop(done):
                self.queries.pop(example.example_id, None)
        # Last: what comes back from the reservoir stays known.
        self.queries |= {e.example_id: query_of(e) for held in self.examples.values() for e in held}

    async def latest(self) -> tuple[int, int]:
        """Newest published versions; the arm's fixed one for a retriever that is not trained."""
        rewriter = await self._ask(self.handles.registry.latest.remote("rewriter"), "the registry")
        retriever = self.arm.fixed_retriever
        if self.arm.train_encoder:
            newest = await self._ask(self.handles.registry.latest.remote("retriever"), "the registry")
            retriever = BASE_VERSION if newest is None else newest
        return (BASE_VERSION if rewriter is None else rewriter), retriever

    async def progress(self) -> int:
        """The monitor's count of moves."""
        snapshot = await self._ask(self.handles.monitor.snapshot.remote(), "the monitor")
        return int(snapshot["moves"])

    async def generate(self, unit: Unit, rewriter_version: int) -> dict[str, Any]:
        """Publish rewrites(u): the unit's queries through the rewriter, with contexts from the newest retriever.

        In rounds the contexts stay the warm start's, which left these queries out: later retrievers were trained on them and would
        put the right tool first more often than they do for a new query, which would teach the rewriter to copy.
        """
        contexts = None
        if self.config.rewriter.context_tools:
            newest = (await self.latest())[1]
            contexts = min(newest, 0) if self.config.loop.mode == "rounds" else newest
        loaded = {}
        if not datasets.exists("rewrites", unit.index, self.data_root):
            loaded = {"load_s": await self._prepare(self.handles.rewriter, rewriter_version, "rewriter")}
        return loaded | await in_thread(lambda: self._generate(unit, rewriter_version, contexts), "generate")

    async def score(self, unit: Unit, retriever_version: int) -> dict[str, Any]:
        """Publish scored(u) and pairs(u)."""
        loaded = {}
        if not datasets.exists("scored", unit.index, self.data_root):
            loaded = {"load_s": await self._prepare(self.handles.scorer, retriever_version, "scorer")}
        return loaded | await in_thread(lambda: self._score(unit, retriever_version), "score")

    async def train_encoder(self, unit: Unit) -> dict[str, Any]:
        """Have the learner make encoder u + 1."""
        version = unit.index + 1
        if self.store.has("encoder", version):
            return {}
        mined_by = min(unit.index, (await self.latest())[1])
        negatives = await in_thread(lambda: self._negatives(unit, mined_by), "negatives")
        log = [asdict(example) for example in self.examples.get(unit.index, ())]
        own = {example["example_id"] for example in log}
        replay = [asdict(e) for e in self.reservoir.get(unit.index, ()) if e.example_id not in own]
        root = self.data_root if self.arm.train_rewriter else None
        job = self._job(unit) | {"negatives": negatives, "data_root": root, "log": log, "replay": replay}
        return await self._learn(self.handles.encoder, "encoder", job)

    async def build_index(self, unit: Unit) -> dict[str, Any]:
        """Have the index builder make retriever u + 1."""
        version = unit.index + 1
        build = self.handles.index_builder.build.remote(version)
        whom = f"the index builder, which builds retriever {version}"
        built: dict[str, Any] = await remote.ask(build, self.config.loop.stage_timeout_s, whom)
        if self.store.has("encoder", 0):
            self.store.pin("encoder", 0, "warm-start")
        self.store.collect("encoder", keep=ENCODER_STATES_KEPT + self.config.loop.max_rewriter_lag)
        return built

    async def train_rewriter(self, unit: Unit) -> dict[str, Any]:
        """Have the learner make rewriter u + 1 from pairs(u)."""
        return await self._learn(self.handles.rewriter_learner, "rewriter", self._job(unit) | {"data_root": self.data_root})

    def _collect(self) -> None:
        """Drop snapshots and records that no later unit reads; what was ever served is pinned and stays."""
        kept = KEPT_UNITS + self.config.loop.max_rewriter_lag + self.config.loop.max_retriever_lag
        for kind, start in (("rewriter", 0), ("retriever", 0), ("retriever", BASE_VERSION)):
            self.store.pin(kind, start, "start")
        records = SnapshotStore(self.data_root)
        for store, kinds in ((self.store, ("rewriter", "retriever", "intake")), (records, ("rewrites", "scored", "pairs"))):
            for kind in kinds:
                store.collect(kind, kept)
        # The driver may live for days: what a unit freed goes back to the system.
        give_back_memory()

    def _generate(self, unit: Unit, version: int, context_version: int | None) -> dict[str, Any]:
        if not datasets.exists("rewrites", unit.index, self.data_root):
            blocks = stages.query_blocks(unit, self.queries, QUERIES_PER_BLOCK)
            rewriter, scorer, total = self.handles.rewriter, self.handles.scorer, len(unit.query_ids)
            settings, limit = self.config.rewriter, self.config.loop.stage_timeout_s

            def rewrite(block: pa.Table) -> pa.Table:
                texts, done = block["query"].to_pylist(), block["position"][0].as_py()
                contexts: list[list[str]] = [[] for _ in texts]
                if context_version is not None:
                    asked = scorer.contexts.remote(context_version, texts, settings.context_tools)
                    contexts = remote.ask_now(asked, limit, "the scorer, which gives prompts their context")
                asked = rewriter.rewrite.remote(version, texts, contexts, unit.seed + done, done=done, total=total)
                prompts, completions = remote.ask_now(asked, limit, f"the rewriter, which generates for unit {unit.index}")
                return stages.rewrite_rows(unit, block, prompts, completions, version, context_version)

            datasets.write("rewrites", unit.index, datasets.map_blocks(blocks, rewrite), self.data_root)
        return stages.rewrite_metrics(datasets.read("rewrites", unit.index, self.data_root))

    def _score(self, unit: Unit, version: int) -> dict[str, Any]:
        if not datasets.exists("scored", unit.index, self.data_root):
            rewrites = datasets.read("rewrites", unit.index, self.data_root)
            position = {query_id: i for i, query_id in enumerate(unit.query_ids)}
            scorer, queries, limit = self.handles.scorer, self.queries, self.config.loop.stage_timeout_s
            asked_queries = {q: queries[q] for q in unit.query_ids}

            def judge(block: pa.Table) -> pa.Table:
                rewritten = stages.completions_by_query(block)
                done = position[next(iter(rewritten))]
                wanted = [asked_queries[q] for q in rewritten]
                asked = scorer.score.remote(version, wanted, list(rewritten.values()), done, len(position))
                scores = remote.ask_now(asked, limit, f"the scorer, which scores unit {unit.index}")
                return stages.score_rows(block, scores, version)

            blocks = stages.whole_query_blocks(rewrites, QUERIES_PER_BLOCK)
            datasets.write("scored", unit.index, datasets.map_blocks(blocks, judge), self.data_root)
        scored = datasets.read("scored", unit.index, self.data_root)
        if not datasets.exists("pairs", unit.index, self.data_root):
            # DPO's reference is the adapter switched off: the warm start.
            datasets.write("pairs", unit.index, stages.pair_rows(scored, self.config.rewriter, 0), self.data_root)
        return stages.score_metrics(scored, datasets.read("pairs", unit.index, self.data_root))

    def _negatives(self, unit: Unit, version: int) -> dict[str, list[str]]:
        """Hard negatives by retriever ``version``: of all labelled queries; where units are small, of some and the unit's own."""
        count = self.config.encoder.mined_negatives
        if not count:
            return {}
        wanted = [q for q in self.queries.values() if q.split == "train" and q.kind in LABELLED_KINDS]
        if self.config.loop.mode == "continual":
            wanted = random.Random(unit.seed).sample(wanted, min(LABELLED_MINED, len(wanted)))
            wanted = list({q.query_id: q for q in [*wanted, *(self.queries[query_id] for query_id in unit.query_ids)]}.values())
        asked = self.handles.scorer.mine_negatives.remote(version, wanted, count)
        mined = remote.ask_now(asked, self.config.loop.stage_timeout_s, "the scorer, which mines negatives")
        return dict(zip((q.query_id for q in wanted), mined, strict=True))

    def _job(self, unit: Unit) -> dict[str, Any]:
        return {"version": unit.index + 1, "unit": unit.index, "seed": unit.seed}

    async def _learn(self, learner: Learner | None, kind: str, job: dict[str, Any]) -> dict[str, Any]:
        """Offer the job until its version is published; fail as soon as the learner does."""
        if learner is None:
            raise LearnerEnded(f"arm {self.arm.name} has no {kind} learner")
        version, deadline = job["version"], time.monotonic() + self.config.loop.stage_timeout_s
        while not self.store.has(kind, version):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the {kind} learner did not publish version {version} in {self.config.loop.stage_timeout_s} s")
            await self._ask(learner.feed.put.remote(job), f"the {kind} feed")
            waiting = asyncio.ensure_future(self._published(kind, version))
            await learner.or_its_failure(waiting)
        metrics: dict[str, Any] = self.store.manifest(kind, version).get("metrics", {})
        return metrics

    async def _published(self, kind: str, version: int) -> bool:
        """Whether the version is published within ``WAIT_S``."""
        try:
            await self._ask(self.handles.registry.wait_for.remote(kind, version, WAIT_S), "the registry")
        except TimeoutError:
            return False
        return True

    async def _prepare(self, host: Any, version: int, whom: str) -> float:
        """Have a host load a version, outside Ray Data, which would bury its error under its own; return the seconds."""
        loading = host.prepare.remote(version)
        seconds = await remote.ask(loading, self.config.loop.stage_timeout_s, f"the {whom}, which loads version {version}")
        return float(seconds)

    async def _ask(self, reference: Any, whom: str) -> Any:
        return await remote.ask(reference, CONTROL_TIMEOUT_S, whom)
