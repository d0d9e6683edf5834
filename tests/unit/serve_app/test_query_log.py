from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from actors.core.events import LabelEvent, OutcomeEvent, SearchEvent, parse
from serve_app.keys import SCOPES, Client
from serve_app.query_log import WITHHELD, QueryLog
from serve_app.schema.search import LabelFeedback, OutcomeFeedback

ANN = Client("ann", frozenset(SCOPES), None, True, "k")
PRIVATE = Client("bob", frozenset(SCOPES), None, False, "k")


def lines(directory: Path) -> list[bytes]:
    return [line for file in sorted(directory.glob("*.jsonl")) for line in file.read_bytes().splitlines()]


def test_events_are_those_that_training_reads(tmp_path: Path) -> None:
    log = QueryLog(tmp_path / "log", 1_000_000)
    log.search("r1", ANN, "schöne Bilder", True, "7", [("a", 0.5, 1.0), ("b", 0.4, 0.25)])
    assert log.feedback(ANN, [OutcomeFeedback(type="outcome", request_id="r1", tool_id="b", result="succeeded")])
    assert log.feedback(ANN, [LabelFeedback(type="label", query="more", tool_ids=["a"], by="ann")])
    search, outcome, label = (parse(line) for line in lines(tmp_path / "log"))
    assert isinstance(search, SearchEvent)
    assert (search.tenant, search.query, search.release, search.train_on) == ("ann", "schöne Bilder", "7", True)
    assert [(t.tool_id, t.rank, t.propensity) for t in search.tools] == [("a", 1, 1.0), ("b", 2, 0.25)]
    assert isinstance(outcome, OutcomeEvent)
    assert (outcome.request, outcome.tool_id, outcome.result) == (search.request, "b", "succeeded")
    assert isinstance(label, LabelEvent)
    assert (label.tool_ids, label.by, label.train_on) == (("a",), "ann", True)


def test_without_consent_the_text_is_not_written(tmp_path: Path) -> None:
    log = QueryLog(tmp_path, 1_000_000)
    log.search("r1", ANN, "my secret plan", False, "7", [])
    log.feedback(PRIVATE, [LabelFeedback(type="label", query="my secret plan", tool_ids=["a"], by="bob")])
    assert b"secret" not in b"".join(lines(tmp_path))
    assert [json.loads(line)["query"] for line in lines(tmp_path)] == [WITHHELD, WITHHELD]
    assert not any(json.loads(line)["train_on"] for line in lines(tmp_path))


def test_a_new_file_is_begun_when_one_is_full(tmp_path: Path) -> None:
    log = QueryLog(tmp_path, 100)
    for number in range(3):
        log.search(f"r{number}", ANN, "query", True, "7", [])
    assert len(list(tmp_path.glob("*.jsonl"))) == 3
    assert len(lines(tmp_path)) == 3


def test_a_full_disk_loses_events_and_says_so_and_never_half_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = QueryLog(tmp_path, 1_000_000)
    log.search("r1", ANN, "before", True, "7", [])
    real = os.write
    with monkeypatch.context() as full, caplog.at_level(logging.ERROR):
        full.setattr(os, "write", lambda descriptor, content: real(descriptor, content[:10]))
        log.search("r2", ANN, "lost", True, "7", [])
        assert not log.feedback(ANN, [OutcomeFeedback(type="outcome", request_id="r1", tool_id="b", result="failed")])
    assert (log.lost, "No space left" in log.broken) == (2, True)
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1
    log.search("r3", ANN, "after", True, "7", [])
    assert log.broken == ""
    assert {json.loads(line)["request_id"] for line in lines(tmp_path)} == {"r1", "r3"}


def test_a_directory_that_cannot_be_made_loses_events(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    log = QueryLog(tmp_path / "log", 1_000)
    log.search("r1", ANN, "query", True, "7", [])
    assert log.lost == 1
