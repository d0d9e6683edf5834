"""The deployments that hold a model, as a replica calls them.

Invariants: every wait has a deadline; a model that does not answer is a ``ModelGoneError``, never a failed search.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from actors.core.types import Tool
from serve_app.time_box import ModelGoneError

logger = logging.getLogger(__name__)
PREPARE_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 60.0


class RerankerCalls:
    """The reranker's deployment as a replica sees it."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        """``handle`` is to ``Reranker``."""
        self._handle = handle
        self._loop = asyncio.get_event_loop()

    def prepare(self, on_ready: Callable[[], None]) -> None:
        """Have the model loaded, from any thread, and ``on_ready`` told; what goes wrong shows at the first search."""
        asyncio.run_coroutine_threadsafe(self._prepare(on_ready), self._loop)

    async def _prepare(self, on_ready: Callable[[], None]) -> None:
        if await _prepared(self._handle.likelihoods.remote("", []), "the reranker did not load"):
            on_ready()

    async def __call__(self, query: str, tools: Sequence[Tool]) -> list[float]:
        """Likelihoods of a query given each tool. Raises ``ModelGoneError``."""
        found: list[float] = await _answered(self._handle.likelihoods.remote(query, list(tools)), "the reranker")
        return found


async def _answered(response: Any, who: str) -> Any:
    """What a deployment answers. Raises ``ModelGoneError`` where it does not."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await response
    except TimeoutError as error:
        raise ModelGoneError(f"{who} did not answer in {CALL_TIMEOUT_S:.0f} s") from error
    except (RayError, RayServeException) as error:
        raise ModelGoneError(f"{who} is away ({type(error).__name__})") from error


async def _prepared(response: Any, failure: str) -> bool:
    """Whether a deployment loaded what it was told to, ahead of its use."""
    try:
        async with asyncio.timeout(PREPARE_TIMEOUT_S):
            await response
    except (RayError, RayServeException, TimeoutError) as error:
        logger.warning("%s ahead of its use: %s", failure, type(error).__name__)
        return False
    return True


class RewriterCalls:
    """The rewriter's deployment as a replica sees it."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        """``handle`` is to ``Rewriter``."""
        self._handle = handle
        self._loop = asyncio.get_event_loop()

    async def __call__(self, version: int, query: str, titles: Sequence[str]) -> list[str]:
        """The rewrites of a query. Raises ``ModelGoneError``."""
        made: list[str] = await _answered(self._handle.rewrite.remote(version, query, list(titles)), "the rewriter")
        return made

    def prepare(self, version: int, on_ready: Callable[[], None]) -> None:
        """Have a version loaded, from any thread, and ``on_ready`` told; what goes wrong shows at the first rewrite."""
        asyncio.run_coroutine_threadsafe(self._prepare(version, on_ready), self._loop)

    async def _prepare(self, version: int, on_ready: Callable[[], None]) -> None:
        if await _prepared(self._handle.prepare.remote(version), f"the rewriter did not load version {version}"):
            on_ready()
