"""Training rows from a corpus of nine queries."""

from __future__ import annotations

from collections import Counter

import pytest

from actors.core.replay import Example
from actors.core.types import Catalog, Corpus, Query, QueryKind, Split, Tool
from configs.schema import EncoderConfig
from pipelines import warm_start


def query(query_id: str, kind: QueryKind, split: Split = "train", gold: str = "a") -> Query:
    return Query(query_id, f"text of {query_id}", kind, split, {tool: i + 1 for i, tool in enumerate(gold)})


CORPUS = Corpus(
    Catalog(tuple(Tool(t, t, f"Tool {t}", "") for t in "abc")),
    (
        query("v1", "vague"),
        query("v2", "vague", gold="bc"),
        query("s1", "standard", gold="b"),
        query("y1", "symptom", gold="c"),
        query("d1", "sentence", gold="c"),
        query("d2", "sentence", gold="a"),
        query("v-test", "vague", "test"),
        query("v-dev", "vague", "dev"),
    ),
)


def test_warm_start_has_a_row_for_each_gold_tool_of_training_queries_only() -> None:
    rows, shares = warm_start.encoder_warm_start(CORPUS, 1.0)
    assert [(r.anchor, r.tool_id) for r in rows if r.group == "vague"] == [
        ("text of v1", "a"),
        ("text of v2", "b"),
        ("text of v2", "c"),
    ]
    assert not any("v-test" in r.anchor or "v-dev" in r.anchor for r in rows)
    # 40 : 8 : 6 : 8, since there are no examples.
    assert shares == pytest.approx({"vague": 40 / 62, "standard": 8 / 62, "symptom": 6 / 62, "sentence": 8 / 62})


def test_rewriter_learns_from_needs_that_the_encoders_warm_start_leaves_out() -> None:
    wordings = [(f"n{i}", tier) for i in range(10) for tier in ("V1", "V2")]
    needs = [Query(f"{need}-{tier}", f"text of {need}", "vague", "train", {"a": 1}, tier, need) for need, tier in wordings]
    corpus = Corpus(CORPUS.catalog, (*needs, query("y1", "symptom"), query("v-test", "vague", "test")))
    fresh = warm_start.fresh_queries(corpus, 0.6)
    assert len(fresh) == 8
    assert all(count == 2 for count in Counter(q.need for q in fresh).values()), "wordings of a need stay together"
    rows, _ = warm_start.encoder_warm_start(corpus, 0.6)
    warm = {r.anchor for r in rows if r.group == "vague"}
    assert len(warm) == 6
    assert warm.isdisjoint(q.text for q in fresh)
    drawn = warm_start.sft_queries(corpus, 0.6, 40, seed=0)
    assert {q.query_id for q in drawn if q.kind == "vague"} == {q.query_id for q in fresh}
    assert len({q.need for q in warm_start.fresh_queries(corpus, 1.0)}) == 10
    assert len({r.anchor for r in warm_start.encoder_warm_start(corpus, 0.0)[0]}) == 11, "all, where none would be left"


def test_unit_adds_rewrites_to_queries_and_catalog_by_the_configured_shares() -> None:
    config = EncoderConfig(rewrite_share=0.5, catalog_share=0.14, steps_per_unit=1, pairs_per_step=4)
    rewrites = [("v1", "Tool a. Does it."), ("s1", "Tool b. Does it.")]
    rows, shares = warm_start.encoder_unit(CORPUS, rewrites, {"v1": ["b"]}, config)
    assert shares == pytest.approx(
        {
            "vague": 0.86 * 40 / 48,
            "standard": 0.86 * 8 / 48,
            "rewrite:vague": 0.5 * 40 / 48,
            "rewrite:standard": 0.5 * 8 / 48,
            "symptom": 0.14 * 6 / 14,
            "sentence": 0.14 * 8 / 14,
        }
    )
    assert {r.anchor for r in rows if r.group == "vague"} == {"text of v1", "text of v2"}
    assert {r.anchor: r.negatives for r in rows if r.negatives} == {"text of v1": ("b",), "Tool a. Does it.": ("b",)}
    assert Counter(r.group for r in rows)["sentence"] == 2


def test_a_rewrite_is_drawn_once_in_the_mean() -> None:
    config = EncoderConfig(rewrite_share=0.5, steps_per_unit=10, pairs_per_step=20)
    _, shares = warm_start.encoder_unit(CORPUS, [("v1", "Tool a."), ("v1", "Does it."), ("v1", " ")], {}, config)
    assert shares["rewrite:vague"] * 10 * 20 == pytest.approx(2)


