"""The client against a real server, and against one that fails by a script."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from serve_app import keys
from serve_app.client import AsyncToolSearch, ToolSearch, ToolSearchError
from serve_app.loader import Loader
from serve_app.schema.catalog import BulkTool, ToolBody
from tests.scripted import Reply, problem, scripted
from tests.word_world import WordEncoder, make_run, served

ROOT = Path(__file__).parents[4]
READY = {"status": "ready", "release": "7", "tools": 1, "rewriter": "off", "reranker": "off", "degraded": []}
FENCE = {"name": "paint_fence", "title": "Paint fence", "description": "paint fence", "namespace": "garden"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Loader, "_encoder", lambda self, source, release: WordEncoder(release.retriever))
        yield make_run(tmp_path_factory.mktemp("client") / "run")


@pytest.fixture(scope="module")
def url(run: Path) -> Iterator[str]:
    with served(run) as address:
        yield address


def logged(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for file in (run / "query-log").glob("*.jsonl") for line in file.read_text().splitlines()]
    return [line for line in lines if line["type"] == kind]


def test_a_search_is_typed_and_its_outcome_and_a_label_reach_the_log(url: str, run: Path) -> None:
    with ToolSearch(url) as client:
        assert client.ready().tools == 4
        answer = client.search("make a hat please", k=2, mode="raw", explain=True)
        assert (answer.tools[0].tool_id, len(answer.tools), answer.mode) == ("make-hat", 2, "raw")
        assert answer.tools[0].explanation is not None
        client.report_outcome(answer.request_id, "make-hat", "succeeded")
        client.label("something for my head", ["make-hat"], by="ann", train_on=False)
    [event] = [e for e in logged(run, "outcome") if e["request_id"] == answer.request_id]
    assert (event["tool_id"], event["result"]) == ("make-hat", "succeeded")
    assert [(e["tool_ids"], e["by"], e["train_on"]) for e in logged(run, "label")] == [(["make-hat"], "ann", False)]


@pytest.mark.parametrize("tool_id", ["garden/paint", "garden.paint fence", "zaun-größe%2F?#"])
def test_a_tool_is_put_described_found_and_deleted(url: str, tool_id: str) -> None:
    with ToolSearch(url) as client:
        assert client.put_tool(tool_id, ToolBody.model_validate(FENCE)).changed == 1
        assert client.put_tool(tool_id, FENCE).unchanged == 1
        assert client.describe(tool_id).namespace == "garden"
        assert [t.tool_id for t in client.search("paint fence", k=1, namespaces=["garden"]).tools] == [tool_id]
        assert client.delete_tool(tool_id).deleted == 1
        with pytest.raises(ToolSearchError, match="there is no tool") as error:
            client.describe(tool_id)
        assert error.value.status == 404


def test_several_changes_are_one(url: str) -> None:
    with ToolSearch(url) as client:
        done = client.bulk([BulkTool(tool_id="a", **FENCE), {"tool_id": "b", **FENCE}])  # type: ignore[arg-type]
        assert (done.changed, done.tools) == (2, 6)
        assert client.bulk(deletes=["a", "b"]).tools == 4


def test_what_the_server_refuses_is_told_by_field_and_asked_once(url: str) -> None:
    with ToolSearch(url) as client, pytest.raises(ToolSearchError, match="422: k: ") as error:
        client.search("make hat", k=1000)
    assert (error.value.status, [entry["field"] for entry in error.value.errors]) == (422, ["k"])


def test_a_key_says_who_asks_and_is_shown_nowhere(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    _, secret = keys.add(file, "shop", ["search"], None)
    with served(run, file) as address:
        with ToolSearch(address, secret) as client:
            assert client.search("make hat", k=1).tools
            assert secret not in repr(client) + repr(vars(client))
            with pytest.raises(ToolSearchError, match="lacks the scope 'catalog'") as error:
                client.delete_tool("make-hat")
            assert error.value.status == 403
        with ToolSearch(address) as client, pytest.raises(ToolSearchError, match="401: no key was sent"):
            client.search("make hat")
    assert [event["query"] for event in logged(run, "search") if event["tenant"] == "shop"] == ["make hat"]


def test_the_asynchronous_client_does_the_same(url: str, run: Path) -> None:
    async def use() -> str:
        async with AsyncToolSearch(url) as client:
            assert (await client.ready()).status == "ready"
            first, second = await asyncio.gather(client.search("make hat", k=1), client.search("drop cup", k=1))
            assert [a.tools[0].tool_id for a in (first, second)] == ["make-hat", "drop-cup"]
            assert (await client.describe("make-hat")).name == "make hat"
            await client.report_outcome(first.request_id, "make-hat", "failed")
            await client.label("a cup on the floor", ["drop-cup"], by="async")
            assert (await client.put_tool("new", FENCE)).changed == 1
            assert (await client.delete_tool("new")).deleted == 1
            assert (await client.bulk([{"tool_id": "new", **FENCE}], [])).changed == 1
            assert (await client.bulk(deletes=["new"])).deleted == 1
            with pytest.raises(ToolSearchError, match="there is no tool 'new'"):
                await client.describe("new")
        return first.request_id

    request_id = asyncio.run(use())
    assert [e["result"] for e in logged(run, "outcome") if e["request_id"] == request_id] == ["failed"]


Ask = Callable[..., Any]


def sync_ready(url: str, **settings: Any) -> Any:
    with ToolSearch(url, **settings) as client:
        return client.ready()


def async_ready(url: str, **settings: Any) -> Any:
    async def ask() -> Any:
        async with AsyncToolSearch(url, **settings) as client:
            return await client.ready()

    return asyncio.run(ask())


@pytest.fixture(params=[sync_ready, async_ready], ids=["sync", "async"])
def ready(request: pytest.FixtureRequest) -> Ask:
    ask: Ask = request.param
    return ask


@pytest.mark.parametrize(
    "first", [Reply(0), problem(429, "slower"), Reply(500, b"died"), Reply(502, b"<html>"), Reply(503), problem(504, "late")]
)
def test_what_may_pass_is_asked_again(ready: Ask, first: Reply) -> None:
    with scripted(first, first, Reply(200, READY)) as server:
        assert ready(server.url).release == "7"
        assert len(server.asked) == 3
        # The second pause is drawn from a longer range; what is sure is that there is one.
        assert min(server.pauses) >= 0.1


def test_what_does_not_pass_is_told_after_the_last_try(ready: Ask) -> None:
    with scripted(problem(503, "the log is full")) as server:
        with pytest.raises(ToolSearchError, match="503: the log is full"):
            ready(server.url, retries=1)
        assert len(server.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_a_refusal_is_never_asked_again(ready: Ask, status: int) -> None:
    with scripted(problem(status, "no")) as server:
        with pytest.raises(ToolSearchError, match=f"{status}: no") as error:
            ready(server.url)
        assert (error.value.status, len(server.asked)) == (status, 1)


def test_the_server_says_how_long_to_wait(ready: Ask) -> None:
    with scripted(problem(429, "slower", retry_after="1"), Reply(200, READY)) as server:
        ready(server.url)
        assert 1 <= server.pauses[0] < 3


def test_a_wait_beyond_the_deadline_is_not_begun(ready: Ask) -> None:
    with scripted(problem(503, "later", retry_after="30")) as server:
        started = time.monotonic()
        with pytest.raises(ToolSearchError, match="503: later") as error:
            ready(server.url, timeout_s=20)
        assert time.monotonic() - started < 10
        assert (error.value.retry_after_s, len(server.asked)) == (30, 1)


def test_a_server_that_hangs_is_left_at_the_deadline(ready: Ask) -> None:
    with scripted(Reply(-1)) as server:
        started = time.monotonic()
        with pytest.raises(ToolSearchError, match="does not answer") as error:
            ready(server.url, timeout_s=0.5)
        assert error.value.status is None
        assert 0.4 < time.monotonic() - started < 4
        assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_said_to_be_so(ready: Ask) -> None:
    with pytest.raises(ToolSearchError, match=r"http://127.0.0.1:9 does not answer .*does the server run\?"):
        ready("http://127.0.0.1:9", retries=1)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(200, b"<html>welcome"), r"/readyz was answered with what is no ReadyAnswer; is url that of a CoHyDE server\?"),
        (Reply(302, b"", {"location": "https://elsewhere/"}), "redirects to https://elsewhere/; give that address as url"),
        (Reply(500, b"<h1>\n broken</h1>"), "500: no problem document, but: <h1> broken</h1>"),
    ],
)
def test_another_server_is_recognized(ready: Ask, reply: Reply, told: str) -> None:
    with scripted(reply) as server, pytest.raises(ToolSearchError, match=told):
        ready(server.url)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "127.0.0.1:8000"}, "url='127.0.0.1:8000': must be the address of a server"),
        ({"url": "http://"}, "url='http://': must be"),
        ({"url": "http://a", "timeout_s": 0}, "timeout_s=0: must be above 0"),
        ({"url": "http://a", "retries": -1}, "retries=-1: must be 0 or more"),
        ({"url": "http://a", "key": "two\nlines"}, "key holds what no key has"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], told: str) -> None:
    for kind in (ToolSearch, AsyncToolSearch):
        with pytest.raises(InputError, match=told):
            kind(**settings)


@pytest.mark.parametrize("package", ["serve_app.client", "cohyde"])
def test_the_client_imports_nothing_that_an_agent_need_not_have(package: str) -> None:
    code = (
        f"import sys; sys.path[:0] = ['.', 'serve_app/public']; from {package} import ToolSearch\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert {"httpx", "pydantic", "tenacity"} <= loaded
    assert loaded & {"torch", "ray", "pyarrow", "numpy", "yaml", "fastapi", "starlette", "mcp", "typer", "vllm"} == set()


def test_cohyde_is_the_client_itself() -> None:
    import cohyde

    assert cohyde.ToolSearch is ToolSearch
    assert cohyde.ToolSearchError is ToolSearchError
