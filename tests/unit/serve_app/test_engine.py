"""Searches over a view made by hand (``hand_made``)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.core.limits import Limits
from actors.core.types import Found, Tool
from actors.index import DenseIndex
from actors.memory import Memory
from configs.schema import Config
from serve_app.problems import ProblemError
from serve_app.reranker import RerankClient, RerankServer
from serve_app.schema.search import SearchAnswer, SearchRequest
from serve_app.time_box import ModelGoneError
from serve_app.view import View
from tests.fakes_retrieval import TableEncoder
from tests.unit.serve_app.hand_made import ANN, TABLE, engine, ids, rewritten, search, tool, view


def test_a_raw_search_and_what_the_log_has_of_it(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, view()), "to the east", mode="raw", k=2)
    assert (ids(answer), answer.mode, answer.release) == (["east", "north"], "raw", "7")
    assert answer.tools[0].score == pytest.approx(0.96)
    assert answer.tools[0].input_schema == {"type": "object", "properties": {"far": {"type": "integer"}}}
    [line] = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    event = json.loads(line)
    assert (event["request_id"], event["query"], event["release"]) == (answer.request_id, "to the east", "7")
    assert [(t["tool_id"], t["rank"]) for t in event["tools"]] == [("east", 1), ("north", 2)]


def test_each_mode_ranks_by_what_it_says(tmp_path: Path) -> None:
    made = engine(tmp_path, view(), rewritten)
    assert ids(search(made, "to the east", mode="rewrite", k=3)) == ["west", "north", "east"]
    fused = search(made, "to the east", mode="fused", k=3)
    # Half of (0.96, 0.28) and half of (-0.8, 0.6): north.
    assert (ids(fused)[0], fused.mode, fused.rewrites) == ("north", "fused", ["a rewrite"])
    assert search(made, "to the east", mode="hybrid", k=3).mode == "hybrid"


def test_auto_rewrites_where_the_first_tool_leads_by_little(tmp_path: Path) -> None:
    unsure = view(limits=Limits(rewrite_below=0.3))
    assert search(engine(tmp_path, unsure, rewritten), "go_west", k=3).mode == "fused"
    assert search(engine(tmp_path, unsure, rewritten), "to the east", k=3).mode == "raw"
    assert search(engine(tmp_path, view(weight=0.0), rewritten), "go_west", k=3).mode == "raw"


def test_rewrites_without_weight_are_not_waited_for(tmp_path: Path) -> None:
    async def never(version: int, query: str, titles: Sequence[str]) -> list[str]:
        raise AssertionError("asked for a rewrite")

    made = engine(tmp_path, view(weight=0.0), never)
    for mode in ("fused", "hybrid"):
        answer = search(made, "to the east", mode=mode, k=1)
        assert (answer.mode, answer.rewrites, answer.degraded, ids(answer)) == (mode, [], None, ["east"])


def remembering(weight: float) -> View:
    """Who asked to go west, and where from, was led north."""
    release = replace(view().release, memory_weight=weight)
    labels = [Found("", "go_west", ("north", "gone")), Found("", "a rewrite", ("west",))]
    return replace(view(), release=release, memory=Memory(labels, TableEncoder(TABLE).encode_queries))


def test_auto_remembers_where_labelled_queries_have_a_weight(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, remembering(2.0), rewritten), "to the east", k=3, explain=True)
    assert (ids(answer), answer.mode, answer.degraded) == (["north", "east", "west"], "remembered", None)
    assert answer.tools[0].score == pytest.approx(0.28 + 2 * 0.8)
    assert [one.nearness for one in (t.explanation for t in answer.tools) if one] == [pytest.approx(0.8), None, None]
    assert search(engine(tmp_path, remembering(2.0)), "to the east", mode="raw", k=1).mode == "raw"
    near = search(engine(tmp_path, remembering(2.0)), "to the east", k=3, min_score=0.5)
    assert ids(near) == ["east"], "min_score goes by the query's own cosine"


def test_only_what_a_search_may_see_is_remembered(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, remembering(2.0)), "to the east", k=3, namespaces=["eastern", "western"])
    assert (ids(answer), answer.mode) == (["east", "west"], "remembered")


def test_a_release_without_labelled_queries_says_so(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, view()), "to the east", mode="remembered", k=1)
    assert (answer.mode, ids(answer)) == ("raw", ["east"]) and "nothing remembered" in (answer.degraded or "")


async def likes_north(query: str, tools: Sequence[Tool]) -> list[float]:
    return [-1.0 if tool.tool_id == "north" else -3.0 for tool in tools]


def weighed(weight: float = 0.5, depth: int = 2) -> View:
    config = Config()
    read = config.retrieval.model_copy(update={"rerank_depth": depth})
    given = replace(view().release, rerank_weight=weight, config=config.model_copy(update={"retrieval": read}))
    return replace(view(), release=given)


def test_the_first_tools_are_reranked_by_what_they_make_likely(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, weighed(), rerank=likes_north), "to the east", mode="reranked", k=3, explain=True)
    # 0.28 - 0.5 before 0.96 - 1.5; the third was not read and stays below.
    assert (ids(answer), answer.mode, answer.degraded) == (["north", "east", "west"], "reranked", None)
    assert answer.tools[0].score == pytest.approx(-0.22)
    told = [tool.explanation for tool in answer.tools]
    assert [one.likelihood for one in told if one] == [-1.0, -3.0, None]
    assert answer.timings.rerank_ms is not None and answer.timings.search_ms >= 0
    near = search(engine(tmp_path, weighed(), rerank=likes_north), "to the east", mode="reranked", k=3, min_score=0.5)
    assert ids(near) == ["east"], "what is asked for is a cosine"


@pytest.mark.parametrize(
    ("weight", "rerank", "wanted", "first"),
    [(0.5, likes_north, "reranked", "north"), (0.0, likes_north, "raw", "east"), (0.5, None, "raw", "east")],
)
def test_auto_reranks_where_serving_says_so_and_the_release_can(
    tmp_path: Path, weight: float, rerank: Any, wanted: str, first: str
) -> None:
    made = engine(tmp_path, weighed(weight), rerank=rerank, auto_reranks=True)
    answer = search(made, "to the east", k=1)
    assert (answer.mode, ids(answer)) == (wanted, [first]) and "reranked" not in (answer.degraded or "")
    assert search(made, "to the east", mode="raw", k=1).mode == "raw"
    assert search(engine(tmp_path, weighed(weight), rerank=rerank), "to the east", k=1).mode == "raw", "not unless it is told to"


def test_what_cannot_be_reranked_in_time_is_answered_as_it_was_found(tmp_path: Path) -> None:
    async def slow(query: str, tools: Sequence[Tool]) -> list[float]:
        await asyncio.sleep(1)
        return []

    async def gone(query: str, tools: Sequence[Tool]) -> list[float]:
        raise ModelGoneError("the reranker is away (ActorDiedError)")

    for over, rerank, why in (
        (weighed(0.0), likes_north, "no reranker that its dev queries gave a weight"),
        (weighed(), None, "there is no reranker"),
        (weighed(), slow, "took longer than 0.2 s"),
        (weighed(), gone, "is away"),
    ):
        answer = search(engine(tmp_path, over, rerank=rerank), "to the east", mode="reranked", k=1)
        assert (ids(answer), answer.mode) == (["east"], "raw")
        assert why in (answer.degraded or "") and (answer.degraded or "").startswith("not reranked: ")


def test_likelihoods_are_remembered_by_query_and_what_the_tools_say() -> None:
    asked: list[str] = []

    class Reader:
        def likelihoods(self, pairs: Sequence[tuple[str, Tool]], progress: Any = None) -> list[float]:
            asked.extend(query for query, _ in pairs)
            return [-1.0 for _ in pairs]

    async def run() -> None:
        client = RerankClient(RerankServer(Reader).likelihoods, 1.0, 10)
        assert client.state == "starting"
        for query, tools in (("a", [tool("east")]), ("a", [tool("east")]), ("a", [tool("west")]), ("b", [tool("east")])):
            assert await client.likelihoods(query, tools) == [-1.0]
        assert client.state == "ready"

    asyncio.run(run())
    assert asked == ["a", "a", "b"]
    assert RerankClient(None, 1.0, 10).state == "off"


def test_without_a_rewriter_the_raw_result_answers_and_says_so(tmp_path: Path) -> None:
    async def slow(version: int, query: str, titles: Sequence[str]) -> list[str]:
        await asyncio.sleep(1)
        return []

    for call, why in ((None, "there is no rewriter"), (slow, "took longer than 0.2 s")):
        answer = search(engine(tmp_path, view(), call), "to the east", mode="fused", k=1)
        assert (ids(answer), answer.mode) == (["east"], "raw")
        assert why in (answer.degraded or "")


def test_an_exact_name_comes_first_whatever_it_scores(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, view(limits=Limits(abstain_below=0.99))), "go_west", mode="raw", k=2, explain=True)
    assert ids(answer) == ["west", "north"]
    assert not answer.abstained
    assert answer.tools[0].explanation is not None
    assert answer.tools[0].explanation.exact_name
    assert answer.tools[0].explanation.query_cosine == pytest.approx(-0.6)


def test_it_abstains_below_the_release_s_own_score_unless_told_otherwise(tmp_path: Path) -> None:
    made = engine(tmp_path, view(limits=Limits(abstain_below=0.97)))
    answer = search(made, "to the east", mode="raw")
    assert (answer.abstained, answer.tools) == (True, [])
    assert ids(search(made, "to the east", mode="raw", min_score=-1, k=3)) == ["east", "north", "west"]
    assert ids(search(made, "to the east", mode="raw", min_score=0.5, k=3)) == ["east"]
    assert search(made, "to the east", mode="raw", pinned=["west"]).tools[0].tool_id == "west"


def test_an_answer_is_as_long_as_the_scores_and_the_budget_justify(tmp_path: Path) -> None:
    made = engine(tmp_path, view(limits=Limits(keep_within=0.7)))
    assert ids(search(made, "to the east", mode="raw")) == ["east", "north"]
    assert ids(search(made, "to the east", mode="raw", k=3, max_tokens=1)) == ["east"]


def test_namespaces_bind_searches_and_pins(tmp_path: Path) -> None:
    made = engine(tmp_path, view())
    bob = replace(ANN, namespaces=("northern", "western"))
    assert ids(search(made, "to the east", bob, mode="raw", k=3)) == ["north", "west"]
    assert ids(search(made, "to the east", bob, mode="raw", k=3, namespaces=["western", "eastern"])) == ["west"]
    assert ids(search(made, "to the east", bob, mode="raw", k=3, namespaces=["eastern"])) == []
    assert ids(search(made, "to the east", mode="hybrid", k=3, namespaces=["eastern"])) == ["east"]
    assert ids(search(made, "go_east".replace("east", "west"), replace(ANN, namespaces=("eastern",)), mode="raw", k=3)) == ["east"]
    with pytest.raises(ProblemError, match="no tool 'east'"):
        search(made, "to the east", bob, mode="raw", pinned=["east"])


def test_explanations_name_their_reasons(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, view(), rewritten), "up there", mode="fused", k=2, explain=True)
    north = next(t for t in answer.tools if t.tool_id == "north").explanation
    assert north is not None
    assert (north.moved, north.exact_name, north.pinned, north.explored) == (True, False, False, False)
    assert north.query_cosine == pytest.approx(0.96)
    assert north.rewrite_cosine == pytest.approx(0.6)


def test_a_brief_answer_leaves_the_schemas_out(tmp_path: Path) -> None:
    [found] = search(engine(tmp_path, view()), "to the east", mode="raw", k=1, detail="brief").tools
    assert (found.description, found.input_schema, found.title) == (None, None, "Go: east")


def test_an_explored_tool_is_logged_with_its_probability(tmp_path: Path) -> None:
    answer = search(engine(tmp_path, view(), explore_share=1.0), "to the east", mode="raw", k=2, explain=True)
    assert ids(answer) == ["east", "west"]
    assert answer.tools[1].explanation is not None
    assert answer.tools[1].explanation.explored
    event = json.loads(next(tmp_path.iterdir()).read_text())
    assert [t["propensity"] for t in event["tools"]] == [1.0, 1.0]


def test_an_empty_catalog_answers_with_nothing(tmp_path: Path) -> None:
    empty = replace(view(), entries={}, dense=DenseIndex.build([], np.zeros((0, 2), dtype=np.float32), "exact"))
    for mode in ("raw", "hybrid", "auto"):
        assert ids(search(engine(tmp_path, empty), "to the east", mode=mode)) == []


def test_searches_of_one_moment_are_ranked_together_and_keep_their_view(tmp_path: Path) -> None:
    made = engine(tmp_path, view())
    other = replace(view(), release=replace(made.view.release, name="8"))

    async def run() -> list[SearchAnswer]:
        first = [asyncio.ensure_future(made.search(SearchRequest(query="up there", mode="raw"), ANN)) for _ in range(3)]
        await asyncio.sleep(0)
        made.view = other
        return [*await asyncio.gather(*first), await made.search(SearchRequest(query="up there", mode="raw"), ANN)]

    assert [answer.release for answer in asyncio.run(run())] == ["7", "7", "7", "8"]
