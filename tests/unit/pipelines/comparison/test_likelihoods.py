"""What a reranker said is read once, kept with the reranker that said it, and weighed on dev."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import actors.reranker
from actors.core.types import Query, Tool
from actors.interfaces import Progress
from actors.run_dir import FROZEN, open_release
from configs.schema import Config
from pipelines.comparison import likelihoods
from pipelines.comparison.likelihoods import KEPT, Likelihoods

TOOLS = {name: Tool(name, name, name, "") for name in "abc"}
QUERIES = [Query("q1", "first", "vague", "test", {"a": 1}, "V1"), Query("q2", "second", "vague", "test", {"b": 1}, "V1")]


class CountingReranker:
    """Likes the tool whose id the query's gold is; ``asked`` is what it read."""

    asked: list[list[tuple[str, str]]] = []  # noqa: RUF012

    def __init__(self, *given: Any) -> None:
        pass

    def likelihoods(self, pairs: Sequence[tuple[str, Tool]], progress: Progress | None = None) -> list[float]:
        self.asked.append([(query, t.tool_id) for query, t in pairs])
        liked = {"first": "a", "second": "b"}
        return [-1.0 if t.tool_id == liked[query] else -3.0 for query, t in pairs]


class Store:
    published = "then"

    def manifest(self, kind: str, version: int) -> dict[str, str]:
        return {"published": self.published}

    def fetch(self, kind: str, version: int) -> Path:
        return Path(f"{kind}-{version}")


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture(autouse=True)
def reranker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.reranker, "Reranker", CountingReranker)
    CountingReranker.asked.clear()


def reader(run_dir: Path, store: Store | None = None) -> Likelihoods:
    config = Config()
    config = config.model_copy(update={"retrieval": config.retrieval.model_copy(update={"rerank_depth": 2})})
    return Likelihoods(config, store or Store(), TOOLS, run_dir)  # type: ignore[arg-type]


def test_a_pair_is_read_once_and_kept(tmp_path: Path) -> None:
    made = reader(tmp_path)
    first = [[("c", 0.9), ("a", 0.8), ("b", 0.1)], [("c", 0.9), ("b", 0.8)]]
    assert made.of(QUERIES, first, quiet) == [[-3.0, -1.0], [-3.0, -1.0]]
    again = [[("a", 0.9), ("b", 0.8)], [("b", 0.9), ("c", 0.8)]]
    assert reader(tmp_path).of(QUERIES, again, quiet) == [[-1.0, -3.0], [-1.0, -3.0]]
    assert CountingReranker.asked == [[("first", "c"), ("first", "a"), ("second", "c"), ("second", "b")], [("first", "b")]]


def test_what_another_reranker_said_is_not_taken(tmp_path: Path) -> None:
    ranking = [[("a", 0.9), ("b", 0.8)]]
    reader(tmp_path).of(QUERIES[:1], ranking, quiet)
    newer = Store()
    newer.published = "now"
    reader(tmp_path, newer).of(QUERIES[:1], ranking, quiet)
    assert len(CountingReranker.asked) == 2 and (tmp_path / KEPT).is_file()


def test_the_first_tools_are_ordered_anew_and_nothing_is_read_without_a_weight(tmp_path: Path) -> None:
    rankings = [[("c", 0.9), ("a", 0.8), ("b", 0.1)]]
    made = reader(tmp_path)
    assert made.rerank(QUERIES[:1], rankings, 0.0, quiet) == rankings and not CountingReranker.asked
    assert [t for t, _ in made.rerank(QUERIES[:1], rankings, 0.4, quiet)[0]] == ["a", "c", "b"]


def test_the_weight_is_what_dev_shows_to_gain(tmp_path: Path) -> None:
    dev = [Query(f"d{i}", "first", "vague", "dev", {"a": 1}, "V1") for i in range(20)]
    wrong_first = [[("c", 0.9), ("a", 0.85)]] * 20
    assert reader(tmp_path).fit(dev, wrong_first, quiet) > 0
    assert reader(tmp_path).fit(dev, [[("a", 0.9), ("c", 0.85)]] * 20, quiet) == 0


def test_a_release_without_a_weight_reranks_nothing() -> None:
    assert likelihoods.likelihoods_of(open_release(FROZEN), TOOLS) is None
