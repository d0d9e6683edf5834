from __future__ import annotations

from typing import Any

import pytest

from actors.catalog_file import Entry
from actors.core.types import InputError
from pipelines.ingestion.listing import make_entry
from pipelines.ingestion.plan import Change, Plan, Read, make_plan, read_of
from pipelines.ingestion.store import Record


def tool(name: str, text: str = "Does it.", namespace: str = "shop", **properties: Any) -> Entry:
    return make_entry(namespace, name, text, {"type": "object", "properties": properties}, "test")[0]


def listing(*entries: Entry, name: str = "shop", whole: bool = True) -> dict[str, Read]:
    return {name: read_of(name, entries, whole)}


def stored(*entries: Entry, name: str = "shop") -> dict[str, Record]:
    return dict(read_of(name, entries, True).records)


def ids(plan: Plan) -> tuple[list[str], list[str], list[str], int]:
    names = [[change.tool_id for change in part] for part in (plan.added, plan.changed, plan.removed)]
    return names[0], names[1], names[2], plan.unchanged


def test_a_tool_is_added_changed_removed_or_left_and_the_plan_says_why() -> None:
    before = stored(tool("same"), tool("words"), tool("schema", a={"type": "string"}), tool("gone"))
    plan = make_plan(before, listing(tool("same"), tool("words", "Does more."), tool("schema", a={"type": "integer"}), tool("new")))
    assert plan.added == (Change("shop.new", "new in shop"),)
    assert plan.changed == (Change("shop.words", "description changed"), Change("shop.schema", "schema changed"))
    assert plan.removed == (Change("shop.gone", "no longer listed by shop"),)
    assert (plan.unchanged, plan.refusals) == (1, ())
    assert {record.tool_id for record in plan.upserts} == {"shop.new", "shop.words", "shop.schema"}


def test_another_order_of_keys_is_no_change() -> None:
    before = stored(tool("a", x={"type": "string", "format": "date"}, y={}))
    assert ids(make_plan(before, listing(tool("a", y={}, x={"format": "date", "type": "string"})))) == ([], [], [], 1)


def test_an_empty_listing_and_one_without_its_end_remove_nothing() -> None:
    before = stored(tool("a"), tool("b"))
    empty = make_plan(before, listing())
    assert (ids(empty), empty.refusals) == (([], [], [], 0), ("shop: lists no tools; what the catalog has of it stays (2)",))
    part = make_plan(before, listing(tool("a", "New."), whole=False))
    assert ids(part) == ([], ["shop.a"], [], 0)
    assert part.refusals == ("shop: was not read to its end; what it did not list stays (1)",)


def test_a_source_removes_no_tool_of_another() -> None:
    before = stored(tool("a")) | stored(tool("b", namespace="other"), name="other")
    assert ids(make_plan(before, listing(tool("c")))) == (["shop.c"], [], ["shop.a"], 0)


def test_two_sources_that_claim_one_id_are_refused_by_name() -> None:
    before = stored(tool("a"))
    with pytest.raises(InputError, match=r"shop\.a: both shop and other list it; give one of them another name"):
        make_plan(before, listing(tool("a"), name="other"))
    with pytest.raises(InputError, match=r"shop\.b: both one and two list it"):
        make_plan({}, listing(tool("b"), name="one") | listing(tool("b"), name="two"))
    with pytest.raises(InputError, match=r"shop\.a: both shop and other list it"):
        make_plan(before, listing(tool("a"), name="other") | listing(tool("z"), whole=False))
    with pytest.raises(InputError, match=r"shop: lists shop\.a twice"):
        listing(tool("a"), tool("a", "Another."))


def test_a_tool_that_one_source_gives_up_and_another_takes_over_moves() -> None:
    plan = make_plan(stored(tool("a"), tool("b")), listing(tool("a"), name="other") | listing(tool("b")))
    assert ids(plan) == ([], ["shop.a"], [], 1)
    assert plan.changed[0].why == "listed by other, no longer by shop"