def test_unit_without_rewrites_holds_as_many_queries() -> None:
    rows, shares = warm_start.encoder_unit(CORPUS, [], {}, EncoderConfig(rewrite_share=0.5, catalog_share=0.2))
    assert shares["vague"] + shares["standard"] == pytest.approx(0.8)
    assert not any(r.group.startswith("rewrite") for r in rows)


def test_unit_mixes_what_users_did_into_the_labelled_queries_share() -> None:
    seen = Example("log-1", "t", "what a user said", right=("a",), wrong=("c",), weight=2.0, time=0.0)
    config = EncoderConfig(rewrite_share=0.25, catalog_share=0.2, steps_per_unit=1, pairs_per_step=8)
    rewrites = [("log-1", "Tool a. Does it."), ("v1", "Tool b. Does it.")]
    rows, shares = warm_start.encoder_unit(CORPUS, rewrites, {"log-1": ["b"]}, config, [seen, seen], 0.5)
    assert shares["log"] == pytest.approx(0.4)
    assert shares["vague"] == shares["standard"] == pytest.approx(0.2)
    assert shares["rewrite:log"] == shares["rewrite:vague"] == pytest.approx(0.125)
    old = Example("log-0", "t", "what was said before", right=("b",), wrong=(), weight=1.0, time=0.0)
    _, both = warm_start.encoder_unit(CORPUS, rewrites, {}, config, [seen], 0.5, [old])
    assert both["log"] == both["replay"] == pytest.approx(0.2)
    from_log = [r for r in rows if r.group == "log"]
    assert [(r.anchor, r.tool_id, r.negatives) for r in from_log] == [("what a user said", "a", ("c", "b"))] * 2


def test_unit_drops_rewrites_that_are_empty_copied_or_repeated() -> None:
    rewrites = [("v1", " "), ("v1", "Text  of V1"), ("v1", "Tool a."), ("v1", "tool  a.")]
    rows, _ = warm_start.encoder_unit(CORPUS, rewrites, {}, EncoderConfig())
    assert len([r for r in rows if r.group == "rewrite:vague"]) == 1


def test_sft_queries_are_weighed_by_kind_and_exhausted_before_they_repeat() -> None:
    drawn = warm_start.sft_queries(CORPUS, 1.0, 62, seed=0)
    assert Counter(q.kind for q in drawn) == {"vague": 40, "standard": 8, "symptom": 6, "sentence": 8}
    assert Counter(q.query_id for q in drawn if q.kind == "vague") == {"v1": 20, "v2": 20}
    assert len(warm_start.sft_queries(CORPUS, 1.0, 17, seed=0)) == 17
    assert drawn == warm_start.sft_queries(CORPUS, 1.0, 62, seed=0) != warm_start.sft_queries(CORPUS, 1.0, 62, seed=1)


def test_sft_rows_take_the_best_gold_tool_and_the_given_context() -> None:
    rows = warm_start.sft_rows(
        [CORPUS.queries[1], CORPUS.queries[0]],
        {"v2": ["Tool a", "Tool b"]},
        prompt=lambda text, titles: f"{text} | {', '.join(titles)}",
        target=lambda tool_id: f"entry {tool_id}",
    )
    assert [(r.prompt, r.target) for r in rows] == [("text of v2 | Tool a, Tool b", "entry c"), ("text of v1 | ", "entry a")]


def test_turned_rows_lead_from_the_entry_of_a_gold_tool_to_a_labelled_training_query() -> None:
    rows = warm_start.turned_rows(CORPUS, 7, seed=0)
    assert Counter(r.target for r in rows[:3]) == Counter({" text of v1": 1, " text of v2": 1, " text of s1": 1})
    assert next(r.prompt for r in rows if r.target == " text of v1") == "Entry: Tool a.\nRequest:"
    assert {r.prompt for r in rows if r.target == " text of v2"} <= {"Entry: Tool b.\nRequest:", "Entry: Tool c.\nRequest:"}
    assert len(rows) == 7
    assert rows == warm_start.turned_rows(CORPUS, 7, seed=0)
    with pytest.raises(ValueError, match="no labelled training queries"):
        warm_start.turned_rows(Corpus(CORPUS.catalog, ()), 1, seed=0)
