"""Parts of a server are killed under load: raw searches go on where a replica is left, and answers say what is missing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from serve_app.haproxy import free_port
from tests.serving.load import Load
from tests.serving.small_run import Server, make_run, start_server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]
QUERY = "please start my cluster"
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    run_dir: Path = make_run(tmp_path_factory.mktemp("faulty"))
    started = start_server(run_dir, free_port(), "explore_share=0", "replicas=2", "rewrite_timeout_s=10")
    yield started
    assert started.end() == 0


def processes(server: Server, title: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if title in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_one(server: Server, title: str) -> int:
    victim = processes(server, title)[0]
    os.kill(victim.pid, signal.SIGKILL)
    return victim.pid


def until(what: str, holds: object) -> float:
    """Seconds until ``holds()``."""
    assert callable(holds)
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < PATIENCE_S, f"{what}: not within {PATIENCE_S:.0f} s"
        time.sleep(0.1)
    return time.monotonic() - started


def answers(server: Server, mode: str = "raw") -> dict[str, object] | None:
    body = {"query": f"{QUERY} {time.monotonic_ns()}", "k": 3, "mode": mode, "min_score": -1}
    try:
        answer = httpx.post(f"{server.url}/v1/search", json=body, timeout=30)
    except httpx.HTTPError:
        return None
    found: dict[str, object] | None = answer.json() if answer.status_code == 200 else None
    return found


def told(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\n{text}")


def test_a_replica_dies_and_the_other_answers(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    until("both replicas", lambda: len(processes(server, "ServeReplica:cohyde:Search")) == 2)
    with Load(server.url, QUERY, 4) as load:
        time.sleep(2)
        gone, at = kill_one(server, "ServeReplica:cohyde:Search"), time.monotonic()
        time.sleep(3)
        whole = until(
            "a second replica",
            lambda: len([p for p in processes(server, "ServeReplica:cohyde:Search") if p.pid != gone]) == 2,
        )
        time.sleep(2)
    after = [one for one in load.seen if one.at > at + 1.0]
    failed = load.failed()
    told(
        capsys,
        f"a replica killed: {len(failed)} of {len(load.seen)} searches failed (those in its hands, 4 clients), a new process after"
        f" {whole + 3:.1f} s",
    )
    assert len(failed) <= 8
    assert after
    assert all(one.status == 200 for one in after)


def test_the_rewriter_dies_and_answers_say_so(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    until("a rewrite", lambda: (a := answers(server, "rewrite")) and a["rewrites"])
    with Load(server.url, QUERY, 2) as load:
        kill_one(server, "ServeReplica:cohyde:Rewriter")
        degraded = answers(server, "rewrite")
        seconds = until("a rewrite again", lambda: (a := answers(server, "rewrite")) and a["rewrites"])
    told(capsys, f"the rewriter killed: rewrites again after {seconds:.1f} s; meanwhile {(degraded or {}).get('degraded')!r}")
    assert load.failed() == []
    assert degraded is not None
    # Serve may have asked the new process already: then the answer is whole.
    assert degraded["tools"] and (degraded["rewrites"] or "no rewrite" in str(degraded["degraded"]))


def test_the_controller_dies_and_searches_go_on(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with Load(server.url, QUERY, 4) as load:
        time.sleep(1)
        gone = kill_one(server, "ServeController")
        seconds = until("a new controller", lambda: [p for p in processes(server, "ServeController") if p.pid != gone])
        time.sleep(5)
    told(
        capsys, f"the controller killed: {len(load.failed())} of {len(load.seen)} searches failed, a new one after {seconds:.1f} s"
    )
    assert load.failed() == []


def test_the_proxy_dies_and_comes_back(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    kill_one(server, "HAProxyManager")
    for process in processes(server, "haproxy -db"):
        process.kill()
    seconds = until("the proxy", lambda: answers(server))
    told(capsys, f"the proxy killed: searches are answered again after {seconds:.1f} s")
    assert seconds < 40


def test_a_log_that_cannot_be_written_loses_no_search(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    blocked = tmp_path / "log"
    blocked.write_text("a file where the directory should be")
    server = start_server(run_dir, free_port(), "rewriter_replicas=0", f"query_log={blocked}")
    try:
        found = answers(server)
        assert found is not None
        assert found["tools"]
        [said] = httpx.get(f"{server.url}/readyz").json()["degraded"]
        assert "query log" in said
        lost = {"events": [{"type": "outcome", "request_id": "r", "tool_id": "t", "result": "failed"}]}
        refused = httpx.post(f"{server.url}/v1/feedback", json=lost)
        assert (refused.status_code, "query log" in refused.json()["detail"]) == (503, True)
    finally:
        assert server.end() == 0
