"""Searches that find an unfamiliar tool first: the frozen encoder answers, without what was fitted on the trained one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from actors.core.limits import Limits
from actors.core.types import Found
from actors.memory import Memory
from serve_app.view import Ask, View
from tests.fakes_retrieval import TableEncoder
from tests.unit.serve_app.hand_made import TABLE, engine, ids, rewritten, search, view

FROZEN = {"up there": [0.96, -0.28], "go_west": [-0.6, 0.8], "a rewrite": [-1.0, 0.0]}
"""What the frozen encoder makes of what the trained one leads north first."""


def strange(unfamiliar: Sequence[str] = ("north",), limits: Limits | None = None) -> View:
    return replace(view(limits=limits), frozen=TableEncoder(FROZEN), unfamiliar=frozenset(unfamiliar))


def test_the_frozen_encoder_answers_what_is_unfamiliar_and_says_so(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, strange()), "up there", mode="raw", k=3, explain=True)
    assert ids(answer) == ["east", "north", "west"]
    told = [one for one in (tool.explanation for tool in answer.tools) if one]
    assert [one.query_cosine for one in told] == pytest.approx([0.96, -0.28, -0.96])
    assert all(one.frozen for one in told)
    familiar = search(engine(tmp_path, strange()), "to the east", mode="raw", k=3, explain=True)
    assert (ids(familiar)[0], [t.explanation.frozen for t in familiar.tools if t.explanation]) == ("east", [False] * 3)
    assert ids(search(engine(tmp_path, strange(())), "up there", mode="raw", k=1)) == ["north"]


def test_rewrites_follow_their_query(tmp_path: Path) -> None:
    assert ids(search(engine(tmp_path, strange(), rewritten), "go_west", mode="rewrite", k=1)) == ["west"]
    # Half of (-0.6, 0.8) and half of (-1, 0).
    fused = search(engine(tmp_path, strange(), rewritten), "go_west", mode="fused", k=1, explain=True)
    assert fused.tools[0].explanation is not None
    assert fused.tools[0].explanation.rewrite_cosine == pytest.approx(1.0)


def test_what_was_fitted_on_the_trained_encoder_does_not_count(tmp_path: Path) -> None:
    strict = Limits(abstain_below=0.99, keep_within=0.0, rewrite_below=2.0)
    answer = search(engine(tmp_path, strange(limits=strict), rewritten), "up there")
    assert (answer.abstained, answer.mode, ids(answer)) == (False, "raw", ["east", "north", "west"])
    assert search(engine(tmp_path, strange((), strict), rewritten), "up there").abstained
    release = replace(strange().release, memory_weight=2.0)
    labels = Memory([Found("", "to the east", ("west",))], TableEncoder(TABLE).encode_queries)
    remembering = replace(strange(), release=release, memory=labels)
    assert search(engine(tmp_path, remembering), "up there", k=1).mode == "raw"
    assert search(engine(tmp_path, remembering), "to the east", k=1).mode == "remembered"


def test_what_a_search_may_not_see_does_not_make_it_unfamiliar(tmp_path: Path) -> None:
    seen = search(engine(tmp_path, strange()), "up there", mode="raw", k=3, namespaces=["eastern", "western"], explain=True)
    assert [tool.explanation.frozen for tool in seen.tools if tool.explanation] == [False, False]


def test_searches_of_one_batch_are_told_apart() -> None:
    asks = [Ask("to the east", 1), Ask("up there", 1), Ask("go_west", 2, ("a rewrite",), 0.5)]
    found = strange().rank(asks)
    assert [one.frozen for one in found] == [False, True, True]
    assert [one.ranking[0][0] for one in found] == ["east", "east", "west"]
