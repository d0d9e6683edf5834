from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.speed import capacity

PAGE = Path(__file__).parents[4] / "docs" / "scaling.md"


def test_the_page_says_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    asked = re.findall(r"^python -m pipelines\.speed\.capacity (.*)$", text, re.MULTILINE)
    assert {("100000", "10"), ("100000", "10000"), ("10000000", "10"), ("10000000", "10000")} <= {
        (line.split()[1], line.split()[3]) for line in asked
    }
    for line in asked:
        assert capacity.main(line.split()) == 0
        assert capsys.readouterr().out in text, f"docs/scaling.md is stale: {line}"


def test_scans_are_the_measured_ones_and_grow_with_the_catalog() -> None:
    assert [capacity.scan_ms(tools) for tools in capacity.SCAN_MS] == list(capacity.SCAN_MS.values())
    assert capacity.scan_ms(60_000) == pytest.approx((0.9 + 5.7) / 2)
    assert capacity.scan_ms(10_000_000) == pytest.approx(530)
    assert capacity.scan_ms(1) == capacity.SCAN_MS[1_000]


def test_cores_are_what_the_bench_took() -> None:
    # 244 requests a second kept two cores busy.
    busy = capacity.cores(capacity.CATALOG_OF_BENCH, 244) * capacity.BUSY
    assert busy == pytest.approx(2)
    assert capacity.cores(20_000, 1_000) == pytest.approx(100 * capacity.cores(20_000, 10))


def test_a_replica_may_always_fail() -> None:
    assert capacity.replicas(1_000, 0.01) == 2


def test_each_line_says_how_it_is_known() -> None:
    lines = {line.what: line for line in capacity.plan(10_000_000, 10_000)}
    assert lines["scan of one query, one core"].how == "computed"
    assert "ends here" in lines["scan of one query, one core"].note
    assert {line.what: line for line in capacity.plan(100_000, 10)}["scan of one query, one core"].how == "measured"
    # 1 GB, 38 GB of entries, 31 GB of two indices and a file.
    assert lines["one replica at its peak"].needed == "70.4 GB"
    assert lines["memory read by scans"].needed == "76,800 GB/s"


def test_wrong_numbers_are_refused() -> None:
    assert capacity.main(["--tools", "0"]) == 2
    assert capacity.main(["--rewritten", "2"]) == 2
