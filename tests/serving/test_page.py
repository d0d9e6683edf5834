"""The search page in a real browser: what a person sees, by keyboard and on a phone, and what reaches the query log."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Request, Response, Route, expect, sync_playwright

from serve_app.client import ToolSearch

CHROMIUM = shutil.which("chromium")
PATIENCE_S = 20.0
"""For anything that the page or the server does: a loaded machine is slow, and no test waits longer than it must."""
TOOL_ID = re.compile(r"(create|delete|list|update|start)-(bucket|queue|table|cluster|alarm|role)")

pytestmark = [
    pytest.mark.serving,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the path: the page needs a browser"),
]


class Server(Protocol):
    """What the fixture ``server`` gives."""

    @property
    def url(self) -> str: ...

    @property
    def log_dir(self) -> Path: ...


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=1000 * PATIENCE_S)
    with sync_playwright() as playwright:
        # A container runs as root, where Chromium's own sandbox refuses to start.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    yield page
    # The page polls: a request may be in the hands of a route when its test ends.
    page.unroute_all(behavior="ignoreErrors")
    context.close()


def origin(server: Server) -> str:
    return server.url.rstrip("/")


def column(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title)


def show(page: Page, server: Server, query: str) -> None:
    """Opens the page and searches; returns when both columns show the five tools that are the default."""
    page.goto(f"{origin(server)}/")
    box = page.get_by_role("searchbox")
    box.fill(query)
    box.press("Enter")
    expect_tools(page)


def expect_tools(page: Page) -> None:
    for title in ("Raw query", "With rewrite"):
        expect(column(page, title).locator(".tool")).to_have_count(5)
    # The last thing that a search does: the columns are compared before it.
    expect(page.locator("#status")).to_contain_text("Tools found: 5")


def picture(page: Page, name: str) -> None:
    folder = os.environ.get("COHYDE_SCREENSHOTS")
    if folder:
        # Hiding the caret would inject a style, which the page's security policy refuses.
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True, caret="initial")


def logged(server: Server, kind: str, **fields: object) -> dict[str, Any]:
    """The first event of this kind and these fields, once it is in the query log."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for event in events(server.log_dir):
            if event["type"] == kind and all(event.get(name) == value for name, value in fields.items()):
                return event
        time.sleep(0.1)
    raise AssertionError(f"no {kind} event with {fields} within {PATIENCE_S:g} s; there are {events(server.log_dir)}")


def events(log_dir: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted(log_dir.rglob("*.jsonl")):
        # What stands behind the last line break is still being written.
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        found += [json.loads(line) for line in whole.split("\n") if line.strip()]
    return found


def test_a_search_by_keyboard_alone_shows_tools_in_both_columns(page: Page, server: Server) -> None:
    page.goto(f"{origin(server)}/")
    box = page.get_by_role("searchbox")
    expect(box).to_be_focused()
    page.keyboard.type("make a bucket")
    page.keyboard.press("Enter")
    expect_tools(page)
    expect(page.locator("#release")).to_have_text(re.compile(r"\w"))
    release = page.locator("#release").inner_text()
    for title in ("Raw query", "With rewrite"):
        expect(column(page, title).locator(".facts")).to_contain_text(f"release {release}")
        for tool in column(page, title).locator(".tool").all():
            assert TOOL_ID.fullmatch(tool.get_attribute("data-tool") or "")
            expect(tool.locator(".change")).not_to_be_empty()
    # The page shows what every other client is told.
    with ToolSearch(origin(server)) as client:
        told = [tool.tool_id for tool in client.search("make a bucket", k=5, mode="raw", min_score=-1).tools]
    assert [tool.get_attribute("data-tool") for tool in column(page, "Raw query").locator(".tool").all()] == told
    # Either the rewrite itself or the reason why there is none.
    expect(column(page, "With rewrite").locator(".rewrites")).to_have_text(re.compile(r"\S"))
    picture(page, "search")

    page.keyboard.press("Tab")
    expect(page.get_by_label("second column")).to_be_focused()
    page.keyboard.press("/")
    expect(box).to_be_focused()
    expect(box).to_have_value("make a bucket")
    page.keyboard.press("Escape")
    expect(box).to_have_value("")
    expect(box).to_be_focused()
    expect(page.locator("#results")).to_be_hidden()


def test_a_link_repeats_a_search(page: Page, server: Server) -> None:
    show(page, server, "delete the queue & its alarm")
    link = page.url
    assert "#q=" in link
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_role("searchbox")).to_have_value("delete the queue & its alarm")
    expect_tools(page)


def test_a_tool_shows_why_it_ranks_and_what_it_takes(page: Page, server: Server) -> None:
    show(page, server, "create bucket")
    tool = column(page, "Raw query").locator(".tool").first
    expect(tool.locator(".why")).to_contain_text("query cosine")
    schema = tool.get_by_role("group", name="Input schema")
    expect(schema).to_be_hidden()
    tool.locator("summary").press("Enter")
    expect(schema).to_be_visible()
    assert isinstance(json.loads(schema.inner_text()), dict)
    picture(page, "tool")


def test_worked_is_written_to_the_log_for_the_tool_and_the_search_that_was_pressed(page: Page, server: Server) -> None:
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    show(page, server, "start the cluster")
    searches = [answer for answer in answers if answer.url.endswith("/v1/search")]
    requests = {json.loads(answer.request.post_data or "")["mode"]: answer.json()["request_id"] for answer in searches}
    assert set(requests) == {"raw", "rewrite"}
    # One tool of each column, with another result each: neither may end up at the other's search.
    for title, mode, button, result in (
        ("Raw query", "raw", "worked", "succeeded"),
        ("With rewrite", "rewrite", "did not work", "failed"),
    ):
        tool = column(page, title).locator(".tool").nth(1)
        tool_id = tool.get_attribute("data-tool")
        tool.get_by_role("button", name=button, exact=True).press("Enter")
        expect(tool.get_by_role("button", name="noted")).to_be_visible()
        expect(page.get_by_role("status").filter(has_text="Noted")).to_contain_text(button)
        logged(server, "outcome", request_id=requests[mode], tool_id=tool_id, result=result)
    picture(page, "feedback")


