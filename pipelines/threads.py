"""Blocking work beside the event loop.

Invariants: the threads are daemons, so work that is still blocked never holds up the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def in_thread(call: Callable[[], Result], name: str) -> asyncio.Future[Result]:
    """Run ``call`` in a daemon thread; the future gives its result or exception to the running event loop.

    Not ``asyncio.to_thread``: at its end ``asyncio.run`` waits for those threads, however long they block.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except (Exception, SystemExit) as raised:
            # Ray ends a thread that talks to a cluster going down by SystemExit, which no future may carry.
            error = raised if isinstance(raised, Exception) else RuntimeError(f"{name} was ended: {raised!r}")
        with contextlib.suppress(RuntimeError):
            # Raised where the event loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
