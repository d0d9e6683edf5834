"""Who is answered: keys, scopes, addresses and names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from serve_app import keys, problems
from serve_app.keys import Client
from tests.unit.serve_app.guarded import ELSEWHERE, Echo, Keyed, ask, open_guard


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
        ("POST", "/v1/search/anthropic", "search"),
        ("POST", "/mcp", "search"),
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
