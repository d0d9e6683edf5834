"""Tools that another's description names, in answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.catalog_file import entry_of
from actors.core.limits import Limits
from actors.core.types import Tool
from serve_app.view import View
from tests.unit.serve_app.hand_made import engine, ids, rewritten, search, tool, view


def naming(**weights: Any) -> View:
    """North's description says to go west first."""
    entry = entry_of(replace(tool("north"), namespace="western", description="Goes north. Use it after go_west."))
    made = view()
    return replace(made, release=replace(made.release, named_follow=True, **weights), entries={**made.entries, "north": entry})


def test_what_a_tool_names_follows_it(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, naming()), "up there", mode="raw", k=3, explain=True)
    assert (ids(answer), answer.mode) == (["north", "west", "east"], "raw")
    assert answer.tools[0].score == answer.tools[1].score
    assert [one.named_by for one in (t.explanation for t in answer.tools) if one] == [None, "north", None]
    assert ids(search(engine(tmp_path, view()), "up there", mode="raw", k=3)) == ["north", "east", "west"]
    assert ids(search(engine(tmp_path, naming()), "up there", mode="raw", k=3, min_score=0.5)) == ["north"]


def test_what_a_search_may_not_see_does_not_follow(tmp_path: Path) -> None:
    made = naming()
    seen = {**made.entries, "west": entry_of(replace(tool("west"), namespace="hidden"))}
    answer = search(engine(tmp_path, replace(made, entries=seen)), "up there", k=3, namespaces=["western", "eastern"])
    assert ids(answer) == ["north", "east"]


def test_what_the_first_tools_name_follows_them_when_they_were_read(tmp_path: Path) -> None:
    async def rerank(query: str, tools: Sequence[Tool]) -> list[float]:
        return [0.0 if one.tool_id == "north" else -9.0 for one in tools]

    answer = search(engine(tmp_path, naming(rerank_weight=1.0), rerank=rerank), "to the east", mode="reranked", k=3)
    assert (ids(answer), answer.mode) == (["north", "west", "east"], "reranked")
    # One cosine is near the first: an answer of one tool, and what it names.
    short = naming(rerank_weight=1.0, limits=Limits(keep_within=0.1))
    assert ids(search(engine(tmp_path, short, rerank=rerank), "to the east", mode="reranked")) == ["north", "west"]


@pytest.mark.parametrize("mode", ["fused", "hybrid"])
def test_named_tools_follow_where_scores_are_cosines(tmp_path: Path, mode: str) -> None:
    answers = [search(engine(tmp_path, made, rewritten), "to the east", mode=mode, k=3) for made in (view(), naming())]
    without, following = map(ids, answers)
    assert without == ["north", "east", "west"] or mode == "hybrid"
    assert following == (["north", "west", "east"] if mode == "fused" else without)
