"""Prequential figures: nobody is judged by what it has learned from, and each alternative learns what it should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from actors.core.types import Catalog, Corpus, Query, Tool
from pipelines.alternatives import MovedTools, Static
from pipelines.click_model import CHEAT
from pipelines.prequential import Step, compare, curves, poison_line, poisoning, read_steps, replay, verdicts
from pipelines.reporting import stream_picture

TOOLS = [f"t{i}" for i in range(8)]
TABLE = np.eye(8, dtype=np.float32)
QUERIES = {f"q{i}": Query(f"q{i}", f"text {i}", "vague", "stream", {f"t{(i + 1) % 8}": 1}, "V1") for i in range(8)}
VECTORS = {f"text {i}": TABLE[i] for i in range(8)}
CORPUS = Corpus(Catalog(tuple(Tool(t, t, t, "") for t in TOOLS)), tuple(QUERIES.values()))


def step(number: int, figure: float = 1.0) -> Step:
    """Query i, whose own vector finds tool i, is answered by tool i + 1, and succeeds with it."""
    i = number % 8
    return Step(f"r{number}", f"text {i}", {"query_id": f"q{i}", "kind": "vague", "nDCG@5": figure}, {f"t{(i + 1) % 8}": True})


def test_a_query_is_judged_before_anybody_learns_from_it() -> None:
    once = replay([step(i) for i in range(8)], QUERIES, VECTORS, TOOLS, MovedTools(TABLE, 0.9))
    again = replay([step(i) for i in range(16)], QUERIES, VECTORS, TOOLS, MovedTools(TABLE, 0.9))
    static = replay([step(i) for i in range(16)], QUERIES, VECTORS, TOOLS, Static(TABLE))
    assert once == again[:8]
    assert np.mean(again[8:]) > np.mean(static[8:])
    assert static[:8] == static[8:]


def test_the_alternatives_learn_a_rule_from_the_stream() -> None:
    figures = compare([step(i) for i in range(400)], CORPUS, VECTORS, TOOLS, TABLE, seed=1)
    assert {name: len(values) for name, values in figures.items()} == dict.fromkeys(
        ("served", "static", "head", "moved tools"), 400
    )
    last = {name: np.mean(values[-100:]) for name, values in figures.items()}
    assert last["head"] > last["static"] + 0.2
    assert last["moved tools"] > last["static"] + 0.2


def test_verdicts_are_about_the_end_of_the_stream() -> None:
    figures = {"served": [0.0] * 60 + [1.0] * 30, "static": [0.5] * 90}
    rows = verdicts(figures, ["vague"] * 90)
    assert [(r["slice"], r["n"], r["difference"]) for r in rows] == [("all", 30, 0.5), ("vague", 30, 0.5)]
    assert rows[0]["p_value"] < 0.01


def test_curves_are_running_means_and_are_drawn(tmp_path: Path) -> None:
    kinds = ["standard"] * 3 + ["vague"] * 6
    figures = {"served": [1.0] * 3 + [0.0] * 3 + [1.0] * 3, "static": [0.0] * 9}
    found = curves(figures, kinds)
    assert found["standard"]["served"] == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert found["vague"]["served"] == [(5, 0.0), (6, 0.0), (7, 0.5), (8, 1.0), (9, 1.0)]
    drawn = {"curves": found, "window": {"standard": 1, "vague": 2}, "releases": [(1, "start"), (5, "2")]}
    stream_picture.write(drawn, [(0.0, 8.0), (60.0, 12.0)], tmp_path / "stream.png")
    assert (tmp_path / "stream.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_cheat_reached_is_counted_in_the_last_answers() -> None:
    lies = [Step(f"x{i}", "text 0", None, {"t7": True}, (), CHEAT) for i in range(5)]
    asked = [Step(f"r{i}", f"text {i % 4}", {}, {}, ("t7",) if i >= 80 else ("t0",)) for i in range(90)]
    # Cosines of a query with all tools but its own are equal, so t7 is pushed out of the static encoder's first five.
    tools = TABLE - 0.1 * np.eye(8, dtype=np.float32)[:, [7] * 8].T
    found = poisoning([*lies, *asked], VECTORS, TOOLS, tools)
    assert (found["tool_id"], found["lies"], found["n"], found["static"]) == ("t7", 5, 30, 0.0)
    assert found["served"] == pytest.approx(1 / 3)
    assert found["p_value"] < 0.05
    assert "claimed 5 times that t7" in poison_line(found)
    assert poison_line(poisoning(asked, VECTORS, TOOLS, tools)) == "Nobody cheated."


def test_steps_are_read_off_log_and_record(tmp_path: Path) -> None:
    shown = [{"tool_id": "t1", "rank": 1, "score": 0.5, "propensity": 1.0}]
    search = {"version": 1, "type": "search", "tenant": "a", "release": "1", "train_on": True, "tools": shown}
    outcome = {"version": 1, "type": "outcome", "tenant": "a", "time": 9.0, "request_id": "r1"}
    lines = [
        json.dumps(search | {"time": 5.0, "request_id": "r2", "query": "second"}),
        json.dumps(search | {"time": 3.0, "request_id": "r1", "query": "first"}),
        json.dumps(outcome | {"tool_id": "t1", "result": "failed"}),
        json.dumps(outcome | {"tool_id": "t2", "result": "succeeded"}),
        "torn",
    ]
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.jsonl").write_text("\n".join(lines))
    record = {"request_id": "r2", "query_id": "q", "nDCG@5": 0.5}
    (tmp_path / "record.jsonl").write_text(json.dumps(record) + "\n")
    steps = read_steps(tmp_path / "log", tmp_path / "record.jsonl")
    assert [s.query for s in steps] == ["first", "second"]
    assert steps[0].record is None
    assert steps[0].outcomes == {"t1": False, "t2": True}
    assert steps[1].record == pytest.approx(record)
    assert (steps[0].shown, steps[0].tenant) == (("t1",), "a")
