"""Replicas on three nodes of a cluster: a promotion and a change of the catalog reach all of them, no answer mixes versions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.errors import InputError
from configs.serving import parse
from serve_app.haproxy import free_port
from tests.serving.load import Load
from tests.serving.small_run import make_run, releases_of

pytestmark = [pytest.mark.serving, pytest.mark.timeout(300)]
QUERY = "please start my cluster and the alarm"
REPLICAS = 3
PATIENCE_S = 60.0
IN_A_ROW = 40
"""Answers that must agree before all replicas count as asked: three of them answer by chance."""


@pytest.fixture
def cluster() -> Iterator[None]:
    import ray
    from ray.cluster_utils import Cluster

    # A replica takes the one CPU of a node, so each has a node of its own.
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(REPLICAS - 1):
        made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield
    ray.shutdown()
    made.shutdown()


def until(what: str, holds: Callable[[], bool]) -> float:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < PATIENCE_S, f"{what}: not within {PATIENCE_S:.0f} s"
        time.sleep(0.1)
    return time.monotonic() - started


def ask(url: str, query: str = QUERY) -> dict[str, Any]:
    body = {"query": query, "k": 10, "mode": "raw", "min_score": -1, "detail": "brief"}
    found: dict[str, Any] = httpx.post(f"{url}/v1/search", json=body, timeout=30).raise_for_status().json()
    return found


def everywhere(holds: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: all(holds() for _ in range(IN_A_ROW))


def nodes_of_replicas() -> set[str]:
    from ray.serve.context import _get_global_client

    details = _get_global_client().get_serve_details()
    return {r["node_id"] for r in details["applications"]["cohyde"]["deployments"]["Search"]["replicas"]}


@pytest.mark.usefixtures("cluster")
def test_replicas_on_three_nodes_follow_promotions_and_the_catalog(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from serve_app import app

    run_dir = make_run(tmp_path)
    releases, port = releases_of(run_dir), free_port()
    url = f"http://127.0.0.1:{port}"
    # No model of its own process: each would take one of the three CPUs from a replica.
    models = {"rewriter_replicas": 0, "reranker_replicas": 0}
    given = {"run": str(run_dir), "replicas": REPLICAS, "cpus": 1, "explore_share": 0, "look_every_s": 0.2, **models}
    with pytest.raises(
        InputError, match=r"replicas=3 of cpus=1 and 1 of rewriter_cpus=0.5 need 3.5 CPUs, the cluster has 3; lower"
    ):
        app.start(parse({**given, "reranker_replicas": 1}), port)
    app.start(parse(given), port)
    try:
        assert len(nodes_of_replicas()) == REPLICAS
        with Load(url, QUERY, 2) as load:
            converged = []
            for number in (1, 0):
                releases.promote(number, "test", "to all nodes")
                converged.append(until(f"release {number}", everywhere(lambda n=str(number): ask(url)["release"] == n)))
            body = {"name": "sharpen_saw", "description": "Makes a saw sharp again."}
            httpx.put(f"{url}/v1/tools/shed.sharpen", json=body, timeout=30).raise_for_status()
            added = until("the tool", everywhere(lambda: ask(url, "sharpen_saw")["tools"][0]["tool_id"] == "shed.sharpen"))
            httpx.delete(f"{url}/v1/tools/shed.sharpen", timeout=30).raise_for_status()
            until("the deletion", everywhere(lambda: httpx.get(f"{url}/v1/tools/shed.sharpen", timeout=30).status_code == 404))
    finally:
        app.stop()
    assert load.failed() == []
    # Each release has an answer of its own for this query, the tool that came and went aside.
    answers = {(one.release, tuple(t for t in one.tools if t != "shed.sharpen")[:9]) for one in load.seen}
    assert len(answers) == 2
    with capsys.disabled():
        shown = ", ".join(f"{seconds:.1f}" for seconds in converged)
        print(f"\n{len(load.seen)} searches, none failed; {IN_A_ROW} answers in a row by a release {shown} s after promotion,")
        print(f"with a new tool {added:.1f} s after it was added")
