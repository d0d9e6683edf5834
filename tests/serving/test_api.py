"""The HTTP API of a real server: Ray Serve, an exported encoder, a real (tiny) rewriter."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.core.events import parse
from tests.serving.small_run import Server, releases_of

pytestmark = pytest.mark.serving
PATIENCE_S = 60.0


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=30)


def search(client: httpx.Client, query: str, **options: Any) -> dict[str, Any]:
    answer = client.post("/v1/search", json={"query": query, "min_score": -1, **options})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(answer: dict[str, Any]) -> list[str]:
    return [tool["tool_id"] for tool in answer["tools"]]


def events(log_dir: Path) -> list[Any]:
    return [parse(line) for file in log_dir.glob("*.jsonl") for line in file.read_bytes().splitlines()]


def wait_for(what: str, found: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError(f"no {what} within {PATIENCE_S:.0f} s")


def test_it_says_what_it_serves(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert (ready["status"], ready["tools"], ready["degraded"]) == ("ready", 30, [])


def test_a_search_is_in_the_log_before_its_answer_and_feedback_joins_it(client: httpx.Client, server: Server) -> None:
    answer = search(client, "please create the bucket", k=5, mode="raw")
    logged = {e.request_id: e for e in events(server.log_dir) if e.type == "search"}
    assert [t.tool_id for t in logged[answer["request_id"]].tools] == ids(answer)
    event = {"type": "outcome", "request_id": answer["request_id"], "tool_id": ids(answer)[0], "result": "succeeded"}
    label = {"type": "label", "query": "gone", "tool_ids": ["delete-bucket"], "by": "test"}
    done = client.post("/v1/feedback", json={"events": [event, label]})
    assert (done.status_code, done.json()) == (202, {"written": 2})
    outcome = [e for e in events(server.log_dir) if e.type == "outcome" and e.request == logged[answer["request_id"]].request]
    assert [e.tool_id for e in outcome] == ids(answer)[:1]


def test_each_mode_answers_and_the_rewriter_writes(client: httpx.Client) -> None:
    raw = search(client, "i want to delete a queue", mode="raw", k=3, explain=True)
    assert raw["rewrites"] == []
    assert raw["tools"][0]["explanation"]["query_cosine"] == pytest.approx(raw["tools"][0]["score"], abs=1e-4)

    def rewritten() -> dict[str, Any] | None:
        answer = search(client, "i want to delete a queue", mode="rewrite", k=3, explain=True)
        return answer if answer["rewrites"] else None

    answer = wait_for("rewrite", rewritten)
    assert (answer["mode"], answer["degraded"]) == ("rewrite", None)
    assert answer["tools"][0]["explanation"]["rewrite_cosine"] is not None
    assert client.get("/readyz").json()["rewriter"] == "ready"
    assert search(client, "i want to delete a queue", mode="hybrid", k=3)["mode"] == "hybrid"


def test_the_first_tools_are_read_by_a_deployment_of_its_own(client: httpx.Client) -> None:
    def read() -> dict[str, Any] | None:
        answer = search(client, "i want to delete a queue", mode="reranked", k=5, explain=True)
        return answer if answer["mode"] == "reranked" else None

    # It has loaded its model before anybody asks it.
    wait_for("reranker", lambda: client.get("/readyz").json()["reranker"] == "ready")
    answer = wait_for("reranked answer", read)
    assert answer["degraded"] is None and answer["timings"]["rerank_ms"] is not None
    told = [tool["explanation"] for tool in answer["tools"]]
    for tool, one in zip(answer["tools"], told, strict=True):
        assert one["likelihood"] < 0
        assert tool["score"] == pytest.approx(one["query_cosine"] + 0.2 * one["likelihood"], abs=1e-3)


def test_a_batch_is_answered_in_order(client: httpx.Client) -> None:
    searches = [{"query": q, "mode": "raw", "k": 1, "min_score": -1} for q in ("create bucket", "delete queue", "list role")]
    answers = client.post("/v1/search:batch", json={"searches": searches}).json()["answers"]
    assert [ids(answer) for answer in answers] == [["create-bucket"], ["delete-queue"], ["list-role"]]


def test_a_new_tool_is_found_at_once_and_a_deleted_one_is_not(client: httpx.Client) -> None:
    tool = {"name": "update_alarm_role", "description": "update one alarm and its role", "input_schema": {"type": "object"}}
    put = client.put("/v1/tools/made/up", json=tool)
    assert (put.status_code, put.json()["changed"], put.json()["embedded"]) == (200, 1, 1)
    assert ids(search(client, "update alarm role", mode="raw", k=1)) == ["made/up"]
    again = client.put("/v1/tools/made/up", json=tool).json()
    assert (again["unchanged"], again["changed"], again["embedded"]) == (1, 0, 0)
    assert client.get("/v1/tools/made/up").json()["description"] == tool["description"]
    assert client.delete("/v1/tools/made/up").json()["deleted"] == 1
    assert "made/up" not in ids(search(client, "update alarm role", mode="raw", k=5))
    assert client.get("/v1/tools/made/up").status_code == 404
    assert client.delete("/v1/tools/made/up").status_code == 404


def test_a_bulk_change_is_one_change(client: httpx.Client) -> None:
    tools = [{"tool_id": f"bulk-{i}", "name": f"n{i}", "description": f"list one alarm number {i}"} for i in range(3)]
    done = client.post("/v1/tools:bulk", json={"upserts": tools, "deletes": ["create-role"]})
    assert (done.json()["changed"], done.json()["deleted"], done.json()["tools"]) == (3, 1, 32)
    assert client.get("/v1/tools/create-role").status_code == 404
    role = {"tool_id": "create-role", "name": "create role", "title": "create role", "description": "create one role called it"}
    back = {"upserts": [role], "deletes": [f"bulk-{i}" for i in range(3)]}
    assert client.post("/v1/tools:bulk", json=back).json()["tools"] == 30
    refused = client.post("/v1/tools:bulk", json={"upserts": [{**role, "description": "x"}], "deletes": ["nowhere"]})
    assert refused.status_code == 404
    assert client.get("/v1/tools/create-role").json()["description"] == role["description"]


def test_a_promotion_is_served_within_seconds(client: httpx.Client, server: Server) -> None:
    releases = releases_of(server.run_dir)
    before = client.get("/readyz").json()["release"]
    releases.promote(1, "test", "because")
    wait_for("release 1", lambda: client.get("/readyz").json()["release"] == "1")
    answer = search(client, "create bucket", mode="raw", k=1)
    assert answer["release"] == "1"
    listed = client.get("/v1/releases").json()
    assert listed["served"] == "1"
    assert [(r["number"], r["served"]) for r in listed["releases"]] == [(2, False), (1, True), (0, False)]
    assert listed["releases"][1]["reason"] == "because"
    releases.rollback("test", "back")
    wait_for("the release before", lambda: client.get("/readyz").json()["release"] == before)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "body"),
        (json.dumps({"query": ""}).encode(), "query"),
        (json.dumps({"query": "x" * 10_000_000}).encode(), "1000000 bytes"),
        (json.dumps({"query": "a", "k": 0}).encode(), "k"),
        (json.dumps({"query": "a", "kk": 1}).encode(), "kk"),
        (json.dumps({"query": "a\u0000b"}).encode(), "control characters"),
    ],
)
def test_wrong_input_is_a_problem_document_that_names_it(client: httpx.Client, body: bytes, says: str) -> None:
    answer = client.post("/v1/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 413, 422)
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert says in answer.json()["detail"]


def test_what_is_not_for_this_machine_is_refused_and_headers_are_set(client: httpx.Client) -> None:
    refused = client.get("/readyz", headers={"Host": "evil.example"})
    assert refused.status_code == 403
    assert "cohyde keys add" in refused.json()["detail"]
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert client.get("/web/app.js").headers["content-type"].startswith(("text/javascript", "application/javascript"))
    assert "access-control-allow-origin" not in client.options("/v1/search", headers={"Origin": "http://localhost"}).headers


def test_metrics_are_those_of_the_cluster(client: httpx.Client) -> None:
    search(client, "create bucket", mode="raw")
    text = wait_for("metric", lambda: "cohyde_search_seconds" in (t := client.get("/metrics").text) and t)
    assert "ray_" in text
