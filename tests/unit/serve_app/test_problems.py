"""Problem documents: whatever goes wrong in an application, what its client is told."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import Body, FastAPI
from starlette.exceptions import HTTPException

from configs.errors import InputError
from serve_app import problems
from serve_app.keys import PREFIX
from serve_app.problems import ProblemError
from serve_app.schema.catalog import ToolBody
from serve_app.schema.operation import Problem
from serve_app.schema.search import FeedbackRequest, SearchRequest

SECRET = PREFIX + "s" * 43


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    problems.install(app)
    app.post("/search", responses=problems.responses(422, 429))(_search)
    app.post("/feedback")(_feedback)
    app.post("/tools")(_tools)
    return app


async def _search(request: SearchRequest) -> str:
    return request.query


async def _feedback(request: FeedbackRequest) -> str:
    return "written"


async def _tools(tools: list[ToolBody] = Body(max_length=1_000)) -> str:  # noqa: B008
    return "changed"


def ask(app: FastAPI, method: str, path: str, **more: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.request(method, path, **more)

    return asyncio.run(go())


def problem_of(answer: httpx.Response, status: int) -> Problem:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(answer.json())
    assert problem.status == status and problem.type == "about:blank" and problem.title and problem.detail
    return problem


def raising(app: FastAPI, error: Exception) -> httpx.Response:
    def endpoint() -> None:
        raise error

    app.get("/raises")(endpoint)
    return ask(app, "GET", "/raises")


def as_json(content: bytes) -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": "application/json"}}


def test_a_problem_is_answered_as_it_was_raised(app: FastAPI) -> None:
    errors = [{"field": "k", "message": "is odd"}]
    answer = raising(app, ProblemError(429, "slower", headers={"Retry-After": "7"}, errors=errors))
    problem = problem_of(answer, 429)
    assert (problem.title, problem.detail, problem.errors) == ("Too Many Requests", "slower", errors)
    assert answer.headers["retry-after"] == "7"


def test_a_title_of_its_own_and_a_status_without_a_name() -> None:
    assert json.loads(problems.problem_response(ProblemError(409, "no", title="Taken")).body)["title"] == "Taken"
    assert json.loads(problems.problem_response(ProblemError(499, "no")).body)["title"] == "Error"
    assert "errors" not in json.loads(problems.problem_response(ProblemError(409, "no")).body)


def test_every_wrong_field_is_named_and_no_value_is_echoed(app: FastAPI) -> None:
    body = {"query": " ", "k": "hunter2", "mode": "hunter3", "namespaces": ["a", ""], "colour": "hunter4"}
    answer = ask(app, "POST", "/search", json=body)
    problem = problem_of(answer, 422)
    assert problem.errors is not None
    assert [entry["field"] for entry in problem.errors] == ["k", "mode", "namespaces.1", "query", "colour"]
    messages = {entry["field"]: entry["message"] for entry in problem.errors}
    assert messages["query"] == "is blank"
    assert problem.detail == f"k: {messages['k']} (and 4 more)"
    assert "integer" in messages["k"]
    assert "hunter" not in answer.text


def test_one_wrong_field(app: FastAPI) -> None:
    problem = problem_of(ask(app, "POST", "/search", json={}), 422)
    assert (problem.detail, problem.errors) == ("query: field required", [{"field": "query", "message": "field required"}])


@pytest.mark.parametrize("field", ["type", SECRET])
def test_a_key_in_the_wrong_place_is_not_echoed(app: FastAPI, field: str) -> None:
    answer = ask(app, "POST", "/feedback", json={"events": [{"type": "label", field: SECRET}], SECRET: SECRET})
    problem_of(answer, 422)
    assert SECRET[:-1] not in answer.text and f"{PREFIX}..." in answer.text


def test_a_body_of_many_mistakes_makes_no_larger_answer(app: FastAPI) -> None:
    answer = ask(app, "POST", "/tools", json=[{"x" * 2_000: 1}] * 400)
    problem = problem_of(answer, 422)
    assert problem.errors is not None and len(problem.errors) == problems.MAX_ERRORS
    assert "and 1199 more" in problem.detail
    assert max(len(entry["field"]) for entry in problem.errors) < 600


NO_JSON = [b"{", b"", b"nonsense", b'{"query": "a",}', b"[" * 100_000, b'{"query": "\xff"}', b"\xff\xfe", b"9" * 5_000, b"[1]"]


@pytest.mark.parametrize("content", NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_no_json_is_the_clients_mistake(app: FastAPI, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(app, "POST", "/search", **as_json(content))
    problem_of(answer, answer.status_code)
    assert answer.status_code in (400, 422)
    assert caplog.records == [record for record in caplog.records if record.levelno < logging.ERROR]


def test_what_is_no_json_is_told_where_and_why(app: FastAPI) -> None:
    assert problem_of(ask(app, "POST", "/search", **as_json(b'{"query" "a"}')), 422).detail == (
        "body: is not JSON: Expecting ':' delimiter at character 9"
    )
    assert "UTF-8" in problem_of(ask(app, "POST", "/search", **as_json(b'{"query": "\xff"}')), 400).detail
    untold = ask(app, "POST", "/search", content=b'{"query": "a"}')
    assert "Content-Type: application/json" in problem_of(untold, 422).detail


def test_half_a_surrogate_pair_does_not_break_the_answer(app: FastAPI) -> None:
    for content in (b'{"query": "a\\ud800"}', b'{"\\ud800": 1}'):
        problem_of(ask(app, "POST", "/search", **as_json(content)), 422)
    assert problem_of(raising(app, ProblemError(404, "no tool \ud800")), 404).detail == "no tool ?"


def test_missing_pages_and_methods(app: FastAPI) -> None:
    assert problem_of(ask(app, "GET", "/nothing"), 404).detail == "Not Found: GET /nothing"
    answer = ask(app, "DELETE", "/search")
    assert problem_of(answer, 405).detail == "Method Not Allowed: DELETE /search"
    assert answer.headers["allow"] == "POST"


def test_an_http_exception_keeps_what_it_says(app: FastAPI) -> None:
    answer = raising(app, HTTPException(503, "no release yet", headers={"Retry-After": "5"}))
    assert problem_of(answer, 503).detail == "no release yet"
    assert answer.headers["retry-after"] == "5"


def test_wrong_input_is_422(app: FastAPI) -> None:
    assert problem_of(raising(app, InputError("tool_id=x: unknown")), 422).detail == "tool_id=x: unknown"


def test_what_nobody_foresaw_is_logged_and_not_told(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    answer = raising(app, ValueError("the cellar is wet"))
    problem_of(answer, 500)
    assert "cellar" not in answer.text and "Traceback" not in answer.text
    record = next(record for record in caplog.records if record.name == "serve_app.problems")
    assert record.getMessage() == "GET '/raises' failed"
    assert "the cellar is wet" in caplog.text and "Traceback" in caplog.text


def test_openapi_describes_errors_as_problems(app: FastAPI) -> None:
    document = ask(app, "GET", "/openapi.json").json()
    described = document["paths"]["/search"]["post"]["responses"]
    assert described.keys() == {"200", "422", "429"}
    reference = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert described["422"]["content"] == described["429"]["content"] == reference
    assert described["429"]["description"] == "Too Many Requests"
    assert document["components"]["schemas"]["Problem"] == Problem.model_json_schema()
