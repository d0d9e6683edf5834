"""Micro-batches without waiting: what queues up while others are computed is the next batch.

Invariants: each batch is computed by one of a few threads, so the event loop stays free; a lone job never waits for company; an
error of a batch reaches everyone in it; a job whose asker gave up is left out where it has not begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Batcher(Generic[Job, Result]):
    """Belongs to the event loop of its first ``submit``."""

    def __init__(
        self, compute: Callable[[Sequence[Job]], Sequence[Result]], limit: int, name: str, threads: int = 1, parts: int = 1
    ) -> None:
        """``compute`` answers up to ``limit`` jobs, in their order, in one of ``threads`` threads called ``name``.

        A batch is one of ``parts`` parts of what waits: all of it where a batch takes as long as a job, less where jobs add up.
        """
        self._parts = parts
        self._compute, self._limit, self._threads = compute, limit, threads
        self._waiting: deque[tuple[Job, asyncio.Future[Result]]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._working = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, job: Job) -> Result:
        """The result of one job. Raises what ``compute`` raised."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._working < self._threads:
            self._working += 1
            task = asyncio.ensure_future(self._work())
            # The loop itself holds tasks but weakly.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    def close(self) -> None:
        """Let the thread end; a batch under way is finished."""
        self._pool.shutdown(wait=False)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch: list[tuple[Job, asyncio.Future[Result]]] = []
            most = min(self._limit, -(-len(self._waiting) // self._parts))
            while self._waiting and len(batch) < most:
                job, future = self._waiting.popleft()
                if not future.done():
                    batch.append((job, future))
            if not batch:
                continue
            try:
                results = await loop.run_in_executor(self._pool, self._compute, [job for job, _ in batch])
            except Exception as error:  # Whatever it is, it is the askers' to handle.
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        # Counted here and not when the task is seen to be done: a job that came in between would find nobody.
        self._working -= 1
