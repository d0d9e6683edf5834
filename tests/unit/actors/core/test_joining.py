"""Searches and outcomes become interactions: in any order, once each, late ones too."""

import json
import random
from typing import Any

import pytest

from actors.core.events import Event, EventError, LabelEvent, OutcomeEvent, SearchEvent, ShownTool
from actors.core.joining import Joiner, JoinLimits
from actors.core.types import Found

LIMITS = JoinLimits(window_s=60, memory_s=1000, clock_skew_s=30)


def search(request: str, time: float, *, train_on: bool = True, tenant: str = "t") -> SearchEvent:
    tools = tuple(ShownTool(tool_id=f"tool{i}", rank=i, score=1 / i, propensity=1 / i) for i in (1, 2, 3))
    return SearchEvent(
        version=1,
        type="search",
        request_id=request,
        time=time,
        tenant=tenant,
        query="q",
        train_on=train_on,
        release="0",
        tools=tools,
    )


def outcome(request: str, tool: str, result: Any, time: float, tenant: str = "t") -> OutcomeEvent:
    return OutcomeEvent(version=1, type="outcome", request_id=request, time=time, tenant=tenant, tool_id=tool, result=result)


def test_outcomes_join_their_search_when_the_window_passes() -> None:
    joiner = Joiner(LIMITS)
    for event in (search("r", 100), outcome("r", "tool2", "called", 101), outcome("r", "tool2", "succeeded", 102)):
        assert joiner.take(event, 110) == []
    assert joiner.close(110) == ([], [])
    assert joiner.waiting == 1
    assert joiner.found() == [Found("t", "q", ("tool2",))], "a success is known while the window is open"
    joiner.take(search("later", 161), 161)
    [closed], letters = joiner.close(161)
    assert (closed.interaction_id, closed.results, closed.late, letters) == (search("r", 1).key, {"tool2": "succeeded"}, False, [])
    assert joiner.close(161) == ([], [])
    assert joiner.found() == [], "what is closed is told by its interaction, and a search without a success is not told of"


def test_a_weaker_result_does_not_replace_a_stronger_one() -> None:
    joiner = Joiner(LIMITS)
    for event in (search("r", 100), outcome("r", "tool1", "succeeded", 101), outcome("r", "tool1", "called", 102)):
        joiner.take(event, 110)
    assert joiner.close(300)[0][0].results == {"tool1": "succeeded"}


def test_order_of_arrival_does_not_matter() -> None:
    events: list[Event] = [
        search("r", 100),
        search("s", 101),
        outcome("r", "tool1", "failed", 102),
        outcome("r", "tool3", "succeeded", 103),
    ]
    for seed in range(10):
        joiner = Joiner(LIMITS)
        for event in random.Random(seed).sample(events, len(events)):
            joiner.take(event, 110)
        found = {i.interaction_id: i.results for i in joiner.close(300)[0]}
        assert found == {search("r", 1).key: {"tool1": "failed", "tool3": "succeeded"}, search("s", 1).key: {}}


def test_duplicates_count_once_and_are_counted() -> None:
    joiner = Joiner(LIMITS)
    for _ in range(3):
        joiner.take(search("r", 100), 110)
        joiner.take(outcome("r", "tool1", "succeeded", 101), 110)
    assert len(joiner.close(300)[0]) == 1
    assert joiner.take(outcome("r", "tool1", "succeeded", 101), 310) == []
    assert joiner.duplicates == 5


def test_late_outcomes_count_as_interactions_of_their_own() -> None:
    joiner = Joiner(LIMITS)
    joiner.take(search("r", 100), 110)
    joiner.close(300)
    [late] = joiner.take(outcome("r", "tool3", "succeeded", 290), 300)
    assert (late.late, late.results, late.query, len(late.tools)) == (True, {"tool3": "succeeded"}, "q", 3)


def test_outcomes_without_search_are_named() -> None:
    joiner = Joiner(LIMITS)
    joiner.take(outcome("nobody", "tool1", "called", 100), 110)
    assert joiner.close(130) == ([], [])
    _, [letter] = joiner.close(230)
    assert letter.reason == "outcome without search"
    assert joiner.close(230)[1] == []


def test_a_tenant_cannot_speak_of_anothers_search_nor_hide_it() -> None:
    joiner = Joiner(LIMITS)
    joiner.take(search("r", 99, tenant="cheat"), 110)
    joiner.take(search("r", 100), 110)
    joiner.take(outcome("r", "tool1", "succeeded", 101, tenant="cheat"), 110)
    joiner.take(outcome("r", "tool2", "succeeded", 102), 110)
    joiner.take(outcome("other", "tool1", "succeeded", 101, tenant="cheat"), 110)
    joiner.take(search("other", 101), 110)
    closed, letters = joiner.close(400)
    assert [(i.tenant, i.results) for i in closed] == [
        ("cheat", {"tool1": "succeeded"}),
        ("t", {"tool2": "succeeded"}),
        ("t", {}),
    ]
    assert [letter.event.tenant for letter in letters] == ["cheat"]


def test_a_clock_ahead_is_refused_and_moves_nothing() -> None:
    joiner = Joiner(LIMITS)
    joiner.take(search("r", 100), 110)
    with pytest.raises(EventError, match="90 s ahead"):
        joiner.take(search("future", 200), 110)
    assert joiner.close(110) == ([], [])


def test_without_consent_nothing_is_held_but_the_request_id() -> None:
    joiner = Joiner(LIMITS)
    joiner.take(search("r", 100, train_on=False), 110)
    joiner.take(outcome("r", "tool1", "succeeded", 101), 110)
    label = LabelEvent(version=1, type="label", time=100, tenant="t", query="secret", tool_ids=("a",), by="b", train_on=False)
    assert joiner.take(label, 110) == []
    assert joiner.close(500) == ([], [])
    assert "secret" not in json.dumps(joiner.state())
    assert '"q"' not in json.dumps(joiner.state())


def test_a_label_is_an_interaction_at_once() -> None:
    label = LabelEvent(version=1, type="label", time=100, tenant="t", query="q", tool_ids=("a", "b"), by="ann", train_on=True)
    [found] = Joiner(LIMITS).take(label, 110)
    assert (found.label, found.tools) == (("a", "b"), ())


def test_state_goes_through_json_unchanged() -> None:
    joiner = Joiner(LIMITS)
    joiner.take(search("old", 10), 100)
    joiner.close(100)
    for event in (search("r", 100), outcome("r", "tool1", "failed", 101), outcome("nobody", "tool1", "called", 100)):
        joiner.take(event, 110)
    other = Joiner.restore(LIMITS, json.loads(json.dumps(joiner.state())))
    assert other.state() == joiner.state()
    assert other.close(500) == joiner.close(500)


def test_old_searches_are_forgotten_and_a_tenant_on_request() -> None:
    joiner = Joiner(LIMITS)
    joiner.take(search("r", 100), 110)
    joiner.close(2000)
    assert joiner.state()["searches"] == joiner.state()["orphans"] == []
    joiner.take(search("mine", 2000, tenant="me"), 2000)
    joiner.take(search("theirs", 2000), 2000)
    assert joiner.forget("me") == 1
    assert [i.tenant for i in joiner.close(3000)[0]] == ["t"]
