"""Actors out of plain classes, and the cluster that they run on: resources, threads, restarts, concurrency groups, deadlines.

Invariants: the only file but ``monitor`` that applies ``ray.remote``; no actor is detached; every wait has a deadline that says
what it waits for; when ``cluster`` is left, no process that it started is left. A host works in one thread (models are not
thread-safe) and answers ``health`` in another, so neither locks nor event loops stand between a model and its caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
import ray
from ray.exceptions import GetTimeoutError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from actors.core.lag import WaitTimeout
from actors.core.types import Corpus, InputError
from actors.feed import UnitFeed
from actors.hosts import Build, IndexBuilderHost, RerankerHost, RewriterHost, RewriterModel, ScorerHost, ScorerModel
from actors.interfaces import PairReader
from actors.monitor import Display, Monitor, Reporter
from actors.processes import children, end_leftovers, end_processes, forget, note, only_user, within
from actors.registry import Registry
from configs.schema import Config, Placement

Precision = Literal["float32", "bfloat16"]

TEARDOWN_S = 15.0
"""Overall deadline of a teardown: Ctrl-C ends everything within 20 seconds."""
START_TIMEOUT_S = 180.0
"""An actor that does not answer by then has no room on the cluster."""
CONTROL = "control"
"""The concurrency group of ``health``."""

CLUSTER_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_maximum_startup_concurrency": "8",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
}
"""Ray's own switches, unless the user sets them: Train's controller takes reports once an interval, by default 2 s; a raylet warns
of more processes than cores, which is how this runs on purpose; a dead proxy of Serve's is noticed after half a minute."""


@dataclass(frozen=True)
class Cluster:
    """The cluster a run works on. ``embedded``: the run started it and will end it."""

    embedded: bool
    node_id: str
    resources: dict[str, float]


# Cluster -----------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(config: Config, run_dir: Path) -> Iterator[Cluster]:
    """Start a cluster of this machine, or join the one that ``RAY_ADDRESS`` names (a submitted job has it set).

    ``run_dir`` is locked meanwhile; the logs of an embedded cluster's processes are found in ``run_dir/logs/ray``. Raises
    ``InputError`` where another run works in ``run_dir``.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with only_user(run_dir):
        end_leftovers(run_dir)
        for name, value in CLUSTER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        quieten("ray")
        if os.environ.get("RAY_ADDRESS", "local") != "local":
            _init_ray()
            try:
                yield Cluster(False, ray.get_runtime_context().get_node_id(), _resources())
            finally:
                within(TEARDOWN_S, ray.shutdown)
            return
        before = children()
        try:
            yield _start_embedded(config, run_dir, before)
        finally:
            _stop_embedded(run_dir, before)


def quieten(logger: str) -> None:
    """Take a library's log off the terminal; it still reaches the root logger, which has a file, and the library's own files."""
    log = logging.getLogger(logger)
    for handler in log.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL + 1)
    log.propagate = True


def _init_ray(**options: Any) -> Any:
    """``ray.init`` without its hold on the terminal and on SIGTERM, which it answers by a stack and a code of its own."""
    on_terminate = signal.getsignal(signal.SIGTERM)
    context = ray.init(log_to_driver=False, configure_logging=False, **options)
    signal.signal(signal.SIGTERM, on_terminate)
    return context


def _start_embedded(config: Config, run_dir: Path, before: set[psutil.Process]) -> Cluster:
    # Ray listens on all interfaces, so it must ask for a token. By default it does for a cluster started here (RAY_AUTH_MODE would
    # have to be set before ``import ray``); a token of this process's own writes no file into the user's home.
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    context = _init_ray(
        num_cpus=config.placement.embedded_cpus,
        object_store_memory=config.placement.object_store_mb * 2**20,
        include_dashboard=False,
    )
    note(run_dir, children() - before, Path(context.address_info["session_dir"]) / "logs")
    return Cluster(True, ray.get_runtime_context().get_node_id(), _resources())


def _stop_embedded(run_dir: Path, before: set[psutil.Process]) -> None:
    deadline = time.monotonic() + TEARDOWN_S
    started = children() - before
    within(TEARDOWN_S / 2, ray.shutdown)
    end_processes(started, deadline - time.monotonic())
    forget(run_dir)


def _resources() -> dict[str, float]:
    cluster_resources: Callable[[], dict[str, float]] = ray.cluster_resources
    return cluster_resources()


# Actors ------------------------------------------------------------------------------------------------------------------------


def thread_environment(threads: int) -> dict[str, str]:
    """Environment of a process whose libraries use ``threads`` threads; Ray would set its own number, by logical CPUs."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}


def start(cls: type, place: Placement, restarts: int, *args: Any) -> Any:
    """A handle to an actor of a host class. A call in flight when the process dies is made again after the restart."""
    decorate: Any = ray.remote
    actor = decorate(concurrency_groups={CONTROL: 1})(cls)
    options = {"num_cpus": place.cpus, "num_gpus": place.gpus, "max_restarts": restarts, "max_task_retries": -1}
    return actor.options(**options, runtime_env={"env_vars": thread_environment(place.threads)}).remote(*args)


def make_rewriter(config: Config, base_dir: Path, store_root: str, precision: Precision, monitor: Any) -> Any:
    """A handle to ``RewriterHost`` with the engine of the config."""
    place = config.placement.rewriter
    make = partial(_rewriter, config, precision, place.threads)
    arguments = (config.rewriter, make, str(base_dir), store_root, Reporter(monitor).stage)
    return start(RewriterHost, place, config.loop.max_failures, *arguments)


