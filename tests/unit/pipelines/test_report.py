"""The report of whole, partial and broken run directories."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.core.types import InputError
from configs.schema import Config
from pipelines import report
from pipelines.reporting import figures

NEEDS_END = {"html", "body", "main", "div", "table", "details", "figure", "svg", "g"}


def _stage(stage: str, unit: int, arm: str = "cohyde", **own: Any) -> dict[str, Any]:
    return {
        "time": 100.0 + unit,
        "event": "stage",
        "arm": arm,
        "stage": stage,
        "unit": unit,
        "worked_s": 2.0,
        "waited_s": 1.0,
        **own,
    }


EVENTS: list[dict[str, Any]] = [
    {"time": 1.0, "event": "phase", "name": "warm start: encoder", "seconds": 9.0, "losses": [2.0, 1.0], "loss_name": "InfoNCE"},
    {"time": 61.0, "event": "memory", "gb": 3.5, "by_role": {"rewriter": 2.0, "index_builder": 1.5}},
    _stage("generate", 0),
    _stage("train_encoder", 0, lag=0, losses=[1.5, 1.25]),
    _stage("score", 0, lag=0, rewards_mean=0.5, reward_gap_mean=0.25, pairs=7),
    _stage("train_rewriter", 0, losses=[0.75]),
]


def _row(arm: str, mode: str, value: float, **own: Any) -> dict[str, Any]:
    row = {
        "arm": arm,
        "round": None,
        "mode": mode,
        "slice": "standard",
        "tools": "all",
        "metric": "nDCG@5",
        "value": value,
        "n": 40,
    }
    return row | {"weight": None, "difference": None, "p_value": None, "against": None} | own


ROWS = [
    _row("encoder_alone", "raw", 0.75),
    _row("cohyde", "fused", 0.5, round=0, difference=-0.25, p_value=0.01, against="encoder_alone raw"),
    _row("cohyde", "fused", 0.79, round=1, difference=0.04, p_value=0.3, against="encoder_alone raw"),
]
TOOL = {"tool_id": "s3.Get", "title": "Amazon S3: Get <Object>", "gold": True}
MISS = {"tool_id": "s3.Put", "title": "Amazon S3: Put Object", "gold": False}
SAMPLES = [
    {
        "query_id": "q1",
        "query": "fetch <my> file",
        "tier": "V1",
        "tools": "seen",
        "gold": [{"tool_id": "s3.Get", "title": "Amazon S3: Get <Object>"}],
        "rounds": [{"round": 1, "rewrite": "Amazon S3: Get <Object>.", "raw": [MISS], "fused": [MISS, TOOL]}],
        "frozen": [MISS],
        "baseline": [TOOL],
    }
]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(Config().model_dump()))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in EVENTS))
    (tmp_path / "results.json").write_text(json.dumps(ROWS))
    (tmp_path / "samples.json").write_text(json.dumps(SAMPLES))
    (tmp_path / "release.json").write_text(json.dumps({"rewriter": -1, "dev_ndcg5": {"0": 0.3, "-1": 0.4}}))
    return tmp_path


class _Balance(HTMLParser):
    """Fails where an element that needs an end has none."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in NEEDS_END:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in NEEDS_END:
            assert self.open.pop() == tag


def _page(run_dir: Path) -> str:
    page = report.write(run_dir).read_text()
    balance = _Balance()
    balance.feed(page)
    assert balance.open == []
    return page


def test_whole_run(run_dir: Path) -> None:
    page = _page(run_dir)
    assert "not complete" not in page
    assert "cannot be told apart from the strongest single component on these queries, encoder alone, raw" in page
    assert "<strong>+4.0</strong> points, paired test p = 0.300" in page
    assert "Released: the frozen encoder, by its NDCG@5 on dev (the frozen encoder 40.0, round 0 30.0)." in page
    assert "peak 3.5 GB" in page
    assert "Highest lag at which a record was consumed: 0 (over 2 stage runs)." in page
    assert '<li class="gold">Amazon S3: Get &lt;Object&gt;</li>' in page
    assert "fetch &lt;my&gt; file" in page
    assert page.count("<svg") == 1 + 3 + 3 + 2 + 1  # quality, losses, rewards, time, memory


def test_page_fetches_nothing(run_dir: Path) -> None:
    page = _page(run_dir)
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)=["'](?!#)""", page)
    assert not re.search(r"url\((?!#)|@import", page)
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.mark.parametrize(
    ("difference", "p_value", "words"),
    [(0.1, 0.01, "is better than"), (-0.1, 0.01, "is worse than"), (-0.1, 0.2, "cannot be told apart from")],
)
def test_headline_says_what_the_test_allows(run_dir: Path, difference: float, p_value: float, words: str) -> None:
    rows = [*ROWS[:2], ROWS[2] | {"difference": difference, "p_value": p_value}]
    (run_dir / "results.json").write_text(json.dumps(rows))
    assert f"After round 1, CoHyDE (fused) {words} the strongest" in _page(run_dir)


