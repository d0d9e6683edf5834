"""The bench of the reranker: what it asks of a run, that a pair is read once, what the table holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import actors.reranker
from actors.core.types import Catalog, Corpus, InputError, Query, Tool
from actors.run_dir import open_release
from pipelines.benchmark import aggregate, rerank, tables
from pipelines.benchmark.aggregate import Line

TOOLS = tuple(Tool(name, name, name, "") for name in "abc")
QUERIES = [Query("q1", "first", "vague", "test", {"a": 1}, "V1"), Query("q2", "second", "vague", "test", {"b": 1}, "V1")]


class CountingReranker:
    asked: list[tuple[str, tuple[str, ...]]] = []  # noqa: RUF012

    def __init__(self, *given: Any) -> None:
        pass

    def likelihoods(self, query: str, tools: Sequence[Tool]) -> list[float]:
        self.asked.append((query, tuple(t.tool_id for t in tools)))
        return [-float(place) for place, _ in enumerate(tools, start=1)]


class Store:
    def has(self, kind: str, version: int) -> bool:
        return True

    def manifest(self, kind: str, version: int) -> dict[str, int]:
        return {"rows": 2400}

    def fetch(self, kind: str, version: int) -> Path:
        return Path(f"{kind}-{version}")


def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> rerank.Bench:
    monkeypatch.setattr(actors.reranker, "Reranker", CountingReranker)
    monkeypatch.setattr(rerank.Bench, "__post_init__", lambda self: None)
    made = rerank.Bench(str(tmp_path), 2, None, lambda what: lambda done, total: None)
    made.corpus = Corpus(Catalog(TOOLS), tuple(QUERIES))
    made.release = open_release("frozen").__class__("x", open_release("frozen").config, Store(), 0, 0, 0.0)  # type: ignore[arg-type]
    return made


def test_a_pair_is_read_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(tmp_path, monkeypatch)
    CountingReranker.asked.clear()
    first = [[("a", 0.9), ("b", 0.8), ("c", 0.1)], [("c", 0.9), ("b", 0.8)]]
    assert made._likelihoods(QUERIES, first, "one") == [[-1.0, -2.0], [-1.0, -2.0]]
    again = [[("b", 0.9), ("c", 0.8)], [("b", 0.9), ("c", 0.8)]]
    assert made._likelihoods(QUERIES, again, "two") == [[-2.0, -1.0], [-2.0, -1.0]]
    assert CountingReranker.asked == [("first", ("a", "b")), ("second", ("c", "b")), ("first", ("c",))]
    assert (tmp_path / rerank.LIKELIHOODS).is_file()


@pytest.mark.parametrize("name", ["frozen", "nowhere"])
def test_a_run_that_trained_is_needed(name: str) -> None:
    with pytest.raises(InputError, match="RUN_DIR"):
        rerank.Bench(name, 16, None, lambda what: lambda done, total: None)


def test_both_halves_without_co_training_are_no_single_component() -> None:
    lines = {Line("frozen", -1, "raw"): 0.1, Line("sft", -1, "reranked"): 0.3, Line("encoder_reranked", -1, "reranked"): 0.8}
    lines |= {Line("cohyde", -1, "reranked"): 0.7}
    figures = {
        line: {q.query_id: dict.fromkeys(("nDCG@5", "R@10", "Success@5", "COMP@5"), value) for q in QUERIES}
        for line, value in lines.items()
    }
    cells = aggregate.cells([figures], QUERIES)
    [own] = {c.against for c in cells if c.arm == "cohyde"}
    assert own == "SFT rewriter, reranked"
    assert [label for label, _ in tables.quality(cells).lines][-2:] == ["encoder alone, reranked", "CoHyDE, reranked"]


def test_what_an_earlier_reranker_said_goes_when_another_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Removed(Store):
        def has(self, kind: str, version: int) -> bool:
            return False

        def publish(self, kind: str, version: int, write: Any, manifest: dict[str, Any]) -> None:
            assert (kind, manifest["rows"]) == (rerank.KIND, 5)

    monkeypatch.setattr(rerank, "resolve_rewriter", lambda name: tmp_path)
    made = bench(tmp_path, monkeypatch)
    made.release = replace(made.release, store=Removed())  # type: ignore[arg-type]
    made.corpus = Corpus(Catalog(TOOLS), (*QUERIES, Query("t", "third", "vague", "train", {"c": 1}, "V1")))
    made.likelihoods = {"q1 a": -1.0}
    kept = tmp_path / rerank.LIKELIHOODS
    kept.parent.mkdir()
    kept.write_text("{}")
    made.train(5)
    assert made.likelihoods == {} and not kept.exists()


def test_another_number_of_rows_needs_another_reranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(tmp_path, monkeypatch)
    made.train(2400)
    with pytest.raises(InputError, match=r"--rows 100: the reranker of .* was trained on 2400; give --rows 2400"):
        made.train(100)
