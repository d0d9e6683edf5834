"""Batches for InfoNCE, worked by hand; a catalog of letters in which "a" and "A" are twins."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from actors.core.batches import EncoderRow, by_length, make_batches, most_telling
from actors.core.types import Catalog, InputError, Tool

LETTERS = "aAbcdefgh"
TWINS = {"a": frozenset({"A"}), "A": frozenset({"a"})}
CATALOG = Catalog(tuple(Tool(letter, letter, letter, "") for letter in LETTERS), TWINS)


def row(anchor: str, tool: str, group: str = "vague", gold: str = "", negatives: str = "") -> EncoderRow:
    return EncoderRow(anchor, tool, tuple(gold or tool), group, tuple(negatives))


def many(tools: str, group: str, each: int = 4) -> list[EncoderRow]:
    return [row(f"{group} {tool} {i}", tool, group) for tool in tools for i in range(each)]


def gold_of(rows: list[EncoderRow]) -> dict[str, set[str]]:
    return {r.anchor: CATALOG.never_negative([*r.gold, r.tool_id]) for r in rows}


def test_no_document_of_a_batch_is_right_for_another_row() -> None:
    rows = many(LETTERS, "vague")
    rows += [row(f"two golds {i}", tool, gold="bc") for i in range(4) for tool in "bc"]
    rows = [EncoderRow(r.anchor + r.tool_id, r.tool_id, r.gold, r.group, tuple("aAbcd")) for r in rows]
    right = gold_of(rows)
    batches = make_batches(rows, {"vague": 1}, CATALOG, steps=30, pairs_per_step=5, negatives=1, seed=3)
    assert len(batches) == 30
    for batch in batches:
        for one in batch:
            others = {t for other in batch for t in (other.tool_ids if other is not one else other.tool_ids[1:])}
            assert not others & right[one.anchor]


def test_twins_are_never_each_others_negatives_however_few_tools_there_are() -> None:
    batches = make_batches(many("aAb", "vague"), {"vague": 1}, CATALOG, steps=10, pairs_per_step=3, negatives=0, seed=0)
    assert all(len(batch) == 2 and {r.tool_ids[0] for r in batch} != {"a", "A"} for batch in batches)


def test_groups_get_their_shares_over_the_steps() -> None:
    rows = many("bcdefgh", "vague") + many("bcdefgh", "standard")
    shares = {"vague": 0.625, "standard": 0.375, "symptom": 1.0}
    batches = make_batches(rows, shares, CATALOG, steps=8, pairs_per_step=4, negatives=0, seed=1)
    # 4 rows x 8 steps, 5 to 3; "symptom" has no rows and counts for nothing.
    assert Counter(r.anchor.split()[0] for batch in batches for r in batch) == {"vague": 20, "standard": 12}


def test_rows_repeat_only_after_all_were_taken() -> None:
    rows = many("bcdefgh", "vague", each=1)
    batches = make_batches(rows, {"vague": 1}, CATALOG, steps=7, pairs_per_step=2, negatives=0, seed=2)
    assert set(Counter(r.anchor for batch in batches for r in batch).values()) == {2}


def test_equal_seeds_give_equal_batches_and_others_do_not() -> None:
    rows = many("bcdefgh", "vague")
    one, same, other = (make_batches(rows, {"vague": 1}, CATALOG, 5, 4, 0, seed) for seed in (7, 7, 8))
    assert one == same != other


def test_mined_negatives_come_first_and_gaps_are_filled() -> None:
    rows = [row("x", "b", negatives="cde"), row("y", "c", negatives="")]
    (batch,) = make_batches(rows, {"vague": 1}, CATALOG, steps=1, pairs_per_step=2, negatives=2, seed=0)
    documents = {r.anchor: r.tool_ids for r in batch}
    # "c" is the other row's positive, so it is in the batch already.
    assert documents["x"] == ("b", "d", "e")
    assert documents["y"][0] == "c" and len(set(documents["y"])) == 3 and "b" not in documents["y"]


def test_without_mined_negatives_there_is_no_column_for_them() -> None:
    (batch,) = make_batches(many("bc", "vague"), {"vague": 1}, CATALOG, steps=1, pairs_per_step=2, negatives=3, seed=0)
    assert all(len(r.tool_ids) == 1 for r in batch)


def test_one_tool_makes_no_batch() -> None:
    with pytest.raises(InputError, match="two different tools"):
        make_batches(many("a", "vague"), {"vague": 1}, CATALOG, steps=1, pairs_per_step=4, negatives=0, seed=0)


def test_by_length_keeps_all_rows_in_batches_of_like_length() -> None:
    rows = list(range(70))
    random.Random(0).shuffle(rows)
    ordered = by_length(rows, 4, lambda n: n, seed=1)
    assert sorted(ordered) == sorted(rows) and ordered != sorted(rows)
    # The first 32 rows are sorted together, so their batches do not overlap.
    first = sorted((min(b), max(b)) for b in (ordered[i : i + 4] for i in range(0, 32, 4)))
    assert all(one[1] < two[0] for one, two in pairwise(first))


def test_the_widest_gaps_are_taken() -> None:
    pairs = [{"chosen_reward": gap, "rejected_reward": 0.0} for gap in (0.1, 0.9, 0.5, 0.3)]
    assert sorted(p["chosen_reward"] for p in most_telling(pairs, 2, seed=0)) == [0.5, 0.9]
    assert len(most_telling(pairs, 9, seed=0)) == 4
