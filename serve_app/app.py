"""Serving on Ray Serve: ``serve run serve_app.app:build run=RUN_DIR`` or ``serve deploy configs/serve.yaml``.

Three deployments: ``Search``, the ingress, which holds encoder and index in its own process, because a hop to another one costs as
much as embedding a query; ``Rewriter``, which holds the LLM, and ``Reranker``, which holds it turned round, each scaled apart.
Invariants: nothing of a search waits for a model longer than its time box; a replica answers no request before it can search.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.api import RunTarget
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus
from ray.util.metrics import Counter, Gauge, Histogram

from actors.core.types import InputError, Tool
from actors.hosts import RewriterHost
from actors.models import native_precision, resolve_rewriter
from actors.run_dir import RERANKER, open_release
from configs.schema import RewriterConfig
from configs.serving import ServingConfig, parse
from serve_app.api import make_app
from serve_app.problems import ProblemError
from serve_app.replica import Replica
from serve_app.reranker import Reader, RerankServer
from serve_app.rewriter import RewriteServer
from serve_app.time_box import ModelGoneError

logger = logging.getLogger(__name__)
APPLICATION = "cohyde"
LOOPBACK = "127.0.0.1"
PREPARE_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 60.0
METRICS_TIMEOUT_S = 5.0
START_TIMEOUT_S = 300.0
START_POLL_S = 0.1
SWITCH_S = 0.0005
SECONDS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Searches are in the query log; a line for each request beside it would cost time and tell no more."""
GAUGES = frozenset({"cohyde_query_log_lost"})


