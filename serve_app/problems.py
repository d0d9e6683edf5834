"""Problem documents (RFC 9457): the one form in which every error of the server is answered.

Invariants: whatever goes wrong, the answer is ``application/problem+json`` of the shape ``schema.Problem``; no answer holds a
traceback, the input that was refused, or a key's secret; what nobody foresaw is answered with 500 and goes to the log.
"""

from __future__ import annotations

import http
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from configs.errors import InputError
from serve_app.keys import PREFIX
from serve_app.schema.operation import Problem

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 100
"""Fields named in one answer: a body of a thousand wrong tools must not make an answer larger than itself."""
MAX_CHARACTERS = 500
"""Of a detail, a message or a field's name, each of which may quote what a client sent."""

_SECRET = re.compile(PREFIX + r"[\w-]+")

logger = logging.getLogger(__name__)


class ProblemError(Exception):
    """What ends in a problem document, wherever it is raised."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        """``title`` is the status's own name where none is given; ``errors`` are entries {field, message}."""
        super().__init__(detail)
        self.status = status
        self.title = title or phrase(status)
        self.detail = detail
        self.headers = headers
        self.errors = errors


def phrase(status: int) -> str:
    """The name of a status."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def problem_response(error: ProblemError) -> Response:
    """The document that tells a client of ``error``."""
    # Its type says no more than its status does, which is what about:blank means.
    document: dict[str, Any] = {"type": "about:blank", "title": error.title, "status": error.status, "detail": _told(error.detail)}
    if error.errors is not None:
        document["errors"] = [{name: _told(text) for name, text in entry.items()} for entry in error.errors]
    # JSON can name halves of surrogate pairs, and UTF-8 cannot.
    content = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    return Response(content, error.status, error.headers, MEDIA_TYPE)


def unexpected(error: Exception, method: str, path: str) -> ProblemError:
    """Log what nobody foresaw, with its traceback; returns what the client is told of it."""
    logger.error("%s %r failed", method, _told(path), exc_info=error)
    return ProblemError(500, "the server failed on this request; its log says why")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's ``responses=`` says of its errors; ``install`` puts the schema referred to into the document."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {status: {"description": phrase(status), "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Have every error of ``app`` answered with a problem document, and described as one in its OpenAPI document."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(InputError, _on_input)
    app.add_exception_handler(Exception, _on_unexpected)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        # Not as a route's ``model``: FastAPI would describe it as application/json, which it is not.
        document.setdefault("components", {}).setdefault("schemas", {})[Problem.__name__] = Problem.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign]


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    entries = [_entry(item, read=not isinstance(error.body, bytes)) for item in found[:MAX_ERRORS]]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return problem_response(ProblemError(422, f"{entries[0]['field']}: {entries[0]['message']}{more}", errors=entries))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if detail == phrase(error.status_code):
        detail = f"{detail}: {request.method} {request.scope['path']}"
    elif isinstance(error.__cause__, UnicodeDecodeError):
        detail = f"{detail}: it is not UTF-8"
    return problem_response(ProblemError(error.status_code, detail, headers=error.headers))


async def _on_input(request: Request, error: Exception) -> Response:
    return problem_response(ProblemError(422, str(error)))


async def _on_unexpected(request: Request, error: Exception) -> Response:
    return problem_response(unexpected(error, request.method, request.scope["path"]))


def _entry(item: dict[str, Any], read: bool) -> dict[str, str]:
    """One wrong field; never its value, which pydantic's entry holds too. ``read``: the body was JSON at all."""
    place = [str(part) for part in item["loc"]]
    if item["type"] == "json_invalid":
        where = f" at character {place[-1]}" if place[-1].isdigit() else ""
        return {"field": "body", "message": f"is not JSON: {item['ctx']['error']}{where}"}
    if not read and place == ["body"]:
        return {"field": "body", "message": "is not JSON; send JSON, with Content-Type: application/json"}
    message = item["msg"].removeprefix("Value error, ")
    return {"field": ".".join(place[1:] or place), "message": message[:1].lower() + message[1:]}


def _told(text: str) -> str:
    text = _SECRET.sub(f"{PREFIX}...", text)
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "..."
