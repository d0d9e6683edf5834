"""Seeds put together: means, spread, paired tests; suites and costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.core.batches import REHEARSED
from actors.core.limits import Limits
from actors.core.ranking import METRICS as ALL_METRICS
from actors.core.types import InputError, Query
from actors.run_dir import OpenedRelease
from configs.schema import Config
from pipelines.benchmark import aggregate, cost, measure, suites, tables, vary
from pipelines.benchmark.aggregate import Line
from pipelines.benchmark.tables import Point
from pipelines.comparison.compare import RERANKED

BM25, ALONE, OURS, HYBRID = (
    Line("bm25", -1, "bm25"),
    Line("encoder_alone", -1, "raw"),
    Line("cohyde", 1, "fused"),
    Line("cohyde", 1, "hybrid"),
)
ALONE_HYBRID = Line("encoder_alone", -1, "hybrid")


def query(query_id: str, tier: str = "standard", group: str = "", novelty: str = "") -> Query:
    return Query(query_id, query_id, "standard", "test", {"t": 1}, tier=tier, group=group, novelty=novelty)  # type: ignore[arg-type]


def figures(values: dict[str, float]) -> dict[str, dict[str, float]]:
    return {query_id: dict.fromkeys(ALL_METRICS, value) for query_id, value in values.items()}


def cell(cells: list[aggregate.Cell], line: Line, name: str) -> aggregate.Cell:
    return next(c for c in cells if (Line(c.arm, c.round, c.mode), c.slice, c.metric) == (line, name, "nDCG@5"))


def test_means_and_spread_are_over_seeds_and_the_test_is_over_queries() -> None:
    ids = [f"q{i}" for i in range(10)]
    seeds = [{ALONE: figures(dict.fromkeys(ids, 0.4)), OURS: figures(dict.fromkeys(ids, 0.5 + seed / 10))} for seed in range(3)]
    found = aggregate.cells(seeds, [query(q) for q in ids])
    ours, alone = cell(found, OURS, "all"), cell(found, ALONE, "all")
    assert ours.value == pytest.approx(0.6)
    assert ours.spread == pytest.approx(0.1)
    assert (ours.seeds, ours.queries) == (3, 10)
    assert ours.difference == pytest.approx(0.2)
    # Ten queries, all better: two of 2 ** 10 signs are as far out. Thirty would be far fewer.
    assert ours.p_value == pytest.approx(2 / 2**10)
    assert ours.against == "encoder alone, raw"
    assert alone.difference is None


def test_hybrids_are_held_against_hybrids_too_and_others_are_not() -> None:
    ids = ["a", "b"]
    values = {BM25: 0.3, ALONE: 0.4, ALONE_HYBRID: 0.8, OURS: 0.5, HYBRID: 0.6}
    found = aggregate.cells([{line: figures(dict.fromkeys(ids, value)) for line, value in values.items()}], [query(q) for q in ids])
    assert cell(found, OURS, "all").against == "encoder alone, raw"
    assert cell(found, HYBRID, "all").against == "encoder alone, hybrid"
    assert cell(found, HYBRID, "all").difference == pytest.approx(-0.2)


def test_a_macro_average_is_the_mean_of_categories() -> None:
    queries = [query("a", group="web/x"), query("b", group="web/y"), query("c", group="web/y"), query("d", group="code/z")]
    values = {"a": 0.0, "b": 0.3, "c": 0.6, "d": 1.0}
    found = aggregate.cells([{BM25: figures(values), OURS: figures(values)}], queries)
    assert cell(found, OURS, "macro").value == pytest.approx((0.3 + 1.0) / 2)
    assert cell(found, OURS, "all").value == pytest.approx(1.9 / 4)
    assert cell(found, OURS, "code").value == 1.0
    assert cell(found, OURS, "macro").difference == 0


def test_slices_of_tiers_and_of_tools_that_training_met() -> None:
    queries = [query("s"), query("v1", "V1", novelty="seen"), query("v3", "V3", novelty="unseen")]
    assert {name: sorted(ids) for name, ids in aggregate.slices(queries).items()} == {
        "standard": ["s"],
        "V1": ["v1"],
        "V3": ["v3"],
        "vague": ["v1", "v3"],
        "vague seen": ["v1"],
        "vague unseen": ["v3"],
    }
    new = aggregate.slices([*queries, query("n", novelty="new provider"), query("m", "V2", novelty="new provider")])
    assert sorted(new["vague"]) == ["m", "v1", "v3"]
    assert (sorted(new["new providers"]), sorted(new["new providers, vague"])) == (["m", "n"], ["m"])


def test_a_seed_s_own_subset_of_queries_counts_for_that_seed() -> None:
    seeds = [{OURS: figures({"a": 1.0}), ALONE: figures({"a": 0.0})}, {OURS: figures({"b": 0.0}), ALONE: figures({"b": 0.0})}]
    found = aggregate.cells(seeds, [query("a"), query("b")])
    assert cell(found, OURS, "all").value == 0.5
    assert cell(found, OURS, "all").difference == 0.5


def test_tables_show_every_line_and_mark_the_best() -> None:
    values = {BM25: 0.3, ALONE: 0.4, OURS: 0.5}
    found = aggregate.cells([{line: figures({"a": v, "b": v}) for line, v in values.items()}] * 2, [query("a"), query("b")])
    grid = tables.quality(found)
    assert [label for label, _ in grid.lines] == ["BM25", "encoder alone, raw", "CoHyDE round 1, fused"]
    assert [cells[0].bold for _, cells in grid.lines] == [False, False, True]
    assert grid.lines[2][1][0].text == "50.0 ±0.0 [50, 50]"
    assert [label for label, _ in tables.differences(found).lines] == ["CoHyDE round 1, fused"]
    assert len(tables.curve(found).axes) == 1


def test_a_suite_is_one_table_or_several(tmp_path: Path) -> None:
    assert [part.source for part in suites.parts("aws")] == ["aws"]
    assert [part.name for part in suites.parts("toolret:/data/ToolRet")] == [
        "ToolRet, without instructions",
        "ToolRet, with instructions",
    ]
    (tmp_path / "TMDB").mkdir()
    (tmp_path / "TMDB" / "docs.jsonl").write_text("")
    assert [part.name for part in suites.parts(f"mair:{tmp_path}")] == ["TMDB, with instructions"]
    for wrong in ("aws:here", "beir:", "excel:x", "toolret-instructed:x"):
        with pytest.raises(InputError, match="--suite"):
            suites.parts(wrong)


def test_costs_count_what_each_arm_needed() -> None:
    config = Config()
    events = [
        {"event": "phase", "name": cost.FROZEN_INDEX, "seconds": 10.0, "tools": 100, "embedded": 100},
        {"event": "phase", "name": cost.WARM_ENCODER, "seconds": 20.0, "steps": 5},
        {"event": "phase", "name": cost.WARM_INDEX, "seconds": 10.0, "tools": 100, "embedded": 0},
        {"event": "phase", "name": cost.WARM_REWRITER, "seconds": 30.0, "steps": 7},
        {"event": "stage", "arm": "cohyde", "stage": "generate", "worked_s": 4.0, "tokens": 50},
        {"event": "stage", "arm": "cohyde", "stage": "train_encoder", "worked_s": 4.0, "steps": 3},
        {"event": "stage", "arm": "cohyde", "stage": "train_rewriter", "worked_s": 4.0, "steps": 2, "pairs": 9},
        {"event": "stage", "arm": "encoder_alone", "stage": "train_encoder", "worked_s": 3.0, "steps": 3},
    ]
    found = cost.costs(events, config)
    assert set(found) == {"frozen", "sft", "encoder_alone", "cohyde"}
    pairs = config.encoder.pairs_per_step
    assert found["encoder_alone"] == cost.Cost(43.0, 100, 8 * pairs, 8 * REHEARSED)
    assert found["sft"] == cost.Cost(40.0, 100, 0, 0, 0, 7 * config.rewriter.sft_rows_per_step)
    assert found["cohyde"] == cost.Cost(82.0, 100, 8 * pairs, 8 * REHEARSED, 50, 7 * config.rewriter.sft_rows_per_step + 18)
    reranker = cost.Cost(60.0, 0, 0, 0, 0, 9 * config.rewriter.sft_rows_per_step)
    more = cost.costs([*events, {"event": "phase", "name": cost.TRAIN_RERANKER, "seconds": 60.0, "steps": 9}], config)
    assert set(more) == {*found, cost.SFT_RERANKED, RERANKED}
    assert all(more[arm] == found[arm] for arm in ("encoder_alone", "sft", "frozen"))
    assert more[cost.SFT_RERANKED] == found["frozen"] + reranker
    assert more["cohyde"] == found["cohyde"] + reranker and more[RERANKED] == found["encoder_alone"] + reranker


def test_both_halves_without_co_training_are_no_single_component() -> None:
    ids = ["a", "b"]
    values = {
        Line("frozen", -1, "raw"): 0.1,
        Line("sft", -1, "reranked"): 0.3,
        Line(RERANKED, -1, "reranked"): 0.8,
        Line("cohyde", 1, "reranked"): 0.7,
    }
    found = aggregate.cells([{line: figures(dict.fromkeys(ids, value)) for line, value in values.items()}], [query(q) for q in ids])
    assert {c.against for c in found if c.arm == "cohyde"} == {"SFT rewriter, reranked"}
    seeds = [{line: figures(dict.fromkeys(ids, value)) for line, value in values.items()}]
    apart = aggregate.cells(seeds, [query(q) for q in ids], Line(RERANKED, -1, "reranked"))
    [(label, shown)] = tables.co_training(apart, "reranked").lines
    assert label == "CoHyDE round 1, reranked" and shown[0].text == "-10.0"
    labels = [label for label, _ in tables.quality(found).lines]
    assert labels[-2:] == ["encoder alone, reranked", "CoHyDE round 1, reranked"]


def test_a_folder_with_test_queries_alone_is_measured_with_what_nobody_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = [{"_id": f"t{i}", "title": f"tool {i}", "text": text} for i, text in enumerate(["makes a bucket", "sings a song"])]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tools))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "a song"}) + "\n")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tt1\t1\n")
    [part] = suites.parts(f"beir:{tmp_path}")
    assert not measure.trainable(part, Config())
    monkeypatch.setattr(measure, "_raw", lambda *given: {})
    measured = measure.transfer(part, [], lambda what: lambda done, total: None)
    assert measured.seeds[0][BM25]["q"]["nDCG@5"] == 1.0
    assert measured.costs == []


def test_auto_takes_of_each_query_what_serving_would_choose() -> None:
    leads = {"sure": 0.5, "unsure": 0.01, "strange": 0.01}

    class Ranks:
        def rank(self, texts: list[str], *given: object) -> list[list[tuple[str, float]]]:
            return [[("t", 0.8), ("u", 0.8 - leads[text])] for text in texts]

        def asked(self, texts: list[str]) -> tuple[None, list[bool]]:
            return None, [text == "strange" for text in texts]

    found = {Line("cohyde", -1, "fused"): figures({"sure": 0.3, "unsure": 0.4, "strange": 0.5})}
    release = OpenedRelease("1", Config(), None, 1, 1, 0.3, Limits(rewrite_below=0.1))
    chosen = measure._auto(release, Ranks(), [query(q) for q in leads], found)  # type: ignore[arg-type]
    assert {query_id: values["nDCG@5"] for query_id, values in chosen.items()} == {"sure": 1.0, "unsure": 0.4, "strange": 1.0}


def test_a_run_s_figures_are_read_by_line(tmp_path: Path) -> None:
    rows = [
        {"arm": "bm25", "round": None, "mode": "bm25", "query_id": "a", "nDCG@5": 0.5},
        {"arm": "cohyde", "round": 2, "mode": "raw", "query_id": "a", "nDCG@5": 0.7},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    found = measure._per_query(tmp_path / "x.parquet")
    assert found == {BM25: {"a": {"nDCG@5": 0.5}}, Line("cohyde", 2, "raw"): {"a": {"nDCG@5": 0.7}}}


def test_one_setting_varies_over_two_values_or_more() -> None:
    assert vary.values("loop.units=1,2, 3") == ("loop.units", ["1", "2", "3"])
    for wrong in ("loop.units", "loop.units=1", "loop.units=1,,2", "loop.units=1,1", "=1,2"):
        with pytest.raises(InputError, match="--vary"):
            vary.values(wrong)


def test_points_of_a_curve_are_the_singles_and_the_last_round() -> None:
    lines = {BM25: 0.1, ALONE: 0.2, Line("cohyde", 0, "raw"): 0.3, Line("cohyde", 1, "raw"): 0.4, OURS: 0.5}
    found = aggregate.cells([{line: figures({"a": v}) for line, v in lines.items()}], [query("a")])
    assert {(p.line, p.value) for p in vary.points(found, "10")} == {
        ("BM25", 0.1),
        ("encoder alone, raw", 0.2),
        ("CoHyDE, raw", 0.4),
        ("CoHyDE, fused", 0.5),
    }


def test_a_curve_leaves_out_a_mode_that_ranks_as_raw_does_at_every_place() -> None:
    raw, same, other = (Point(f"CoHyDE, {mode}", "1", "all", 1, 0.4, 0.0) for mode in ("raw", "fused", "reranked"))
    later = [replace(raw, place="2"), replace(same, place="2"), replace(other, place="2", value=0.5)]
    rows = [raw, same, other, *later]
    assert vary.telling(rows) == [raw, other, later[0], later[2]]


def test_a_curve_tells_differences_with_their_tests_of_what_is_held_against_something() -> None:
    lines = {BM25: 0.1, ALONE: 0.2, OURS: 0.5}
    found = aggregate.cells([{line: figures({"a": v, "b": v}) for line, v in lines.items()}], [query("a"), query("b")])
    grid = tables.point_tests(vary.points(found, "10"), "x")
    assert [(name, cells[0].text) for name, cells in grid.lines] == [("all (2): CoHyDE, fused", "+30.0 (p 0.500)")]
