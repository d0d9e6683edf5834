from __future__ import annotations

import asyncio

import pytest

from actors.core.lag import Gate, WaitTimeout, check_lag, needed_retriever, needed_rewriter


def test_needed_versions() -> None:
    assert [needed_rewriter(u, 0) for u in range(3)] == [0, 1, 2]
    assert [needed_rewriter(u, 2) for u in range(5)] == [0, 0, 0, 1, 2]
    assert [needed_retriever(u, 0) for u in range(3)] == [1, 2, 3]
    assert [needed_retriever(u, 1) for u in range(3)] == [0, 1, 2]


def test_check_lag() -> None:
    assert check_lag("rewrites", unit=5, newest=5, version=3, max_lag=2) == 2
    assert check_lag("scores", unit=5, newest=6, version=7, max_lag=0) == 0, "newer than needed is no lag"
    with pytest.raises(AssertionError, match="rewrites of unit 5 was made by version 2: lag 3 exceeds the bound 2"):
        check_lag("rewrites", unit=5, newest=5, version=2, max_lag=2)


def test_gate_wakes_its_waiters() -> None:
    async def scene() -> list[int]:
        gate = Gate("rewriter", 0)
        waiters = [asyncio.create_task(gate.wait_for(v, 5, "test")) for v in (0, 1, 2)]
        await asyncio.sleep(0)
        await gate.publish(2)
        return await asyncio.gather(*waiters)

    assert asyncio.run(scene()) == [0, 2, 2]


def test_gate_names_what_it_waited_for() -> None:
    with pytest.raises(WaitTimeout, match=r"generate of unit 4 waited 0 s for rewriter 3; the newest is 1"):
        asyncio.run(Gate("rewriter", 1).wait_for(3, 0.01, "generate of unit 4"))


def test_a_version_never_goes_back() -> None:
    async def scene() -> None:
        gate = Gate("rewriter", 3)
        await gate.publish(2)

    with pytest.raises(AssertionError, match="went back"):
        asyncio.run(scene())
