"""Candidates of a run: judged once, on queries nobody trained on, promoted or kept with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from actors.core.limits import Limits
from actors.core.replay import Example
from actors.core.snapshots import SnapshotStore
from actors.core.types import Catalog, Corpus, Query, Tool
from actors.releases import Releases
from configs.schema import Config
from pipelines.online.gatekeeper import Gatekeeper

CATALOG = Catalog((Tool("a", "a", "A", ""),))


def query(name: str, kind: Any, split: Any = "dev") -> Query:
    return Query(name, name, kind, split, {"a": 1}, need=name)


QUERIES = [query(f"s{i}", "standard") for i in range(30)] + [query(f"v{i}", "vague") for i in range(60)]
CORPUS = Corpus(CATALOG, (*QUERIES, query("t", "vague", "train")))


class Call:
    """A method of a handle."""

    def __init__(self, call: Any) -> None:
        self.remote = call


class Hosts:
    """A rewriter and a scorer whose figures are a table: (retriever version, kind) -> nDCG@5."""

    def __init__(self, table: dict[int, dict[str, float]], weight: float = 0.0) -> None:
        self.table, self.weight = table, weight
        self.done: list[tuple[str, set[str]]] = []
        self.measured: list[tuple[int, tuple[str, ...]]] = []
        self.contexts = Call(lambda version, texts, count: [[] for _ in texts])
        self.serving_rewrites = Call(lambda version, texts, contexts, seed, stage: [["text"] for _ in texts])
        self.fit_weight = Call(self._fit)
        self.figures = Call(self._figures)
        self.limits = Call(lambda version, queries, rewrites, weight: Limits(abstain_below=version / 10, mean_tools=len(queries)))

    def _fit(self, version: int, queries: Sequence[Query], rewrites: Any) -> float:
        self.done.append(("fitted", {q.query_id for q in queries}))
        return self.weight

    def _figures(self, version: int, queries: Sequence[Query], rewrites: Any, weight: float) -> list[float]:
        assert (rewrites is None) == (weight == 0)
        self.measured.append((version, tuple(q.query_id for q in queries)))
        if version >= 0:
            self.done.append(("measured", {q.query_id for q in queries}))
        return [self.table[version][q.kind] for q in queries]


async def ask(answer: Any, whom: str) -> Any:
    return answer


BETTER = {-1: {"standard": 0.7, "vague": 0.1, "log": 0.1}, 1: {"standard": 0.75, "vague": 0.2, "log": 0.2}}


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    store = SnapshotStore(str(tmp_path / "snapshots"))
    for kind in ("rewriter", "retriever"):
        for version in range(1, 4):
            store.publish(kind, version, lambda directory: (directory / "weights").touch() or None, {})
    return Releases(store, str(tmp_path / "releases"))


def gatekeeper(releases: Releases, hosts: Hosts, held_out: Sequence[Example] = ()) -> Gatekeeper:
    return Gatekeeper(Config(), CORPUS, releases, hosts, hosts, ask, lambda: held_out)


def judge(keeper: Gatekeeper, version: int) -> dict[str, Any]:
    return asyncio.run(keeper.judge(version))


def test_a_better_pair_is_promoted_and_judged_on_what_the_weight_was_not_fitted_on(releases: Releases) -> None:
    hosts = Hosts(BETTER, weight=0.2)
    result = judge(gatekeeper(releases, hosts), 1)
    assert result["promoted"]
    assert releases.served() is not None
    assert releases.get(1).fusion_weight == 0.2
    assert releases.get(1).limits == asdict(Limits(abstain_below=0.1, mean_tools=len(QUERIES)))
    assert releases.get(1).figures == pytest.approx({"standard": 0.75, "vague": 0.2, "together": (0.75 + 2 * 0.2) / 3})
    # First on all, for serving; then on each half, for judging the other.
    names, queries = zip(*hosts.done, strict=True)
    assert names == ("fitted", "fitted", "measured", "fitted", "measured")
    assert queries[0] == queries[1] | queries[2] == queries[3] | queries[4] == {q.query_id for q in QUERIES}
    assert queries[1].isdisjoint(queries[2]) and queries[3].isdisjoint(queries[4]) and queries[2].isdisjoint(queries[4])


def test_a_worse_pair_is_kept_with_the_reason_and_the_served_one_stays(releases: Releases) -> None:
    hosts = Hosts(BETTER | {2: {"standard": 0.75, "vague": 0.15}})
    keeper = gatekeeper(releases, hosts)
    judge(keeper, 1)
    result = judge(keeper, 2)
    assert not result["promoted"]
    assert "vague falls -5.0 points" in result["reason"]
    assert "served" in result["reason"]
    assert releases.served().number == 1  # type: ignore[union-attr]


def test_small_falls_do_not_add_up(releases: Releases) -> None:
    slide = {1: {"standard": 0.75, "vague": 0.2}, 2: {"standard": 0.75, "vague": 0.193}, 3: {"standard": 0.75, "vague": 0.186}}
    hosts = Hosts(BETTER | slide)
    keeper = gatekeeper(releases, hosts)
    assert [judge(keeper, version)["promoted"] for version in (1, 2, 3)] == [True, True, False]
    assert releases.audit()[-1]["reason"].endswith("against the best release")
    assert "vague falls -1.4 points" in releases.audit()[-1]["reason"]


def test_a_version_is_judged_once_also_by_a_restarted_gate(releases: Releases) -> None:
    hosts = Hosts(BETTER)
    first = judge(gatekeeper(releases, hosts), 1)
    hosts.measured.clear()
    assert judge(gatekeeper(releases, hosts), 1)["reason"] == first["reason"]
    assert hosts.measured == []
    assert len(releases.audit()) == 1


def test_known_figures_are_not_computed_again(releases: Releases) -> None:
    hosts = Hosts(BETTER | {2: {"standard": 0.8, "vague": 0.3}})
    keeper = gatekeeper(releases, hosts)
    judge(keeper, 1)
    judge(keeper, 2)
    assert sorted(version for version, _ in hosts.measured) == [-1, -1, 1, 1, 2, 2]


def test_users_held_out_queries_are_a_slice_once_there_are_enough(releases: Releases) -> None:
    held = [Example(f"log-{i}", "t", f"need {i}", ("a",), (), 1.0, 0.0) for i in range(25)]
    few = gatekeeper(releases, Hosts(BETTER), held[:5])
    assert "log" not in judge(few, 1)["reason"]
    hosts = Hosts(BETTER | {2: {"standard": 0.9, "vague": 0.9, "log": 0.05}})
    assert "log falls" in judge(gatekeeper(releases, hosts, held), 2)["reason"]


def test_a_pin_keeps_a_better_pair_out(releases: Releases) -> None:
    hosts = Hosts(BETTER | {2: {"standard": 0.8, "vague": 0.3}})
    keeper = gatekeeper(releases, hosts)
    judge(keeper, 1)
    releases.pin("ann", True)
    result = judge(keeper, 2)
    assert not result["promoted"]
    assert result["reason"].startswith("a pin holds the served release")
