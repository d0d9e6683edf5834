from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from serve_app.batcher import Batcher


@pytest.mark.parametrize(
    ("limit", "parts", "wanted"),
    [(3, 1, [[0], [1, 2, 3], [4, 5]]), (9, 1, [[0], [1, 2, 3, 4, 5]]), (9, 2, [[0], [1, 2, 3], [4], [5]])],
)
def test_what_queues_up_meanwhile_is_the_next_batch_and_a_lone_job_does_not_wait(
    limit: int, parts: int, wanted: list[list[int]]
) -> None:
    batches: list[list[int]] = []
    first_is_in, go_on = threading.Event(), threading.Event()

    def compute(jobs: Sequence[int]) -> list[int]:
        batches.append(list(jobs))
        if len(batches) == 1:
            first_is_in.set()
            assert go_on.wait(5)
        return [job * 10 for job in jobs]

    async def run() -> list[int]:
        batcher = Batcher(compute, limit, "test", parts=parts)
        first = asyncio.ensure_future(batcher.submit(0))
        await asyncio.to_thread(first_is_in.wait, 5)
        others = [asyncio.ensure_future(batcher.submit(i)) for i in range(1, 6)]
        await asyncio.sleep(0)
        go_on.set()
        return list(await asyncio.gather(first, *others))

    assert asyncio.run(run()) == [0, 10, 20, 30, 40, 50]
    assert batches == wanted


def test_an_error_reaches_everyone_of_its_batch_and_nobody_else() -> None:
    def compute(jobs: Sequence[int]) -> list[int]:
        if 13 in jobs:
            raise ValueError("unlucky")
        return list(jobs)

    async def run() -> None:
        batcher = Batcher(compute, 1, "test")
        with pytest.raises(ValueError, match="unlucky"):
            await batcher.submit(13)
        assert await batcher.submit(7) == 7

    asyncio.run(run())


def test_a_job_that_nobody_waits_for_is_left_out() -> None:
    seen: list[int] = []
    go_on = threading.Event()

    def compute(jobs: Sequence[int]) -> list[int]:
        seen.extend(jobs)
        assert go_on.wait(5)
        return list(jobs)

    async def run() -> None:
        batcher = Batcher(compute, 1, "test")
        first = asyncio.ensure_future(batcher.submit(1))
        gone = asyncio.ensure_future(batcher.submit(2))
        last = asyncio.ensure_future(batcher.submit(3))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert await first == 1
        assert await last == 3

    asyncio.run(run())
    assert seen == [1, 3]
