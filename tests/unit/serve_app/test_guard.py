"""The guard, asked as a server would ask it: over ASGI, from addresses and with headers of the tests' choosing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from configs.serving import LimitsConfig
from serve_app import guard, keys, problems
from serve_app.guard import Guard
from serve_app.keys import Client, KeyRing

ELSEWHERE = ("10.0.0.1", 1)
SAFE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "cache-control": "no-store",
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Echo:
    """Answers with the body it was sent, and notes who asked."""

    def __init__(self, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.headers = headers or []
        self.asked_by: list[Client | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked_by.append(scope.get("state", {}).get("client"))
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": body})


class Keyed:
    """A guarded application with a key file."""

    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "keys.json"
        keys.add(self.file, "first", ["search"], None)
        self.clock = Clock()
        self.echo = Echo()

    def key(self, *scopes: str, tenant: str = "acme", **more: Any) -> str:
        return keys.add(self.file, tenant, scopes or ("search",), more.pop("namespaces", None), **more)[1]

    def guard(self, app: Any = None, **limits: int) -> Guard:
        return Guard(app or self.echo, KeyRing(self.file, self.clock), LimitsConfig(**limits), self.clock)


@pytest.fixture
def keyed(tmp_path: Path) -> Keyed:
    return Keyed(tmp_path)


def open_guard(app: Any = None, **limits: int) -> Guard:
    return Guard(app or Echo(), None, LimitsConfig(**limits))


async def sent(
    app: Any,
    method: str,
    path: str,
    *,
    client: Any = ELSEWHERE,
    host: str = "localhost",
    secret: str = "",
    root: str = "",
    **more: Any,
) -> httpx.Response:
    headers = {"host": host, **({"authorization": f"Bearer {secret}"} if secret else {}), **more.pop("headers", {})}
    transport = httpx.ASGITransport(app=app, client=client, root_path=root, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.request(method, path, headers=headers, **more)


def ask(app: Any, method: str, path: str, **more: Any) -> httpx.Response:
    return asyncio.run(sent(app, method, path, **more))


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


# Who may ask


@pytest.mark.parametrize("path", ["/", "/web/app.js", "/healthz", "/readyz", "/openapi.json"])
def test_open_paths_ask_for_no_key_and_only_when_they_are_read(keyed: Keyed, path: str) -> None:
    app = keyed.guard()
    assert [ask(app, method, path).status_code for method in ("GET", "HEAD", "POST", "DELETE")] == [200, 200, 401, 401]


def test_a_missing_or_unknown_key_is_401_and_says_how_to_send_one(keyed: Keyed) -> None:
    app = keyed.guard()
    wrong = [{}, {"authorization": "Bearer "}, {"x-api-key": keys.PREFIX + "x" * 43}, {"authorization": f"Basic {keyed.key()}"}]
    for headers in wrong:
        answer = ask(app, "POST", "/v1/search", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
    assert "Authorization: Bearer" in ask(app, "POST", "/v1/search").json()["detail"]
    assert keyed.echo.asked_by == []


def test_a_key_is_taken_from_either_header(keyed: Keyed) -> None:
    secret = keyed.key("search", tenant="acme", namespaces=["s3"], train_on=False)
    app = keyed.guard()
    for headers in ({"authorization": f"Bearer {secret}"}, {"authorization": f"bearer  {secret} "}, {"x-api-key": secret}):
        assert ask(app, "POST", "/v1/search", headers=headers).status_code == 200
    client = keyed.echo.asked_by[0]
    assert client is not None and client == keyed.echo.asked_by[1] == keyed.echo.asked_by[2]
    assert (client.tenant, client.scopes, client.namespaces, client.train_on) == ("acme", {"search"}, ("s3",), False)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/metrics", "admin"),
        ("GET", "/metrics/", "admin"),
        ("PUT", "/v1/tools/s3.CreateBucket", "catalog"),
        ("DELETE", "/v1/tools/a/b", "catalog"),
        ("POST", "/v1/tools:bulk", "catalog"),
        ("POST", "/v1/feedback", "feedback"),
        ("POST", "/v1/search", "search"),
        ("GET", "/v1/tools/s3.CreateBucket", "search"),
        ("GET", "/v1/feedback", "search"),
        ("GET", "/v1/releases", "search"),
    ],
)
def test_each_path_needs_its_scope_and_admin_has_them_all(keyed: Keyed, method: str, path: str, scope: str) -> None:
    others = {"search", "feedback", "catalog"} - {scope}
    right, wrong, admin = keyed.key(scope), keyed.key(*others), keyed.key("admin")
    app = keyed.guard()
    assert ask(app, method, path, secret=right).status_code == 200
    assert ask(app, method, path, secret=admin).status_code == 200
    refused = ask(app, method, path, secret=wrong)
    assert refused.status_code == 403
    assert f"'{scope}'" in refused.json()["detail"]


def test_any_key_reaches_the_404_of_a_path_that_nothing_answers(keyed: Keyed) -> None:
    secret = keyed.key("feedback")
    routed = FastAPI()
    problems.install(routed)
    assert ask(keyed.guard(routed), "GET", "/nothing", secret=secret).status_code == 404
    assert ask(keyed.guard(routed), "GET", "/nothing").status_code == 401


def test_no_spelling_of_a_path_gets_around_its_scope(keyed: Keyed) -> None:
    routed = FastAPI()
    routed.get("/metrics")(lambda: "figures")
    routed.post("/v1/feedback")(lambda: "written")
    routed.post("/v1/tools:bulk")(lambda: "changed")
    secret, admin = keyed.key("search"), keyed.key("admin")
    app = keyed.guard(routed)
    reached = ask(app, "GET", "/metrics%0A", secret=admin)
    assert reached.status_code == 200, "the router no longer takes this spelling, so that the test proves nothing"
    for method, path in (("GET", "/metrics"), ("POST", "/v1/feedback"), ("POST", "/v1/tools:bulk")):
        spellings = [path, f"{path}%0A", path.replace("e", "%65"), f"{path}/", f"/{path}", f"/x/..{path}", path.upper()]
        statuses = {ask(app, method, f"http://localhost{spelling}", secret=secret).status_code for spelling in spellings}
        assert 403 in statuses and not statuses & {200}
    assert ask(app, "GET", "/prefix/metrics", secret=secret, root="/prefix").status_code == 403


def test_a_key_that_is_revoked_or_added_while_the_server_runs(keyed: Keyed) -> None:
    app = keyed.guard()
    id, secret = keys.add(keyed.file, "late", ["search"], None)
    assert ask(app, "GET", "/v1/tools", secret=secret).status_code == 401
    keyed.clock.now += 1
    assert ask(app, "GET", "/v1/tools", secret=secret).status_code == 200
    keys.revoke(keyed.file, id)
    keyed.clock.now += 1
    assert ask(app, "GET", "/v1/tools", secret=secret).status_code == 401


# Without keys


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_without_keys_this_machine_may_do_everything(address: str) -> None:
    echo = Echo()
    app = open_guard(echo)
    for method, path in (("GET", "/"), ("POST", "/v1/search"), ("PUT", "/v1/tools/a"), ("GET", "/metrics")):
        assert ask(app, method, path, client=(address, 1)).status_code == 200
    local = Client("local", frozenset({"search", "feedback", "catalog", "admin"}), None, True, "local")
    assert echo.asked_by == [local] * 4


@pytest.mark.parametrize(
    "client", [ELSEWHERE, ("128.0.0.1", 1), ("::ffff:10.0.0.1", 1), ("::2", 1), ("127.evil", 1), ("", 0), None]
)
@pytest.mark.parametrize("path", ["/", "/healthz", "/web/app.js", "/v1/search"])
def test_without_keys_no_other_machine_is_answered(client: Any, path: str) -> None:
    refused = ask(open_guard(), "GET", path, client=client)
    assert refused.status_code == 403
    assert "cohyde keys add" in refused.json()["detail"] and "keys=FILE" in refused.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/v1/search"])
def test_without_keys_a_foreign_name_that_points_here_is_refused(path: str) -> None:
    def status(host: str) -> int:
        return ask(open_guard(), "GET", path, client=("127.0.0.1", 1), host=host).status_code

    assert {status(host) for host in ("localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8000")} == {200}
    foreign = (
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "localhost:x",
        "localhost\n",
        "",
    )
    assert {status(host) for host in foreign} == {403}


def test_without_keys_a_missing_host_is_refused() -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("127.0.0.1", 1)}
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(open_guard()(scope, None, send))  # type: ignore[arg-type]
    assert messages[0]["status"] == 403


@pytest.mark.parametrize("path", ["/", "/v1/search"])
def test_without_keys_a_page_of_another_machine_is_refused(path: str) -> None:
    def status(origin: str) -> int:
        return ask(open_guard(), "POST", path, client=("127.0.0.1", 1), headers={"origin": origin}).status_code

    assert {status(origin) for origin in ("http://localhost:8000", "https://127.0.0.1", "http://[::1]:1")} == {200}
    assert {status(origin) for origin in ("https://evil.example", "null", "http://localhost.evil.example", "file://", "")} == {403}


def test_with_keys_address_and_host_do_not_matter(keyed: Keyed) -> None:
    secret, headers = keyed.key(), {"origin": "https://a.example"}
    assert ask(keyed.guard(), "POST", "/v1/search", host="tools.example", headers=headers, secret=secret).status_code == 200


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
