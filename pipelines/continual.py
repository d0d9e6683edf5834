"""The continual mode as a job: CoHyDE's arm on units of the query log, its pairs judged by the gate.

Invariants: nothing is served but what passed the gate; the log's position is committed with the unit it fed; SIGTERM and Ctrl-C end
the job between two commits, and the same command goes on from the newest.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from actors import remote
from actors.releases import Releases
from pipelines import cotrain
from pipelines.gatekeeper import Gatekeeper
from pipelines.intake import DeadLetters, Intake
from pipelines.job import ArmRun, Job
from pipelines.ray_stages import RayStages
from pipelines.redaction import redact
from pipelines.stream_units import StreamUnits, limits
from pipelines.streams.open import open_source
from pipelines.units import COHYDE

DEAD_LETTERS = "dead-letters.jsonl"


async def run(job: Job, console: Console) -> None:
    """Train on the log until the configured number of units, or for ever."""
    arm = ArmRun(job, COHYDE, console)
    async with arm.ready() as stages:
        source = open_source(job.config.stream)
        judge = remote.make_scorer(job.config, job.shared_corpus, arm.store_root, job.precision, job.monitor)
        try:
            intake = _intake(job, arm, source)
            stages.gatekeeper = _gatekeeper(job, arm, stages, judge, intake)
            units = StreamUnits(intake, [q.query_id for q in job.looped], job.config, stages.admit)
            try:
                await cotrain.run(stages, units, job.config.loop, job.log, COHYDE)
            finally:
                units.stop()
        finally:
            source.close()
            remote.end([judge])


def _intake(job: Job, arm: ArmRun, source: object) -> Intake:
    known = job.corpus.catalog.by_id
    dead = DeadLetters(Path(job.run_dir) / DEAD_LETTERS)
    return Intake(source, arm.store, limits(job.config), known.__contains__, redact, dead)  # type: ignore[arg-type]


def _gatekeeper(job: Job, arm: ArmRun, stages: RayStages, judge: object, intake: Intake) -> Gatekeeper:
    releases = Releases(arm.store, f"{job.root(COHYDE)}/releases")

    async def ask(reference: object, whom: str) -> object:
        return await remote.ask(reference, job.config.loop.stage_timeout_s, whom)

    return Gatekeeper(job.config, job.corpus, releases, arm.rewriter, judge, ask, lambda: intake.held_out)
