"""Events on the wire: what is taken, and the reason for what is not."""

import json
from typing import Any

import pytest

from actors.core.events import MAX_EVENT_BYTES, EventError, LabelEvent, OutcomeEvent, SearchEvent, parse

SEARCH: dict[str, Any] = {
    "version": 1,
    "type": "search",
    "request_id": "r1",
    "time": 1_700_000_000.0,
    "tenant": "shop",
    "query": "my pictures take forever",
    "train_on": True,
    "release": "3",
    "tools": [{"tool_id": "cloudfront.CreateDistribution", "rank": 1, "score": 0.7, "propensity": 1.0}],
}
OUTCOME = {"version": 1, "type": "outcome", "request_id": "r1", "time": 1.0, "tenant": "shop", "tool_id": "a", "result": "called"}
LABEL = {"version": 1, "type": "label", "time": 1.0, "tenant": "t", "query": "q", "tool_ids": ["a"], "by": "ann", "train_on": True}


def encode(record: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(record | changes).encode()


def test_each_type_is_read() -> None:
    assert isinstance(parse(encode(SEARCH)), SearchEvent)
    assert isinstance(parse(encode(OUTCOME)), OutcomeEvent)
    assert isinstance(parse(encode(LABEL)), LabelEvent)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "Invalid JSON"),
        (b"[1]", "should be an object"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b" " * (MAX_EVENT_BYTES + 1), "an event has at most"),
        (encode(SEARCH, version=2), "version: Input should be 1"),
        (encode(SEARCH, type="click"), "does not match any of the expected tags"),
        (encode(SEARCH, colour="red"), "colour: Extra inputs"),
        (encode(SEARCH, query="  "), "query: Value error, is blank"),
        (encode(SEARCH, query="x" * 5000), "query: String should have at most 4000"),
        (encode(SEARCH, tools=[{"tool_id": "a", "rank": 0, "score": 1, "propensity": 1}]), "tools.0.rank"),
        (encode(SEARCH, tools=[{"tool_id": "a", "rank": 1, "score": 1, "propensity": 0}]), "tools.0.propensity"),
        (encode(SEARCH, time="yesterday"), "time: Input should be a valid number"),
        (encode({k: v for k, v in SEARCH.items() if k != "train_on"}), "train_on: Field required"),
        (encode(OUTCOME, result="liked"), "result: Input should be 'called', 'succeeded' or 'failed'"),
        (encode(LABEL, tool_ids=[]), "tool_ids: Tuple should have at least 1 item"),
    ],
)
def test_what_is_wrong_is_named(line: bytes, reason: str) -> None:
    with pytest.raises(EventError) as caught:
        parse(line)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_duplicates_have_one_key() -> None:
    assert parse(encode(SEARCH)).key == parse(encode(SEARCH, time=5.0)).key
    assert parse(encode(OUTCOME)).key != parse(encode(OUTCOME, result="failed")).key
    assert parse(encode(LABEL)).key == parse(encode(LABEL, time=9.0)).key != parse(encode(LABEL, by="bob")).key