def test_partial_run_says_what_is_missing(run_dir: Path) -> None:
    (run_dir / "results.json").unlink()
    (run_dir / "samples.json").write_text("[{")
    with (run_dir / "metrics.jsonl").open("a") as stream:
        stream.write('{"time": 1')
    page = _page(run_dir)
    assert "This report is not complete" in page
    assert "<li>results.json (the comparison" in page
    assert "<li>samples.json (sample queries): the file is cut off</li>" in page
    assert "<li>1 line(s) of metrics.jsonl" in page
    assert "No verdict yet" in page


def test_a_release_that_no_round_was_held_against_is_passed_over(run_dir: Path) -> None:
    (run_dir / "release.json").write_text(json.dumps({"rewriter": -1, "fusion_weight": 0.0}))
    assert "Released" not in _page(run_dir)


def test_only_a_config(run_dir: Path) -> None:
    for name in ("metrics.jsonl", "results.json", "samples.json"):
        (run_dir / name).unlink()
    page = _page(run_dir)
    assert "<svg" not in page
    assert "0 of 3 rounds" in page


def test_wrong_directory_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name the run_dir of a run"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_command_line(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run_dir)]) == 0
    assert str(run_dir / "report.html") in capsys.readouterr().out
    assert report.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_arms_that_were_not_run_are_left_out(run_dir: Path) -> None:
    sample = {key: value for key, value in SAMPLES[0].items() if key != "baseline"}
    (run_dir / "samples.json").write_text(json.dumps([sample]))
    page = _page(run_dir)
    assert '<div class="who">frozen encoder</div>' in page
    assert '<div class="who">encoder alone</div>' not in page


def test_a_unit_reported_again_counts_once_where_it_worked() -> None:
    looked_up = _stage("score", 0, pairs=1, worked_s=0.05)
    stages = figures.stages([_stage("score", 0, pairs=1), _stage("score", 1, pairs=2), looked_up])
    assert {unit: event["worked_s"] for unit, event in stages["cohyde", "score"].items()} == {0: 2.0, 1: 2.0}


def test_a_pause_of_the_run_is_cut_short() -> None:
    events = [{"time": t} for t in (0.0, 60.0, 86460.0, 86490.0)]
    assert figures.elapsed_minutes(events) == [0.0, 1.0, 3.0, 3.5]


def test_lag_above_zero_is_drawn() -> None:
    lag = figures.lag(figures.stages([_stage("score", 0, lag=0), _stage("score", 1, lag=2)]))
    assert lag["text"].startswith("Highest lag at which a record was consumed: 2 ")
    assert [figure.title for figure in lag["figures"]] == ["CoHyDE: score"]


def test_small_roles_are_pooled() -> None:
    roles = {f"role {i}": float(i) for i in range(1, 8)}
    drawn = figures.memory_figures([{"time": 0.0, "event": "memory", "gb": 28.0, "by_role": roles}])
    assert [name for name, _, _ in drawn["keys"]] == ["role 7", "role 6", "role 5", "role 4", "role 3", "others"]


def test_a_continual_run_shows_the_stream_and_the_gate(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(Config().model_dump(mode="json") | {"loop": {"mode": "continual", "units": None}})
    )
    events = [
        _stage("judge", 0, promoted=True, reason="against the frozen release: vague +5.0 points"),
        _stage("judge", 1, promoted=False, reason="standard falls -2.0 points"),
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    verdicts = [{"slice": "vague", "against": "static", "n": 40, "served": 0.3, "rival": 0.2, "difference": 0.1, "p_value": 0.01}]
    curves = {"vague": {"served": [(200, 0.2), (201, 0.3)], "static": [(200, 0.2), (201, 0.2)]}}
    said = {"releases": [], "poisoning_said": "Nobody cheated."}
    stream = {"queries": 201, "window": {"vague": 200}, "curves": curves, "verdicts": verdicts, **said}
    (tmp_path / "prequential.json").write_text(json.dumps(stream))
    page = _page(tmp_path)
    assert "vague queries, mean of the last 200" in page
    assert "+10.0" in page
    assert page.index("standard falls") < page.index("against the frozen release")
    assert "<h2>Comparison</h2>" not in page
    assert "not complete" not in page
