"""A run of rounds, ended in each of its stages and resumed; tiny models, the real job."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.small_world import make_world
from tests.e2e.test_cotrain import end_and_resume

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]


def test_ended_in_each_stage_the_run_is_resumed_and_trains_every_unit_once(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world")
    endings = {
        "snapshots/encoder/0": signal.SIGINT,
        "data/rewrites/0": signal.SIGKILL,
        "snapshots/encoder/1": signal.SIGTERM,
        "data/scored/0": signal.SIGKILL,
        "snapshots/rewriter/1": signal.SIGKILL,
    }
    end_and_resume(world, tmp_path, endings)
