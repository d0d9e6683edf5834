"""Made-up users: what they ask, what they click, what they write down."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from actors import found
from actors.core.events import OutcomeEvent, SearchEvent, parse
from actors.core.types import Catalog, Corpus, Found, Query, Tool
from configs.schema import Config
from pipelines import simulate
from pipelines.click_model import CHEAT, Behaviour, asked, events_of
from pipelines.simulate import ServedRelease, Simulation

CATALOG = Catalog((Tool("a", "a", "A", "", namespace="old"), Tool("b", "b", "B", "", namespace="new"), Tool("c", "c", "C", "")))
FOUND = [("c", 0.9), ("a", 0.8), ("b", 0.1)]


def query(name: str, gold: str = "a", split: str = "stream") -> Query:
    return Query(name, f"I need {name}", "vague", split, {gold: 1}, "V1")  # type: ignore[arg-type]


CORPUS = Corpus(CATALOG, (*(query(f"o{i}") for i in range(40)), *(query(f"n{i}", "b") for i in range(10)), query("t", "a", "test")))


def test_new_services_come_late_and_old_ones_fade() -> None:
    order = list(asked(CORPUS, ["new"], 200, Behaviour(drift_at=0.5), seed=1))
    assert all(q.split == "stream" for q in order)
    new = [q.query_id.startswith("n") for q in order]
    assert not any(new[:100])
    assert sum(new[100:150]) < sum(new[150:])
    assert len({q.query_id for q in order[:40]}) == 40
    assert order == list(asked(CORPUS, ["new"], 200, Behaviour(drift_at=0.5), seed=1))


def test_without_a_stream_there_is_nothing_to_ask() -> None:
    with pytest.raises(ValueError, match=r"catalog\.stream_share"):
        next(asked(Corpus(CATALOG, ()), [], 1, Behaviour(), 1))


def test_clicks_follow_the_propensities() -> None:
    rng, count = random.Random(5), 4000
    seen: Counter[str] = Counter()
    for _ in range(count):
        search, *outcomes = events_of(query("x"), "r", "3", FOUND, 1.0, 0.05, rng)
        shown = {tool["tool_id"]: tool["propensity"] for tool in search["tools"]}
        seen.update(f"{o['tool_id']} {o['result']}" for o in outcomes)
    missed = 1 - shown["a"]
    # Looked at and called, or not met and found elsewhere half of the time.
    assert seen["a succeeded"] / count == pytest.approx(shown["a"] + missed / 2, abs=0.03)
    assert seen["c failed"] / count == pytest.approx(0.05, abs=0.015)
    assert seen["c succeeded"] == 0


class Retriever:
    """Counts what it is told to follow."""

    def __init__(self) -> None:
        self.followed: list[list[Found]] = []

    def follow(self, users_found: list[Found], weight: float) -> int:
        self.followed.append(users_found)
        return len(users_found)


def test_what_is_served_follows_what_users_found_over_changes_of_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Retriever] = []

    def load(*given: object) -> Retriever:
        loaded.append(Retriever())
        return loaded[-1]

    monkeypatch.setattr(simulate, "load_retriever", load)
    monkeypatch.setattr(simulate, "open_release", lambda name, field: name)
    served = ServedRelease(Config(run_dir=str(tmp_path)), CORPUS)
    (tmp_path / "releases").mkdir()
    for number, news in ((1, []), (1, [Found("t", "q", ("a",))]), (2, None), (2, None)):
        (tmp_path / "releases" / "served.json").write_text(json.dumps({"number": number}))
        if news:
            found.publish(str(tmp_path), news)
        served.follow()
    assert [len(retriever.followed) for retriever in loaded] == [1, 1]
    assert [retriever.followed[-1] for retriever in loaded] == [[Found("t", "q", ("a",))]] * 2


def test_the_log_holds_events_that_training_reads_and_the_record_what_users_met(tmp_path: Path) -> None:
    simulation = Simulation(
        tmp_path / "log", tmp_path / "run" / "simulation.jsonl", lambda text: ("7", FOUND), Behaviour(cheat_share=0.5), "c", 1
    )
    assert [simulation.ask(query(f"o{i}")) for i in range(40)] == ["7"] * 40
    events = [parse(line) for file in (tmp_path / "log").glob("*.jsonl") for line in file.read_bytes().splitlines()]
    searches = [e for e in events if isinstance(e, SearchEvent)]
    lies = [e for e in events if isinstance(e, OutcomeEvent) and e.tenant == CHEAT]
    assert len({e.request_id for e in searches}) == len(searches) > 40
    assert {e.tool_id for e in lies} == {"c"}
    assert len(lies) == len(searches) - 40
    record = [json.loads(line) for line in (tmp_path / "run" / "simulation.jsonl").read_text().splitlines()]
    assert [r["query_id"] for r in record] == [f"o{i}" for i in range(40)]
    assert {r["request_id"] for r in record} <= {e.request_id for e in searches}
    assert record[0]["nDCG@5"] == pytest.approx(0.6309, abs=1e-4)
