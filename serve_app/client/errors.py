"""The one error of the client."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from serve_app.schema.operation import Problem

SHOWN_CHARACTERS = 200
"""Of an answer that is no problem document, as a proxy's page."""


class ToolSearchError(Exception):
    """The server refused, failed, or was not reached."""

    def __init__(
        self,
        status: int | None,
        detail: str,
        errors: Sequence[Mapping[str, str]] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """``status`` is None where no answer came; ``errors`` has an entry {field, message} for each field that is wrong;
        ``retry_after_s`` is how long the server wants to be left alone."""
        super().__init__(detail if status is None else f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.errors = list(errors or ())
        self.retry_after_s = retry_after_s


def of_response(response: httpx.Response) -> ToolSearchError:
    """What an answer that is no success says."""
    retry_after = _seconds(response.headers.get("retry-after"))
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return ToolSearchError(response.status_code, _shown(response), None, retry_after)
    return ToolSearchError(response.status_code, problem.detail, problem.errors, retry_after)


def of_silence(url: str, error: httpx.RequestError) -> ToolSearchError:
    """What is said where no answer came."""
    why = str(error) or type(error).__name__
    return ToolSearchError(None, f"{url} does not answer ({why}); is it the server's address, and does the server run?")


def _shown(response: httpx.Response) -> str:
    if response.has_redirect_location:
        return f"the server redirects to {response.headers['location']}; give that address as url"
    text = " ".join(response.text.split())[:SHOWN_CHARACTERS]
    return f"no problem document, but: {text}" if text else response.reason_phrase or "an empty answer"


def _seconds(value: Any) -> float | None:
    """Of a Retry-After header: seconds, or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