class Measures:
    """Metrics of this process, made as they are first measured, and told to Ray."""

    def __init__(self) -> None:
        """Nothing is measured yet."""
        self._made: dict[str, Counter | Gauge | Histogram] = {}

    def __call__(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """One measurement: seconds go into a histogram, gauges are set, all others counted."""
        if name not in self._made:
            keys = tuple(labels)
            if name.endswith("_seconds"):
                self._made[name] = Histogram(name, boundaries=SECONDS, tag_keys=keys)
            else:
                self._made[name] = (Gauge if name in GAUGES else Counter)(name, tag_keys=keys)
        metric = self._made[name]
        if isinstance(metric, Histogram):
            metric.observe(value, dict(labels))
        elif isinstance(metric, Gauge):
            metric.set(value, dict(labels))
        elif value > 0:
            metric.inc(value, dict(labels))


class RerankerCalls:
    """The reranker's deployment as a replica sees it."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        """``handle`` is to ``Reranker``, which is had to load its model ahead of the first search."""
        self._handle = handle
        self._loading = handle.likelihoods.remote("", [])

    async def __call__(self, query: str, tools: Sequence[Tool]) -> list[float]:
        """Likelihoods of a query given each tool. Raises ``ModelGoneError``."""
        found: list[float] = await _answered(self._handle.likelihoods.remote(query, list(tools)), "the reranker")
        return found


async def _answered(response: Any, who: str) -> Any:
    """What a deployment answers. Raises ``ModelGoneError`` where it does not."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await response
    except TimeoutError as error:
        raise ModelGoneError(f"{who} did not answer in {CALL_TIMEOUT_S:.0f} s") from error
    except (RayError, RayServeException) as error:
        raise ModelGoneError(f"{who} is away ({type(error).__name__})") from error


class RewriterCalls:
    """The rewriter's deployment as a replica sees it."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        """``handle`` is to ``Rewriter``."""
        self._handle = handle
        self._loop = asyncio.get_event_loop()
        self.on_ready: Callable[[], None] | None = None
        """Told when a version was loaded."""

    async def __call__(self, version: int, query: str, titles: Sequence[str]) -> list[str]:
        """The rewrites of a query. Raises ``ModelGoneError``."""
        made: list[str] = await _answered(self._handle.rewrite.remote(version, query, list(titles)), "the rewriter")
        return made

    def prepare(self, version: int) -> None:
        """Have a version loaded, from another thread than the loop's; what goes wrong shows at the first rewrite."""
        asyncio.run_coroutine_threadsafe(self._prepare(version), self._loop)

    async def _prepare(self, version: int) -> None:
        try:
            async with asyncio.timeout(PREPARE_TIMEOUT_S):
                await self._handle.prepare.remote(version)
        except (RayError, RayServeException, TimeoutError) as error:
            logger.warning("the rewriter did not load version %d ahead of its use: %s", version, type(error).__name__)
            return
        if self.on_ready:
            self.on_ready()


def _no_preparing(version: int) -> None:
    """Where there is no rewriter."""


async def cluster_metrics() -> str:
    """The metrics that Ray's nodes export, all of them. Raises ``ProblemError`` 503 where no node answers."""
    all_nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
    nodes = [n for n in all_nodes() if n["Alive"] and n["MetricsExportPort"] > 0]
    texts = await asyncio.gather(*(asyncio.to_thread(_read, n["NodeManagerAddress"], n["MetricsExportPort"]) for n in nodes))
    found = [text for text in texts if text]
    if not found:
        raise ProblemError(503, "no node of the cluster exports its metrics", headers={"Retry-After": "10"})
    return "".join(found)


def _read(address: str, port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=METRICS_TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def _host(settings: ServingConfig) -> RewriterHost:
    release = open_release(settings.run, "run")
    assert release.store is not None
    config = release.config.rewriter
    precision = native_precision(release.config.precision)

    def make() -> Any:
        return _rewriter(config, precision, settings.rewriter_threads)

    return RewriterHost(
        config, make, str(resolve_rewriter(config.model)), release.store.root, lambda stage: lambda done, total: None
    )


def _rewriter(config: RewriterConfig, precision: Any, threads: int) -> Any:
    from actors.rewriter import Rewriter as Model

    return Model(config, precision, threads)


@serve.deployment(name="Rewriter", logging_config=QUIET)
class Rewriter:
    """The LLM, in a process of its own."""

    def __init__(self, settings: ServingConfig) -> None:
        """The model is loaded by the first call, so that the replica is there at once."""
        self._server = RewriteServer(_host(settings))

    async def rewrite(self, version: int, query: str, titles: list[str]) -> list[str]:
        """The rewrites of one query by rewriter ``version``."""
        return await self._server.rewrite(version, query, titles)

    async def prepare(self, version: int) -> None:
        """Load ``version`` ahead of its first use."""
        await self._server.prepare(version)


@serve.deployment(name="Reranker", logging_config=QUIET)
class Reranker:
    """The LLM turned round, in a process of its own."""

    def __init__(self, settings: ServingConfig) -> None:
        """The model is loaded by the first call."""
        self._server = RerankServer(lambda: _reader(settings))

    async def likelihoods(self, query: str, tools: list[Tool]) -> list[float]:
        """Of one query given each tool."""
        return await self._server.likelihoods(query, tools)


def _reader(settings: ServingConfig) -> Reader:
    from actors.reranker import Reranker as Model

    release = open_release(settings.run, "run")
    assert release.store is not None
    return Model(release.store.fetch(RERANKER, 0), native_precision(release.config.precision), settings.rewriter_threads)


@serve.deployment(name="Search", logging_config=QUIET)
@serve.ingress()
class Search:
    """The ingress: encoder, index and HTTP in one process."""

    def __init__(
        self, settings: ServingConfig, rewriter: DeploymentHandle[Any] | None, reranker: DeploymentHandle[Any] | None
    ) -> None:
        """Load the served release; the replica counts as started when this returns."""
        self._settings = settings
        # The threads that compute must not keep the event loop from its turn for Python's usual 5 ms.
        sys.setswitchinterval(SWITCH_S)
        calls = None if rewriter is None else RewriterCalls(rewriter)
        rerank = None if reranker is None else RerankerCalls(reranker)
        self._replica = Replica(settings, calls, calls.prepare if calls else _no_preparing, Measures(), rerank)
        if calls:
            calls.on_ready = self._replica.rewriter.ready

    def __serve_build_asgi_app__(self) -> Any:
        """What Serve answers HTTP with."""
        return make_app(self._replica, self._settings, cluster_metrics)

    def __del__(self) -> None:
        """Serve ends a replica so."""
        self._replica.close()


def build(args: dict[str, Any]) -> Application:
    """The application of ``serve run`` and ``serve deploy``; ``args`` are fields of ``ServingConfig``.

    Raises InputError for wrong ones, and for a run that cannot be served.
    """
    given = parse(args)
    settings = given.model_copy(update=_absolute(given))
    reads = _reads(settings)
    # Each of a replica's threads computes a batch of its own.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    options = {"num_cpus": settings.cpus, "memory": int(settings.memory_gb * 1e9), "runtime_env": {"env_vars": threads}}
    theirs = {**threads, "OMP_NUM_THREADS": str(settings.rewriter_threads)}

    def model(deployment: Any, replicas: int) -> Any:
        # The decorators' types do not say what they return.
        return deployment.options(
            num_replicas=replicas,
            max_ongoing_requests=64,
            ray_actor_options={"num_cpus": settings.rewriter_cpus, "runtime_env": {"env_vars": theirs}},
        ).bind(settings)

    rewriter = model(Rewriter, settings.rewriter_replicas) if settings.rewriter_replicas else None
    reranker = model(Reranker, settings.reranker_replicas) if reads else None
    search: Any = Search
    application: Application = search.options(
        num_replicas=settings.replicas,
        # The guard refuses above this; Serve must not queue below it.
        max_ongoing_requests=4 * settings.limits.concurrent_requests,
        ray_actor_options=options,
        graceful_shutdown_timeout_s=10,
    ).bind(settings, rewriter, reranker)
    return application


def start(settings: ServingConfig, port: int) -> None:
    """Serve on a cluster that this process is connected to, on the loopback address alone; returns when searches are answered.

    Raises InputError for more than the cluster has room for, TimeoutError and RuntimeError where the replicas do not come up.
    """
    _check_room(settings)
    serve.start(proxy_location="HeadOnly", http_options={"host": LOOPBACK, "port": port}, logging_config=QUIET)
    target = RunTarget(build(settings.model_dump()), name=APPLICATION, route_prefix="/")
    serve.run_many([target], wait_for_applications_running=False)
    deadline = time.monotonic() + START_TIMEOUT_S
    while (found := serve.status().applications[APPLICATION]).status != ApplicationStatus.RUNNING:
        told = "; ".join(filter(None, [found.message, *(d.message for d in found.deployments.values())]))
        if found.status == ApplicationStatus.DEPLOY_FAILED:
            raise RuntimeError(f"serving did not start: {told}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"serving did not start within {START_TIMEOUT_S:.0f} s: {told}")
        time.sleep(START_POLL_S)


def _check_room(settings: ServingConfig) -> None:
    """Ray would wait for missing CPUs without end."""
    models = settings.rewriter_replicas + (settings.reranker_replicas if _reads(settings) else 0)
    resources: Callable[[], dict[str, float]] = ray.cluster_resources
    needed, there = settings.replicas * settings.cpus + models * settings.rewriter_cpus, resources().get("CPU", 0.0)
    if needed > there:
        raise InputError(
            f"replicas={settings.replicas} of cpus={settings.cpus:g} and {models} of rewriter_cpus={settings.rewriter_cpus:g} need"
            f" {needed:g} CPUs, the cluster has {there:g}; lower one of them, or rewriter_replicas or reranker_replicas"
        )


def _reads(settings: ServingConfig) -> bool:
    store = open_release(settings.run, "run").store
    return bool(settings.reranker_replicas and store is not None and store.has(RERANKER, 0))


def stop() -> None:
    """End what ``start`` started."""
    shutdown: Callable[[], None] = serve.shutdown
    shutdown()


def _absolute(settings: ServingConfig) -> dict[str, str]:
    """Replicas work in another folder than whoever starts them."""
    given = {name: getattr(settings, name) for name in ("run", "query_log", "keys")}
    return {name: os.path.abspath(path) for name, path in given.items() if path and "://" not in path}