def make_scorer(config: Config, corpus: Any, store_root: str, precision: Precision, monitor: Any) -> Any:
    """A handle to ``ScorerHost``; ``corpus`` is a reference to a ``Corpus`` (``share``)."""
    place = config.placement.scorer
    make = partial(_scorer, config, [corpus], precision, place.threads)
    return start(ScorerHost, place, config.loop.max_failures, make, store_root, Reporter(monitor).stage)


def make_reranker(config: Config, store_root: str, precision: Precision, monitor: Any) -> Any:
    """A handle to ``RerankerHost``, at the place of a scorer."""
    place = config.placement.scorer
    make = partial(_reranker, precision, place.threads)
    return start(RerankerHost, place, config.loop.max_failures, make, store_root, Reporter(monitor).stage)


def make_index_builder(config: Config, corpus: Any, base_dir: Path, store_root: str, precision: Precision, monitor: Any) -> Any:
    """A handle to ``IndexBuilderHost``; ``corpus`` is a reference to a ``Corpus`` (``share``)."""
    place = config.placement.index_builder
    make = partial(_index_builder, config, [corpus], precision, place.threads, base_dir)
    return start(IndexBuilderHost, place, config.loop.max_failures, make, str(base_dir), store_root, Reporter(monitor).stage)


def make_registry(store_root: str) -> Any:
    """A handle to ``Registry``."""
    return ray.remote(Registry).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote(store_root)


def make_feed() -> Any:
    """A handle to ``UnitFeed``; a restarted one is filled again by whoever waits for the job's version."""
    return ray.remote(UnitFeed).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()


def make_monitor(metrics_file: Path) -> Any:
    """A handle to ``Monitor`` on the driver's node, where the run directory is."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Monitor).options(**options).remote(str(metrics_file.resolve()))


def display(monitor: Any, console: Console) -> Display:
    """A context in which the monitor's stages are shown on ``console``."""
    return Display(monitor, console)


def share(corpus: Corpus) -> Any:
    """Put a corpus where all actors read it; keep the reference as long as one of them may restart."""
    return ray.put(corpus)


def _rewriter(config: Config, precision: Precision, threads: int) -> RewriterModel:
    from actors.rewriter import Rewriter

    return Rewriter(config.rewriter, precision, threads)


def _scorer(config: Config, corpus: Sequence[Any], precision: Precision, threads: int) -> ScorerModel:
    from actors.scorer import Scorer

    return Scorer(config, _take(corpus).catalog, precision, threads)


def _reranker(precision: Precision, threads: int, model_dir: Path) -> PairReader:
    from actors.reranker import Reranker

    return Reranker(model_dir, precision, threads)


def _index_builder(config: Config, corpus: Sequence[Any], precision: Precision, threads: int, base_dir: Path) -> Build:
    from actors.index_builder import IndexBuilder

    return IndexBuilder(config.encoder, _take(corpus).catalog, precision, threads, base_dir).build


def _take(shared: Sequence[Any]) -> Corpus:
    """What ``share`` put; the reference comes in a list because Ray resolves only what is an argument itself."""
    corpus: Corpus = ask_now(shared[0], START_TIMEOUT_S, "the object store, which holds the corpus")
    return corpus


# Calls -------------------------------------------------------------------------------------------------------------------------


async def ask(reference: Any, timeout_s: float, what: str) -> Any:
    """The answer of an actor, in a coroutine. Raises ``WaitTimeout``; an ``InputError`` of the actor as it was raised there."""
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            return await asyncio.wrap_future(reference.future())
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise WaitTimeout(f"no answer in {timeout_s:.0f} s from {what}") from error
    except RayTaskError as error:
        raise _own_error(error) from error


def ask_now(reference: Any, timeout_s: float, what: str) -> Any:
    """As ``ask``, outside a coroutine: blocks."""
    try:
        return ray.get(reference, timeout=timeout_s)
    except GetTimeoutError as error:
        raise WaitTimeout(f"no answer in {timeout_s:.0f} s from {what}") from error
    except RayTaskError as error:
        raise _own_error(error) from error


def _own_error(error: RayTaskError) -> BaseException:
    cause = error.cause
    return cause if isinstance(cause, InputError) else error


async def wait_ready(handles: dict[str, Any], timeout_s: float = START_TIMEOUT_S) -> dict[str, float]:
    """Wait until every actor answers; return the seconds each took. Raises ``WaitTimeout`` naming the one that does not."""
    started = time.monotonic()

    async def ready(name: str, handle: Any) -> tuple[str, float]:
        method = handle.health
        await ask(method.remote(), timeout_s, f"the {name} actor, which should start (is there room on the cluster?)")
        return name, time.monotonic() - started

    return dict(await asyncio.gather(*(ready(name, handle) for name, handle in handles.items())))


def health(host: Any, timeout_s: float = 10.0) -> dict[str, Any]:
    """Health of a host, also while it works."""
    answer: dict[str, Any] = ask_now(host.health.options(concurrency_group=CONTROL).remote(), timeout_s, "a host's health")
    return answer


def end(handles: Iterable[Any]) -> None:
    """Kill actors for good; engines' child processes go with them."""
    for handle in handles:
        ray.kill(handle, no_restart=True)
