from __future__ import annotations

import asyncio
from typing import Any

from actors.feed import STOP, WAIT, UnitFeed


def test_next_answers_the_job_after_done_and_does_not_pop_it() -> None:
    async def scene() -> list[dict[str, Any]]:
        feed = UnitFeed()
        await feed.put({"version": 2, "unit": 1})
        await feed.put({"version": 1, "unit": 0})
        return [await feed.next(0), await feed.next(0), await feed.next(1)]

    assert [job["unit"] for job in asyncio.run(scene())] == [0, 0, 1]


def test_next_waits_for_its_job() -> None:
    async def scene() -> dict[str, Any]:
        feed = UnitFeed()
        waiting = asyncio.create_task(feed.next(0))
        await asyncio.sleep(0)
        await feed.put({"version": 2})
        await asyncio.sleep(0.01)
        assert not waiting.done(), "a later job is not the next one"
        await feed.put({"version": 1})
        return await waiting

    assert asyncio.run(scene()) == {"version": 1}


def test_the_first_offer_of_a_job_counts() -> None:
    async def scene() -> dict[str, Any]:
        feed = UnitFeed()
        await feed.put({"version": 1, "rows": "first"})
        await feed.put({"version": 1, "rows": "again"})
        return await feed.next(0)

    assert asyncio.run(scene())["rows"] == "first"


def test_stop_overtakes_jobs_and_wakes_who_waits() -> None:
    async def scene() -> list[dict[str, Any]]:
        feed = UnitFeed()
        await feed.put({"version": 1})
        waiting = asyncio.create_task(feed.next(5))
        await asyncio.sleep(0)
        await feed.stop()
        return [await feed.next(0), await waiting]

    assert asyncio.run(scene()) == [STOP, STOP]


def test_waiting_has_a_deadline() -> None:
    assert asyncio.run(UnitFeed().next(3, timeout_s=0.01)) == WAIT


def test_metrics_of_a_version() -> None:
    async def scene() -> list[dict[str, Any]]:
        feed = UnitFeed()
        await feed.finished(1, {"loss": 0.5})
        return [await feed.metrics(1), await feed.metrics(2)]

    assert asyncio.run(scene()) == [{"loss": 0.5}, {}]