def test_none_of_these_writes_a_label(page: Page, server: Server) -> None:
    query = "throw away the messages that wait"
    show(page, server, query)
    page.get_by_role("button", name="none of these").press("Enter")
    field = page.get_by_label("Id of the right tool")
    expect(field).to_be_focused()
    field.fill("no-such-tool")
    field.press("Enter")
    expect(page.locator("#label-problem")).to_have_text(re.compile(r"\S"))
    picture(page, "label")
    field.fill("delete-queue")
    field.press("Enter")
    expect(page.locator("#status")).to_contain_text("is right for this query")
    expect(field).to_be_hidden()
    event = logged(server, "label", query=query)
    assert event["tool_ids"] == ["delete-queue"]
    assert event["by"] == "page"


def test_a_phone_shows_the_columns_one_below_the_other_and_never_scrolls_sideways(page: Page, server: Server) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    show(page, server, "list every table that a role may read")
    expect(page.locator("#chart circle").first).to_be_visible()
    for summary in page.locator("summary").all():
        summary.press("Enter")
    page.get_by_role("button", name="none of these").press("Enter")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    raw, rewritten = (column(page, title).bounding_box() for title in ("Raw query", "With rewrite"))
    assert raw is not None
    assert rewritten is not None
    assert abs(rewritten["x"] - raw["x"]) < 1
    assert rewritten["y"] >= raw["y"] + raw["height"]
    picture(page, "phone")


def test_nothing_comes_from_elsewhere_and_the_console_stays_silent(page: Page, server: Server) -> None:
    requests: list[Request] = []
    messages: list[ConsoleMessage] = []
    errors: list[Error] = []
    page.on("request", lambda request: requests.append(request))
    page.on("console", lambda message: messages.append(message))
    page.on("pageerror", lambda error: errors.append(error))
    show(page, server, "update the alarm")
    expect(page.locator("#chart circle").first).to_be_visible()
    policy = page.request.get(f"{origin(server)}/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    asked = [request.url for request in requests]
    assert f"{origin(server)}/web/app.js" in asked
    assert [url for url in asked if not url.startswith(f"{origin(server)}/")] == []
    assert [message.text for message in messages if message.type == "error"] == []
    assert errors == []
    picture(page, "quiet")


def test_the_releases_are_a_chart_and_a_table(page: Page, server: Server) -> None:
    page.goto(f"{origin(server)}/")
    chart = page.get_by_role("img", name="NDCG@5")
    expect(chart.locator("circle").first).to_be_visible()
    expect(chart.locator("text.served")).to_have_text("served")
    titles = chart.locator("circle title").all_text_contents()
    assert [title for title in titles if not re.fullmatch(r"Release \d+, \w+: \d+\.\d % \(.+\)", title)] == []
    page.get_by_text("All releases").press("Enter")
    rows = page.locator("#releases tr")
    expect(rows.first).to_be_visible()
    numbers = {title.split(",")[0].removeprefix("Release ") for title in titles}
    assert numbers <= set(rows.locator("th").all_text_contents())
    expect(rows.filter(has_text="served")).to_have_count(1)
    picture(page, "releases")


def test_a_new_release_is_announced(page: Page, server: Server) -> None:
    switched = False

    def ready(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        route.fulfill(response=answer, json={**body, "release": "4711"} if switched else body)

    page.route("**/readyz", ready)
    page.goto(f"{origin(server)}/")
    # The chart of the release that is served first is there before the switch, so the request below is another one.
    expect(page.locator("#chart circle").first).to_be_visible()
    expect(page.locator("#release-note")).to_be_empty()
    with page.expect_request("**/v1/releases"):
        switched = True
        expect(page.get_by_role("status").filter(has_text="Release 4711 is served now")).to_be_visible()


def test_a_server_with_keys_is_given_one(page: Page, server: Server) -> None:
    def guarded(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            problem = {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "name an API key"}
            route.fulfill(status=401, content_type="application/problem+json", json=problem)

    page.route("**/v1/**", guarded)
    page.goto(f"{origin(server)}/#q=create+role")
    expect(column(page, "Raw query").locator(".problem")).to_contain_text("name an API key")
    key = page.get_by_label("API key")
    expect(key).to_be_focused()
    key.fill("wrong")
    key.press("Enter")
    expect(page.locator("#key-note")).to_contain_text("does not accept")
    key.fill("right")
    key.press("Enter")
    expect_tools(page)
    expect(key).to_be_hidden()
    # The key outlives a reload, but not the tab.
    page.reload()
    expect_tools(page)
    assert page.evaluate("Object.values(localStorage)") == []


def test_a_refused_search_says_why(page: Page, server: Server) -> None:
    problem = {
        "type": "about:blank",
        "title": "Unprocessable",
        "status": 422,
        "detail": "the request is wrong",
        "errors": [{"field": "k", "message": "at most 3"}],
    }
    page.route("**/v1/search", lambda route: route.fulfill(status=422, content_type="application/problem+json", json=problem))
    page.goto(f"{origin(server)}/#q=list+tables")
    for title in ("Raw query", "With rewrite"):
        expect(column(page, title).locator(".problem")).to_have_text(re.compile("the request is wrong .+k: at most 3"))
    expect(page.locator("#status")).to_contain_text("no answer by the raw query")
