"""What a scraper finds: gauges stay, whoever comes however late, and counters add up."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import ray

from actors import remote
from configs.schema import Config

pytestmark = pytest.mark.ray
STAGE = {"event": "stage", "arm": "cohyde", "stage": "score", "unit": 7, "worked_s": 2.0, "waited_s": 1.0, "lag": 1}


def scraped() -> dict[str, float]:
    port = ray.nodes()[0]["MetricsExportPort"]
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    lines = [line for line in page.splitlines() if line.startswith("ray_cohyde")]
    return {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_a_gauge_is_found_long_after_it_was_set(tmp_path: Path) -> None:
    config = Config()
    with remote.cluster(config, tmp_path):
        monitor: Any = remote.make_monitor(tmp_path / "metrics.jsonl")
        for _ in range(2):
            remote.ask_now(monitor.log.remote(STAGE), 60, "the monitor")
        deadline, found = time.monotonic() + 60, dict[str, float]()
        set_at = time.monotonic()
        # Ray exports every ten seconds; what is still there after three of them was set anew.
        while time.monotonic() < deadline and (time.monotonic() - set_at < 35 or not found):
            remote.ask_now(monitor.snapshot.remote(), 60, "the monitor")
            time.sleep(1)
            found = scraped()
        assert found["ray_cohyde_stage_unit"] == 7
        assert found["ray_cohyde_stage_lag_versions"] == 1
        assert found["ray_cohyde_stage_worked_seconds_total"] == 4
