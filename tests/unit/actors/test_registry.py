from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors.core.lag import WaitTimeout
from actors.core.snapshots import SnapshotStore
from actors.registry import Registry
from tests.fake_models import publish_text


def test_waits_until_published(tmp_path: Path) -> None:
    async def scene() -> tuple[int, bool]:
        registry = Registry(str(tmp_path))
        waiting = asyncio.create_task(registry.wait_for("encoder", 1, 5))
        publish_text(SnapshotStore(str(tmp_path)), "encoder", 0)
        await asyncio.sleep(0.15)
        early = waiting.done()
        publish_text(SnapshotStore(str(tmp_path)), "encoder", 1)
        return await waiting, early

    assert asyncio.run(scene()) == (1, False)


def test_says_what_it_waited_for(tmp_path: Path) -> None:
    publish_text(SnapshotStore(str(tmp_path)), "encoder", 0)
    with pytest.raises(WaitTimeout, match="waited 0 s for encoder 3; the newest is 0"):
        asyncio.run(Registry(str(tmp_path)).wait_for("encoder", 3, 0.05))


def test_a_restarted_registry_knows_what_the_old_one_knew(tmp_path: Path) -> None:
    assert asyncio.run(Registry(str(tmp_path)).latest("encoder")) is None
    publish_text(SnapshotStore(str(tmp_path)), "encoder", 4)
    assert asyncio.run(Registry(str(tmp_path)).latest("encoder")) == 4
