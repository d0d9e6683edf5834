"""Metrics of serving: what this process measures, told to Ray, and what all nodes of the cluster tell Prometheus.

Invariants: a metric is made as it is first measured; a node that does not answer in time is left out.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from serve_app.problems import ProblemError

METRICS_TIMEOUT_S = 5.0
SECONDS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
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
