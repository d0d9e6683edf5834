"""The continual mode as a job: CoHyDE's arm on units of the query log, its pairs judged by the gate.

Invariants: nothing is served but what passed the gate; the log's position is committed with the unit it fed; SIGTERM and Ctrl-C end
the job between two commits, and the same command goes on from the newest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from actors import found, memory, remote
from actors.core.types import BASE_VERSION, LABELLED_KINDS, Found
from actors.releases import Releases
from actors.run_dir import OpenedRelease
from configs.schema import Config
from pipelines import cotrain, job, report
from pipelines.adopt import open_start
from pipelines.arm_run import STOP_TIMEOUT_S, ArmRun
from pipelines.job import Job
from pipelines.online.drift_watch import DriftWatch
from pipelines.online.forgetting import requests
from pipelines.online.gatekeeper import Gatekeeper
from pipelines.online.intake import DeadLetters, Intake
from pipelines.online.redaction import redact
from pipelines.online.rereading import Rereading
from pipelines.online.stream_units import StreamUnits, limits
from pipelines.streams import Source
from pipelines.streams.open import open_source
from pipelines.units import COHYDE

DEAD_LETTERS = "dead-letters.jsonl"


def run(config: Config, known: bool, console: Console) -> None:
    """Train on the log until the configured number of units, or until ended. Raises InputError for what the user can mend."""
    # Opened before anything starts: a log that cannot be read ends the job at once.
    source = open_source(config.stream)
    try:
        done = job.run(config, known, console, lambda shared, told: _train(shared, told, source))
    finally:
        source.close()
    console.print(f"Report: {report.write(done.run_dir)}", highlight=False, soft_wrap=True)


async def _train(shared: Job, console: Console, source: Source) -> None:
    arm = ArmRun(shared, COHYDE, console)
    async with arm.ready() as stages:
        judge = remote.make_scorer(shared.config, shared.shared_corpus, arm.store_root, shared.precision, shared.monitor)
        start = open_start(shared.config)
        reranker = None
        if start and start.rerank_weight:
            reranker = remote.make_reranker(shared.config, arm.store_root, shared.precision, shared.monitor)
        intake = _intake(shared, arm, source)
        stages.gatekeeper = _gatekeeper(shared, arm, judge, reranker, start, intake)
        labelled = [q.query_id for q in shared.looped]
        units = StreamUnits(intake, labelled, shared.config, stages.admit, _drift_watch(shared, judge))
        console.print(f"reading the query log: {shared.config.stream.source} {shared.config.stream.address}", highlight=False)
        try:
            await stages.gatekeeper.judge(0)
            await cotrain.run(stages, units, shared.config.loop, shared.log, COHYDE, gate=True)
            await asyncio.gather(*(learner.stop(STOP_TIMEOUT_S) for learner in arm.learners))
        finally:
            units.stop()
            remote.end([judge, *([reranker] if reranker else [])])


def _intake(shared: Job, arm: ArmRun, source: Source) -> Intake:
    def told(status: dict[str, Any]) -> None:
        shared.log({"event": "intake", **status})

    known = shared.corpus.catalog.by_id
    dead = DeadLetters(Path(shared.run_dir) / DEAD_LETTERS)
    root = shared.root(COHYDE)

    def publish(users_found: list[Found]) -> None:
        found.publish(root, users_found)

    return Intake(source, arm.store, limits(shared.config), known.__contains__, redact, dead, told, publish, lambda: requests(root))


def _gatekeeper(shared: Job, arm: ArmRun, judge: Any, reranker: Any, start: OpenedRelease | None, intake: Intake) -> Gatekeeper:
    """``reranker``: a handle to ``RerankerHost``; None where the release that the run started from has none that is used."""
    releases = Releases(arm.store, f"{shared.root(COHYDE)}/releases")

    async def ask(reference: Any, whom: str) -> Any:
        return await remote.ask(reference, shared.config.loop.stage_timeout_s, whom)

    rereading = None
    if reranker is not None:
        corpus, depth = shared.corpus, shared.config.retrieval.rerank_depth
        rereading = Rereading(corpus.select("dev", LABELLED_KINDS), corpus.catalog.by_id, depth, judge, reranker, ask)
    if start and start.memory_weight:
        found.publish(shared.root(COHYDE), memory.labelled(shared.corpus.select("train", LABELLED_KINDS)), found.LABELS)
    return Gatekeeper(shared.config, shared.corpus, releases, arm.rewriter, judge, ask, lambda: intake.held_out, start, rereading)


def _drift_watch(shared: Job, judge: Any) -> DriftWatch:
    def embed(texts: Sequence[str]) -> Any:
        asked = judge.vectors.remote(BASE_VERSION, list(texts))
        return remote.ask_now(asked, shared.config.loop.stage_timeout_s, "the gate's scorer, which embeds what users asked")

    return DriftWatch(embed, shared.config.stream.drift_p_value, lambda figures: shared.log({"event": "drift", **figures}))
