"""What the comparison of schedules says of given results, and where its variants start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.load import load
from pipelines.speed import overlap
from pipelines.speed.overlap import STAGES, VARIANTS, Result


def result(seconds: float, worked: dict[str, float], dev: list[float], lag: int = 0) -> Result:
    stages: list[dict[str, Any]] = [{"stage": s, "worked_s": worked.get(s, 1.0), "waited_s": 2.0, "lag": lag} for s in STAGES]
    return Result(seconds, stages, dev)


RESULTS = {
    "lag 0": result(100.0, {"train_encoder": 40.0}, [0.5, 0.5, 0.0]),
    "overlapped": result(62.5, {"train_encoder": 44.0}, [0.5, 0.8, 0.0], lag=1),
    "colocated": result(75.0, {}, [0.5, 0.5, 0.0]),
}


def test_the_figures_are_ratios_to_one_stage_after_the_other() -> None:
    figures = overlap.summary(RESULTS)
    assert figures["speedup"] == pytest.approx(1.6)
    # The slowest stage alone takes 40 of the 100 seconds.
    assert (figures["bound"], figures["bound_share"]) == (pytest.approx(2.5), pytest.approx(0.64))
    assert figures["over_colocated"] == pytest.approx(1.2)
    assert figures["quality_delta_pp"] == pytest.approx(10.0)
    assert figures["p_value"] == 1.0


def test_the_variants_differ_in_lag_and_threads_alone(tmp_path: Path) -> None:
    config = load("configs/bench_async.yaml", [])
    made = {v.name: overlap._variant(config, v, tmp_path) for v in VARIANTS}
    assert {name: c.loop.max_rewriter_lag for name, c in made.items()} == {"lag 0": 0, "overlapped": 1, "colocated": 0}
    alone, overlapped = made["lag 0"], made["overlapped"]
    assert alone.placement == overlapped.placement
    assert alone.model_copy(update={"run_dir": "", "loop": config.loop}) == overlapped.model_copy(
        update={"run_dir": "", "loop": config.loop}
    )


def test_a_start_that_is_not_there_is_made(tmp_path: Path) -> None:
    for start, kept in ((f"{tmp_path}@3", True), (str(tmp_path), True), (f"{tmp_path}/nowhere", False), (None, False)):
        config = load("configs/bench_async.yaml", [f"loop.start_from={start or 'null'}"])
        assert overlap._from_a_start(config).loop.start_from == (start if kept else None)
