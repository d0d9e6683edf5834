"""Serving on Ray Serve: ``serve run serve_app.app:build run=RUN_DIR`` or ``serve deploy configs/serve.yaml``.

Three deployments: ``Search``, the ingress, which holds encoder and index in its own process, because a hop to another one costs as
much as embedding a query; ``Rewriter``, which holds the LLM, and ``Reranker``, which holds it turned round, each scaled apart.
Invariants: nothing of a search waits for a model longer than its time box; a replica answers no request before it can search.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve.api import RunTarget
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from actors.core.types import InputError, Tool
from actors.hosts import RewriterHost
from actors.interfaces import PairReader
from actors.models import native_precision, resolve_rewriter
from actors.run_dir import RERANKER, open_release
from configs.schema import RewriterConfig
from configs.serving import ServingConfig, parse
from serve_app import plan
from serve_app.api import make_app
from serve_app.measures import Measures, cluster_metrics
from serve_app.model_calls import RerankerCalls, RewriterCalls
from serve_app.replica import Replica
from serve_app.reranker import RerankServer
from serve_app.rewriter import RewriteServer

APPLICATION = "cohyde"
LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 300.0
START_POLL_S = 0.1
SWITCH_S = 0.0005
QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Searches are in the query log; a line for each request beside it would cost time and tell no more."""


def _no_preparing(version: int, on_ready: Callable[[], None]) -> None:
    """Where there is no rewriter."""


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


def _reader(settings: ServingConfig) -> PairReader:
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
        if rerank:
            rerank.prepare(self._replica.engine.reranker.ready)

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
    reads = plan.reads(settings, open_release(settings.run, "run"))
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
    planned = plan.deployments(settings, open_release(settings.run, "run"))
    models = sum(one.replicas for one in planned[1:])
    resources: Callable[[], dict[str, float]] = ray.cluster_resources
    needed, there = plan.cpus(planned), resources().get("CPU", 0.0)
    if needed > there:
        raise InputError(
            f"replicas={settings.replicas} of cpus={settings.cpus:g} and {models} of rewriter_cpus={settings.rewriter_cpus:g} need"
            f" {needed:g} CPUs, the cluster has {there:g}; lower one of them, or rewriter_replicas or reranker_replicas"
        )


def stop() -> None:
    """End what ``start`` started."""
    shutdown: Callable[[], None] = serve.shutdown
    shutdown()


def _absolute(settings: ServingConfig) -> dict[str, str]:
    """Replicas work in another folder than whoever starts them."""
    given = {name: getattr(settings, name) for name in ("run", "query_log", "keys")}
    return {name: os.path.abspath(path) for name, path in given.items() if path and "://" not in path}
