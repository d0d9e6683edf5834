"""What the guard bounds, and the headers of every answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from serve_app import guard, keys, problems
from tests.unit.serve_app.guarded import SAFE, Echo, Keyed, ask, open_guard, pieces, sent

# Bodies


def test_a_body_that_says_it_is_too_large_is_not_read(keyed: Keyed) -> None:
    secret = keyed.key()
    app = keyed.guard(body_bytes=10)
    assert ask(app, "POST", "/v1/search", secret=secret, content=b"x" * 10).text == "x" * 10
    refused = ask(app, "POST", "/v1/search", secret=secret, content=b"x" * 11)
    assert (refused.status_code, refused.headers["connection"]) == (413, "close")
    assert "10 bytes" in refused.json()["detail"]
    assert len(keyed.echo.asked_by) == 1


def test_a_body_that_turns_out_too_large_is_never_taken_for_whole(keyed: Keyed) -> None:
    secret = keyed.key()
    app = keyed.guard(body_bytes=10)
    whole = ask(app, "POST", "/v1/search", secret=secret, content=pieces(b"x" * 6, b"y" * 4))
    assert whole.text == "x" * 6 + "y" * 4
    assert ask(app, "POST", "/v1/search", secret=secret, content=pieces(b"x" * 6, b"y" * 5)).status_code == 413
    lying = ask(app, "POST", "/v1/search", secret=secret, content=pieces(b"x" * 11), headers={"content-length": "3"})
    assert lying.status_code == 413


def test_an_application_that_makes_do_with_what_came_does_not_get_through() -> None:
    heard: list[str] = []

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            try:
                await receive()
                heard.append("more")
            except HTTPException as error:
                heard.append(str(error.status_code))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    answer = ask(open_guard(stubborn, body_bytes=5), "POST", "/", client=("127.0.0.1", 1), content=pieces(b"abc", b"def", b"ghi"))
    assert heard == ["more", "413", "413"]
    assert (answer.status_code, answer.json()["status"]) == (413, 413)


def test_fastapi_answers_a_cut_off_body_with_413_and_not_with_its_own_400(caplog: pytest.LogCaptureFixture) -> None:
    routed = FastAPI()
    problems.install(routed)
    routed.post("/v1/search")(_takes_a_body)
    more = {"client": ("127.0.0.1", 1), "headers": {"content-type": "application/json"}}
    assert ask(open_guard(routed, body_bytes=9), "POST", "/v1/search", content=pieces(b'{"a": ', b"1} "), **more).json() == {"a": 1}
    refused = ask(open_guard(routed, body_bytes=9), "POST", "/v1/search", content=pieces(b'{"a": 1}', b"  "), **more)
    assert (refused.status_code, refused.json()["detail"]) == (413, "the body is larger than 9 bytes")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def _takes_a_body(body: dict[str, int]) -> dict[str, int]:
    return body


def test_an_answer_that_has_begun_is_broken_off() -> None:
    messages: list[Any] = []

    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    async def go() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"xxx", "more_body": True}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"host", b"localhost")], "client": ("::1", 1)}
        await open_guard(hasty, body_bytes=2)(scope, receive, send)

    with pytest.raises(HTTPException):
        asyncio.run(go())
    assert [message["type"] for message in messages] == ["http.response.start"]


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", "0x1", "ten", "", "9" * 5000])
def test_a_malformed_content_length_is_400(length: str) -> None:
    answer = ask(open_guard(), "POST", "/v1/search", client=("127.0.0.1", 1), headers={"content-length": length}, content=b"x")
    assert answer.status_code == 400
    assert "Content-Length" in answer.json()["detail"]


# How often


def test_a_tenant_may_burst_and_then_has_to_keep_to_its_rate(keyed: Keyed) -> None:
    one, same_tenant, other = keyed.key(), keyed.key(), keyed.key(tenant="other")
    app = keyed.guard(requests_per_minute=30)

    def status(secret: str) -> int:
        return ask(app, "GET", "/v1/tools", secret=secret).status_code

    assert [status(one), status(same_tenant), status(one), status(one)] == [200, 200, 200, 429]
    refused = ask(app, "GET", "/v1/tools", secret=same_tenant)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert status(other) == 200
    assert ask(app, "GET", "/healthz", secret=one).status_code == 200
    keyed.clock.now += 0.5
    assert ask(app, "GET", "/v1/tools", secret=one).headers["retry-after"] == "2"
    keyed.clock.now += 1.4
    assert status(one) == 429
    keyed.clock.now += 0.1
    assert [status(one), status(one)] == [200, 429]
    keyed.clock.now += 3600
    assert [status(one) for _ in range(4)] == [200, 200, 200, 429]


def test_the_smallest_rate_still_lets_one_request_through(keyed: Keyed) -> None:
    secret, app = keyed.key(), keyed.guard(requests_per_minute=1)
    assert ask(app, "GET", "/v1/tools", secret=secret).status_code == 200
    assert ask(app, "GET", "/v1/tools", secret=secret).headers["retry-after"] == "60"


def test_without_keys_the_rate_holds_too_but_not_for_open_paths() -> None:
    app = open_guard(requests_per_minute=1)
    paths = ("/healthz", "/", "/v1/tools", "/v1/tools", "/healthz")
    assert [ask(app, "GET", path, client=("127.0.0.1", 1)).status_code for path in paths] == [200, 200, 200, 429, 200]


def test_what_is_refused_takes_nothing_of_the_rate(keyed: Keyed) -> None:
    secret, app = keyed.key("feedback"), keyed.guard(requests_per_minute=1, body_bytes=5)
    assert ask(app, "GET", "/v1/tools", secret=secret).status_code == 403
    assert ask(app, "POST", "/v1/feedback", secret=secret, content=b"x" * 6).status_code == 413
    assert ask(app, "POST", "/v1/feedback", secret=secret).status_code == 200


def test_a_tenant_has_only_so_many_requests_under_way(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    # Too few places to remember both: who has requests under way must not be forgotten.
    monkeypatch.setattr(guard, "MAX_TENANTS", 1)
    secret, other = keyed.key(), keyed.key(tenant="other")

    async def go() -> None:
        finish, begun = asyncio.Event(), asyncio.Semaphore(0)

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            begun.release()
            await finish.wait()
            if scope["path"] == "/v1/fails":
                raise RuntimeError("as it should")
            await keyed.echo(scope, receive, send)

        app = keyed.guard(slow, concurrent_requests=2)
        paths = ("/v1/fails", "/v1/tools")
        running = [asyncio.create_task(sent(app, "GET", path, secret=secret)) for path in paths]
        strangers = asyncio.create_task(sent(app, "GET", "/v1/tools", secret=other))
        for _ in range(3):
            await begun.acquire()
        refused = await sent(app, "GET", "/v1/tools", secret=secret)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        finish.set()
        assert [answer.status_code for answer in await asyncio.gather(*running, strangers)] == [500, 200, 200]
        again = [sent(app, "GET", "/v1/tools", secret=secret) for _ in range(2)]
        assert [answer.status_code for answer in await asyncio.gather(*again)] == [200, 200]

    asyncio.run(go())


def test_the_longest_unused_tenant_is_forgotten_first(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_TENANTS", 2)
    secrets = {tenant: keyed.key(tenant=tenant) for tenant in "abc"}
    app = keyed.guard(requests_per_minute=20)

    def status(tenant: str) -> int:
        return ask(app, "GET", "/v1/tools", secret=secrets[tenant]).status_code

    assert [status(tenant) for tenant in "abbacab"] == [200, 200, 200, 200, 200, 429, 200]
    assert len(app._buckets._kept) == 2


# Answers


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 413, 422, 429, 500])
def test_every_answer_has_the_headers_once_and_none_of_cors(keyed: Keyed, status: int) -> None:
    routed = FastAPI()
    problems.install(routed)
    routed.get("/v1/tools")(lambda: "tools")
    routed.get("/v1/fails")(lambda: 1 // 0)
    routed.post("/v1/search")(_takes_a_body)
    secret, spent = keyed.key("search"), keyed.key(tenant="spent")
    app = keyed.guard(routed, requests_per_minute=10, body_bytes=20)
    ask(app, "GET", "/v1/tools", secret=spent)
    asked: dict[int, tuple[str, str, dict[str, Any]]] = {
        200: ("GET", "/v1/tools", {"secret": secret}),
        400: ("GET", "/v1/tools", {"secret": secret, "headers": {"content-length": "x"}}),
        401: ("GET", "/v1/tools", {}),
        403: ("GET", "/metrics", {"secret": secret}),
        404: ("GET", "/v1/nothing", {"secret": secret}),
        413: ("POST", "/v1/search", {"secret": secret, "content": b"x" * 21}),
        422: ("POST", "/v1/search", {"secret": secret}),
        429: ("GET", "/v1/tools", {"secret": spent}),
        500: ("GET", "/v1/fails", {"secret": secret}),
    }
    method, path, more = asked[status]
    more["headers"] = {"origin": "https://a.example", **more.get("headers", {})}
    answer = ask(app, method, path, **more)
    assert answer.status_code == status
    assert {name: answer.headers.get_list(name) for name in SAFE} == {name: [value] for name, value in SAFE.items()}
    assert not [name for name in answer.headers if name.startswith("access-control-") or name == "server"]
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


def test_the_guards_headers_stand_for_the_applications_own(keyed: Keyed) -> None:
    theirs = [
        (b"Cache-Control", b"public"),
        (b"access-control-allow-origin", b"*"),
        (b"x-frame-options", b"ALLOW"),
        (b"etag", b"1"),
    ]
    answer = ask(keyed.guard(Echo(theirs)), "GET", "/")
    assert dict(answer.headers) == {**SAFE, "etag": "1"}


def test_the_pages_files_may_be_kept_if_they_are_asked_after(keyed: Keyed) -> None:
    assert ask(keyed.guard(), "GET", "/web/app.js").headers["cache-control"] == "no-cache"
    assert ask(keyed.guard(), "POST", "/web/app.js").headers["cache-control"] == "no-cache"
    assert ask(keyed.guard(), "GET", "/website", secret=keyed.key()).headers["cache-control"] == "no-store"


def test_a_failure_of_an_application_without_handlers_is_a_problem_too(keyed: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("the wires are crossed")

    answer = ask(keyed.guard(broken), "GET", "/healthz")
    assert (answer.status_code, answer.json()["status"]) == (500, 500)
    assert "wires" not in answer.text
    assert "the wires are crossed" in caplog.text


def test_no_secret_is_logged_or_answered(keyed: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    routed = FastAPI()
    problems.install(routed)
    routed.get("/v1/fails")(lambda: 1 // 0)
    known, unknown = keyed.key("search"), keys.PREFIX + "y" * 43
    app = keyed.guard(routed)
    answers = [
        ask(app, "GET", "/v1/fails", secret=known),
        ask(app, "GET", "/metrics", secret=known),
        ask(app, "GET", f"/v1/{known}", secret=known),
        ask(app, "GET", "/v1/tools", secret=unknown),
        ask(app, "PUT", f"/v1/tools/{known}", secret=known),
    ]
    assert [answer.status_code for answer in answers] == [500, 403, 404, 401, 403]
    # The test's own client logs the addresses it asks.
    logged = "\n".join(
        record.getMessage() + (record.exc_text or "") for record in caplog.records if not record.name.startswith("http")
    )
    assert "ZeroDivisionError" in logged
    told = logged + "".join(answer.text + str(answer.headers) for answer in answers)
    assert known.removeprefix(keys.PREFIX) not in told and unknown.removeprefix(keys.PREFIX) not in told


# What is not HTTP


def test_lifespan_passes_and_a_websocket_is_refused(keyed: Keyed) -> None:
    passed: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["type"])

    async def go() -> list[Any]:
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            messages.append(message)

        for kind in ("lifespan", "websocket"):
            await keyed.guard(app)({"type": kind, "path": "/", "headers": []}, receive, send)
        return messages

    assert asyncio.run(go()) == [{"type": "websocket.close", "code": 1008}]
    assert passed == ["lifespan"]
