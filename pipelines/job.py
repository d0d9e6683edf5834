"""What every co-training job shares: checks, the catalog, the cluster, the progress display; what it does in it is given.

Invariants: what the user can mend is said before anything starts; the cluster ends with the job, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from actors import catalog_file, remote
from actors.core.snapshots import SnapshotStore
from actors.core.types import Corpus, InputError, Query
from actors.models import native_precision, resolve_encoder, resolve_rewriter
from actors.monitor import Display
from actors.processes import give_back_memory, memory_by_role
from actors.run_dir import CONFIG_FILE, storage_root
from configs.load import save
from configs.schema import Config
from pipelines import catalogs, preflight, warm_start
from pipelines.adopt import open_start
from pipelines.catalogs import synced
from pipelines.units import COHYDE, Arm

MEMORY_EVERY_S = 5.0


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
        base = storage_root(self.config, self.run_dir)
        return base if arm.name == COHYDE.name else f"{base}/arms/{arm.name}"

    def log(self, record: dict[str, Any]) -> None:
        """Append one event to the run's metrics, fire and forget."""
        self.monitor.log.remote(record)

    @property
    def looped(self) -> list[Query]:
        """The training queries that go through the rounds."""
        return warm_start.fresh_queries(self.corpus, self.config.encoder.warm_start_share)


Work = Callable[[Job, Console], Awaitable[None]]
"""What is done while the cluster is up."""


def run(config: Config, known: bool, console: Console, work: Work) -> Job:
    """Do ``work``, or go on with it (``known``), on a cluster; return the job. Raises InputError for what the user can mend."""
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
    open_start(config)
    encoder_base, rewriter_base = resolve_encoder(config.encoder.model), resolve_rewriter(config.rewriter.model)
    run_dir.mkdir(parents=True, exist_ok=True)
    save(config, run_dir / CONFIG_FILE)
    published = SnapshotStore(f"{storage_root(config, run_dir)}/snapshots")
    catalog_file.publish(published, corpus.catalog, synced.entries(config.catalog.source, corpus.catalog))
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
                asyncio.run(_watched(job, console, work))
        except InputError:
            raise
        except Exception:
            # Shown before the cluster goes down: a thread of Ray's that meets the end of it ends the process without a word.
            traceback.print_exc()
            raise SystemExit(1) from None
    return job


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


async def _watched(job: Job, console: Console, work: Work) -> None:
    sampling = asyncio.ensure_future(_sample_memory(job))
    try:
        await work(job, console)
    finally:
        sampling.cancel()


async def _sample_memory(job: Job) -> None:
    while True:
        job.log({"event": "memory", **await asyncio.to_thread(memory_by_role)})
        await asyncio.sleep(MEMORY_EVERY_S)
