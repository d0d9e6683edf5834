from __future__ import annotations

import asyncio
import math

import pytest

from serve_app.shadow import REMEMBERED, Shadow

SERVED = ["a", "b", "c", "d", "e"]


async def candidate(query: str, namespaces: tuple[str, ...] | None) -> list[str]:
    return ["b", "a", "x", "y", "c"] if query != "broken" else [][1]


def test_agreement_and_gain() -> None:
    async def run() -> Shadow:
        shadow = Shadow("4", 1.0, candidate)
        shadow.saw("r1", "query", None, SERVED)
        shadow.saw("r2", "broken", None, SERVED)
        await asyncio.sleep(0.01)
        shadow.succeeded("r1", "b")
        shadow.succeeded("r1", "b")
        shadow.succeeded("r2", "b")
        return shadow

    report = asyncio.run(run()).report()
    assert (report.release, report.searches, report.outcomes) == ("4", 1, 1)
    assert report.agreement_at_5 == pytest.approx(0.6)
    assert report.same_first == 0.0
    assert report.estimated_gain == pytest.approx(1.0 - 1.0 / math.log2(3))


def test_no_share_no_shadow_and_no_more_than_it_may_remember() -> None:
    async def run() -> None:
        shadow = Shadow("4", 0.0, candidate)
        shadow.saw("r1", "query", None, SERVED)
        await asyncio.sleep(0)
        assert shadow.report().searches == 0
        shadow = Shadow("4", 1.0, candidate)
        for number in range(REMEMBERED + 3):
            shadow.saw(f"r{number}", "query", None, SERVED)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        shadow.succeeded("r0", "b")
        assert shadow.report().outcomes == 0
        shadow.succeeded(f"r{REMEMBERED + 2}", "b")
        assert shadow.report().outcomes == 1

    asyncio.run(run())
