"""The comparison's rows against hand-worked means, and its tables."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from actors.core.types import Mode, Query
from pipelines.comparison import compare, grids
from pipelines.comparison.compare import ArmResult, Row

TIERS = {"s1": "standard", "s2": "standard", "a": "V1", "b": "V2", "c": "V3"}


def _queries() -> list[Query]:
    kinds = {"standard": "standard"}
    return [
        Query(i, i, kinds.get(t, "vague"), "test", {"t": 1}, tier=t, novelty="unseen" if i in ("s2", "c") else "seen")  # type: ignore[arg-type]
        for i, t in TIERS.items()
    ]


def _arm(arm: str, mode: Mode, values: list[float], round_number: int | None = None) -> ArmResult:
    per_query = {i: dict.fromkeys(compare.METRICS, v) for i, v in zip(TIERS, values, strict=True)}
    return ArmResult(arm, round_number, mode, per_query, 0.15 if mode == "fused" else None)


def _find(rows: list[Row], arm: str, mode: str, slice_name: str, tools: str = "all", metric: str = "nDCG@5") -> Row:
    wanted = (arm, mode, slice_name, tools, metric)
    [row] = [r for r in rows if (r["arm"], r["mode"], r["slice"], r["tools"], r["metric"]) == wanted]
    return row


@pytest.fixture
def results() -> list[ArmResult]:
    return [
        _arm("bm25", "bm25", [1.0, 0.0, 0.0, 0.0, 0.0]),
        _arm("frozen", "raw", [0.5, 0.0, 0.5, 0.0, 0.0]),
        _arm("encoder_alone", "raw", [0.5, 0.3, 0.5, 0.5, 0.0]),
        _arm("encoder_alone", "hybrid", [1.0, 0.5, 0.5, 0.5, 0.0]),
        _arm("cohyde", "fused", [1.0, 0.5, 1.0, 0.5, 0.3], 1),
        _arm("cohyde", "hybrid", [1.0, 0.5, 1.0, 0.5, 0.3], 1),
    ]


def test_values_are_means_over_the_slice(results: list[ArmResult]) -> None:
    rows = compare.compare(results, _queries())
    assert _find(rows, "encoder_alone", "raw", "standard")["value"] == pytest.approx(0.4)
    assert _find(rows, "encoder_alone", "raw", "standard", "unseen")["value"] == pytest.approx(0.3)
    vague = _find(rows, "cohyde", "fused", "vague", metric="R@10")
    assert (vague["value"], vague["n"]) == (pytest.approx(0.6), 3)


def test_strongest_component_is_picked_on_the_slice_and_by_mode(results: list[ArmResult]) -> None:
    rows = compare.compare(results, _queries())
    fused = _find(rows, "cohyde", "fused", "standard")
    assert fused["against"] == "bm25 bm25"
    assert fused["difference"] == pytest.approx(0.25)
    assert _find(rows, "cohyde", "fused", "standard", "unseen")["against"] == "encoder_alone raw"
    hybrid = _find(rows, "cohyde", "hybrid", "standard")
    assert hybrid["against"] == "encoder_alone hybrid"
    assert hybrid["difference"] == pytest.approx(0.0)
    assert hybrid["p_value"] == pytest.approx(1.0)


def test_single_components_carry_no_difference(results: list[ArmResult]) -> None:
    rows = compare.compare(results, _queries())
    row = _find(rows, "encoder_alone", "hybrid", "V1")
    assert (row["difference"], row["p_value"], row["against"]) == (None, None, None)


def test_slices_without_queries_are_left_out(results: list[ArmResult]) -> None:
    rows = compare.compare(results, [q for q in _queries() if q.tier == "standard" and q.novelty == "seen"])
    assert {(r["slice"], r["tools"]) for r in rows} == {("standard", "all"), ("standard", "seen")}


def test_a_missing_query_is_an_error(results: list[ArmResult]) -> None:
    del results[2].per_query["b"]
    with pytest.raises(KeyError, match="b"):
        compare.compare(results, _queries())


@pytest.mark.parametrize(
    ("difference", "p_value", "expected"),
    [(0.1, 0.04, "better"), (-0.1, 0.04, "worse"), (0.1, 0.05, "not distinguishable"), (0.0, 0.0, "not distinguishable")],
)
def test_verdict(difference: float, p_value: float, expected: str) -> None:
    assert compare.verdict(difference, p_value) == expected


def test_quality_grid_shows_main_modes_and_marks_every_best(results: list[ArmResult]) -> None:
    grid = grids.quality_grid(compare.compare(results, _queries()))
    labels = [label for label, _ in grid.lines]
    assert labels == ["BM25", "frozen encoder, raw", "encoder alone, raw", "CoHyDE round 1, fused 0.15", "CoHyDE round 1, hybrid"]
    assert grid.columns[:3] == (("standard", "NDCG@5"), ("standard", "R@10"), ("standard", "COMP@10"))
    assert [(cells[0].text, cells[0].bold) for _, cells in grid.lines] == [
        ("50.0", False),
        ("25.0", False),
        ("40.0", False),
        ("75.0", True),
        ("75.0", True),
    ]


def test_printed_tables_fit_120_columns_when_piped(results: list[ArmResult]) -> None:
    out = io.StringIO()
    grids.show(compare.compare(results, _queries()), Console(file=out))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 120
    assert "…" not in text
    assert "encoder alone, hybrid" in text


def test_markdown_joins_a_group_in_one_cell(results: list[ArmResult]) -> None:
    text = grids.markdown(compare.compare(results, _queries()))
    assert "| BM25 | 50.0 / 50.0 / 50.0 |" in text
    assert "| CoHyDE round 1, fused 0.15 | **75.0** / **75.0** / **75.0** |" in text


def test_no_rows_give_no_tables() -> None:
    assert grids.grids([]) == []
