"""What the gate holds against releases that are served reranked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.core.limits import Limits
from actors.core.snapshots import SnapshotStore
from actors.core.types import Catalog, Corpus, Query, Tool
from actors.releases import Release, Releases
from actors.run_dir import OpenedRelease
from configs.schema import Config
from pipelines.online.gatekeeper import FROZEN, Gatekeeper
from pipelines.online.rereading import PER_KIND, Rereading

TOOLS = {name: Tool(name, name, name, "") for name in ("right", "near", "far")}
DEV = [Query(f"v{i}", f"query {i}", "vague", "dev", {"right": 1}, "V1", need=f"v{i}") for i in range(40)]
DEV += [Query("s0", "standard", "standard", "dev", {"right": 1}, need="s0")]


class Call:
    def __init__(self, call: Any) -> None:
        self.remote = call


class Hosts:
    """The scorer puts the right tool second, version 2 third; the reranker likes it as much as ``liking`` says."""

    def __init__(self, liking: float = -1.0) -> None:
        self.liking, self.read = liking, list[tuple[str, str]]()
        self.rankings = Call(self._rankings)
        self.likelihoods = Call(self._likelihoods)
        self.contexts = Call(lambda version, texts, count: [[] for _ in texts])
        self.serving_rewrites = Call(lambda version, texts, contexts, seed, stage: [["text"] for _ in texts])
        self.fit_weight = Call(lambda version, queries, rewrites: 0.0)
        self.figures = Call(lambda version, queries, rewrites, weight: [0.5 for _ in queries])
        self.limits = Call(lambda version, queries, rewrites, weight: Limits())

    def _rankings(self, version: int, texts: Sequence[str], depth: int) -> list[list[tuple[str, float]]]:
        order = ("near", "far", "right") if version == 2 else ("near", "right", "far")
        return [[(tool_id, 0.9 - place / 10) for place, tool_id in enumerate(order)] for _ in texts]

    def _likelihoods(self, pairs: Sequence[tuple[str, Tool]], stage: str) -> list[float]:
        self.read += [(query, tool.tool_id) for query, tool in pairs]
        return [self.liking if tool.tool_id == "right" else -3.0 for _, tool in pairs]


async def ask(answer: Any, whom: str) -> Any:
    return answer


def rereading(hosts: Hosts) -> Rereading:
    return Rereading(DEV, TOOLS, 2, hosts, hosts, ask)


def release(number: int, weight: float = 0.5) -> Release:
    return Release(number, number, number, "", 0.0, {}, rerank_weight=weight)


def test_a_pair_is_read_once_and_a_release_without_a_weight_not_at_all() -> None:
    hosts = Hosts()
    made = rereading(hosts)
    raw = asyncio.run(made.figures(FROZEN))
    assert len(raw) == PER_KIND + 1 and not hosts.read and max(raw.values()) == pytest.approx(0.6309, abs=1e-3)
    first = asyncio.run(made.figures(release(1)))
    assert set(first.values()) == {1.0} and len(hosts.read) == 2 * len(raw) == len(set(hosts.read))
    asyncio.run(made.figures(release(3)))
    assert len(hosts.read) == 2 * len(raw), "the same tools: nothing is read again"
    # Version 2 has the right tool below the two that are read.
    assert set(asyncio.run(made.figures(release(2))).values()) == {0.5} and len(hosts.read) == 3 * len(raw)


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    store = SnapshotStore(str(tmp_path / "snapshots"))
    for kind in ("rewriter", "retriever"):
        for version in (1, 2):
            store.publish(kind, version, lambda directory: (directory / "weights").touch() or None, {})
    return Releases(store, str(tmp_path / "releases"))


def test_a_candidate_that_answers_worse_reranked_alone_is_kept(releases: Releases) -> None:
    hosts = Hosts()
    corpus = Corpus(Catalog(tuple(TOOLS.values())), tuple(DEV))
    start = OpenedRelease("0", Config(), None, 0, 0, 0.0, rerank_weight=0.5, memory_weight=0.25, named_follow=True)
    keeper = Gatekeeper(Config(), corpus, releases, hosts, hosts, ask, lambda: [], start, rereading(hosts))
    first = asyncio.run(keeper.judge(1))
    assert first["promoted"] and "reranked +36.9 points" in first["reason"]
    second = asyncio.run(keeper.judge(2))
    assert not second["promoted"] and "reranked falls -50.0 points" in second["reason"] and "served" in second["reason"]
    served = releases.served()
    assert served is not None and served.number == 1
    assert (releases.get(1).rerank_weight, releases.get(1).memory_weight) == (0.5, 0.25)
    assert releases.get(1).named_follow
