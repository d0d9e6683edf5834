"""The rounds mode as a job: CoHyDE and the trained baselines of its comparison, the table, the report.

Invariants: the arms differ in nothing but the learners they leave out; nothing here looks at a test query before the comparison at
the end, but for the rewrites that it needs.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from actors import remote
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, Query
from configs.schema import Config
from pipelines import cotrain, job
from pipelines.arm_run import STOP_TIMEOUT_S, ArmRun
from pipelines.comparison.arms import Comparison
from pipelines.comparison.rewrite_sets import RewriteSet
from pipelines.job import Job
from pipelines.units import ENCODER_ALONE, QTA, Arm, Planned, main_arm

QUERIES_PER_CALL = 256
BASELINES = {"encoder_alone": ENCODER_ALONE, "qta": QTA}


def run(config: Config, known: bool, console: Console) -> Path:
    """Run, or resume (``known``), the whole job; return the report's path. Raises InputError for what the user can mend."""
    done = job.run(config, known, console, _all_arms)
    return Comparison(config, done.run_dir, done.corpus, done.precision).finish(console)


async def _all_arms(shared: Job, console: Console) -> None:
    for arm in [main_arm(shared.config.encoder), *(BASELINES[name] for name in shared.config.loop.baselines)]:
        if is_finished(shared, arm):
            continue
        started = time.monotonic()
        await _one_arm(ArmRun(shared, arm, console))
        shared.log({"event": "phase", "name": f"arm {arm.name}", "seconds": time.monotonic() - started})


async def _one_arm(arm: ArmRun) -> None:
    """Warm start (or CoHyDE's), the loop, the rewrites for the comparison."""
    shared, config = arm.job, arm.job.config
    async with arm.ready() as stages:
        units = Planned(config.loop, config.seed, [q.query_id for q in shared.looped])
        await cotrain.run(stages, units, config.loop, shared.log, arm.arm)
        await asyncio.gather(*(learner.stop(STOP_TIMEOUT_S) for learner in arm.learners))
        for rewrites in rewrite_sets(shared, arm.arm):
            await _write_rewrites(arm, *rewrites)


async def _write_rewrites(arm: ArmRun, kept: RewriteSet, rewriter: int, retriever: int) -> None:
    """Write the rewrites of all dev and test queries by one pair of versions, once."""
    if kept.path.exists():
        return
    started, shared = time.monotonic(), arm.job
    host: Any = arm.rewriter
    queries: list[Query] = [*shared.corpus.select("dev"), *shared.corpus.select("test")]
    texts: list[list[str]] = []
    name = f"rewrites for the comparison: {kept.name}"
    for start in range(0, len(queries), QUERIES_PER_CALL):
        part = queries[start : start + QUERIES_PER_CALL]
        contexts = await arm.contexts(retriever, part)
        call = host.serving_rewrites.remote(
            rewriter, [q.text for q in part], contexts, shared.config.seed, name, start, len(queries)
        )
        texts += await remote.ask(call, arm.timeout_s, "the rewriter, which rewrites dev and test queries")
    kept.write(queries, texts)
    shared.log({"event": "phase", "name": name, "seconds": time.monotonic() - started})


def is_finished(shared: Job, arm: Arm) -> bool:
    """Whether an earlier part of this run did all of the arm's work."""
    store, units = SnapshotStore(f"{shared.root(arm)}/snapshots"), shared.config.loop.rounds
    trained = {"retriever": arm.train_encoder, "rewriter": arm.train_rewriter}
    if any(wanted and (store.latest(kind) or 0) < units for kind, wanted in trained.items()):
        return False
    return all(rewrites.path.exists() for rewrites, _, _ in rewrite_sets(shared, arm))


def rewrite_sets(shared: Job, arm: Arm) -> list[tuple[RewriteSet, int, int]]:
    """The rewrites of dev and test that the comparison needs of an arm: (file, rewriter version, retriever version)."""
    units = shared.config.loop.rounds
    if not arm.train_rewriter:
        return []
    if arm == QTA:
        return [(RewriteSet(shared.run_dir, "qta", None), units, BASE_VERSION)]
    rounds = [
        (RewriteSet(shared.run_dir, "cohyde", number), number, number if arm.train_encoder else arm.fixed_retriever)
        for number in range(units + 1)
    ]
    untrained = (RewriteSet(shared.run_dir, "zero_shot", None), BASE_VERSION, BASE_VERSION)
    return [untrained, (RewriteSet(shared.run_dir, "sft", None), 0, BASE_VERSION), *rounds]
