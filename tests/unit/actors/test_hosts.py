from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.core.snapshots import SnapshotStore
from actors.core.types import Completion, InputError, Query
from actors.hosts import IndexBuilderHost, RewriterHost, ScorerHost, part_of, serving_rewrites
from configs.schema import RewriterConfig
from tests.fake_models import FakeRewriter, FakeScorer, make_build, publish_text, warm_start

Moves = list[tuple[str, int, int]]


class Recorder(FakeRewriter):
    """Notes which weights were loaded, and with what temperature it was asked."""

    loads: list[str]

    def __init__(self, calls: str) -> None:
        super().__init__(calls)
        self.loads, self.temperatures = [], []

    def load_base(self, model_dir: Path) -> None:
        super().load_base(model_dir)
        self.loads.append(f"base {self.weights}")

    def load_adapter(self, version: int, adapter_dir: Path) -> None:
        super().load_adapter(version, adapter_dir)
        self.loads.append(f"adapter {self.weights}")

    def rewrite(self, queries: Any, contexts: Any, samples: int, temperature: float, seed: int, progress: Any) -> Any:
        self.temperatures.append((samples, temperature))
        return super().rewrite(queries, contexts, samples, temperature, seed, progress)


@pytest.fixture
def root(tmp_path: Path) -> str:
    warm_start(str(tmp_path / "store"))
    store = SnapshotStore(str(tmp_path / "store"))
    for version in (1, 2):
        publish_text(store, "rewriter", version)
        publish_text(store, "encoder", version)
        publish_text(store, "retriever", version, "index.txt")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "weights.txt").write_text("encoder -1")
    return str(tmp_path / "store")


def reporter(moves: Moves) -> Any:
    return lambda stage: lambda done, total: moves.append((stage, done, total))


def rewriter_host(tmp_path: Path, root: str, moves: Moves, **settings: Any) -> tuple[RewriterHost, Recorder]:
    model = Recorder(str(tmp_path / "calls"))
    config = RewriterConfig(samples_per_query=3, temperature=0.7, **settings)
    return RewriterHost(config, lambda: model, str(tmp_path / "base"), root, reporter(moves)), model


def test_rewriter_answers_with_the_version_asked_for(tmp_path: Path, root: str) -> None:
    moves: Moves = []
    host, model = rewriter_host(tmp_path, root, moves)
    assert host.health()["version"] is None
    prompts, completions = host.rewrite(2, ["q", "r"], [["a"], []], seed=1, done=10, total=20)
    assert prompts == ["q | a", "r | "]
    assert [c.text for c in completions[0]] == [f"rewriter 2 q {k}" for k in range(3)]
    assert moves == [("generate", 12, 20)]
    host.rewrite(2, ["q"], [[]], seed=1)
    host.rewrite(1, ["q"], [[]], seed=1)
    assert model.loads == ["base rewriter 0", "adapter rewriter 2", "adapter rewriter 1"]
    assert host.health()["version"] == 1


def test_rewriter_goes_back_to_the_warm_start_and_the_base(tmp_path: Path, root: str) -> None:
    host, model = rewriter_host(tmp_path, root, [])
    for version in (1, 0, 2, -1, 1):
        host.rewrite(version, ["q"], [[]], seed=1)
    assert model.loads == [
        *("base rewriter 0", "adapter rewriter 1"),
        "base rewriter 0",
        "adapter rewriter 2",
        "base encoder -1",
        *("base rewriter 0", "adapter rewriter 1"),
    ]


def test_serving_rewrites_are_greedy_first(tmp_path: Path, root: str) -> None:
    host, model = rewriter_host(tmp_path, root, [], eval_samples=3)
    texts = host.serving_rewrites(0, ["q"], [[]], seed=1)
    assert model.temperatures == [(1, 0.0), (2, 0.7)]
    assert texts == [["rewriter 0 q 0", "rewriter 0 q 0", "rewriter 0 q 1"]]
    one, model = rewriter_host(tmp_path, root, [], eval_samples=1)
    assert one.serving_rewrites(0, ["q"], [[]], seed=1) == [["rewriter 0 q 0"]]
    assert model.temperatures == [(1, 0.0)]


def test_progress_of_serving_rewrites_runs_once_through_both_passes() -> None:
    class Counting:
        def rewrite(self, queries: Any, contexts: Any, samples: int, temperature: float, seed: int, progress: Any) -> Any:
            for done in range(1, len(queries) + 1):
                progress(done, len(queries))
            return [], [[Completion("text", 1, True)] * samples for _ in queries]

    told: list[float] = []
    serving_rewrites(Counting(), ["a", "b"], [[], []], 4, 0.7, 1, lambda done, total: told.append(done / total))  # type: ignore[arg-type]
    assert told == [1 / 8, 2 / 8, 5 / 8, 1.0]


def test_a_version_that_is_not_published_is_refused(tmp_path: Path, root: str) -> None:
    host, _ = rewriter_host(tmp_path, root, [])
    with pytest.raises(InputError, match="rewriter version 7 is not in"):
        host.rewrite(7, ["q"], [[]], seed=1)
    host.rewrite(1, ["q"], [[]], seed=1)
    assert host.health()["version"] == 1


def test_scorer_swaps_retrievers(root: str) -> None:
    moves: Moves = []
    host = ScorerHost(FakeScorer, root, reporter(moves))
    query = Query("q1", "q", "standard", "train", {"t": 1})
    assert host.contexts(-1, ["q"], 2) == [["tool of -1"] * 2]
    assert [score.reward for score in host.score(2, [query], [["a", "b"]], done=4, total=8)[0]] == [0.0, 0.1]  # type: ignore[list-item]
    assert moves == [("score", 5, 8)]
    assert host.mine_negatives(0, [query], 1) == [["wrong"]]
    assert host.health()["version"] == 0


def test_index_builder_publishes_a_retriever_once(tmp_path: Path, root: str) -> None:
    store = SnapshotStore(root)
    publish_text(store, "encoder", 3)
    calls = []

    def make() -> Any:
        calls.append("made")
        return make_build()

    host = IndexBuilderHost(make, str(tmp_path / "base"), root, reporter([]))
    metrics = host.build(3)
    assert metrics["tools"] == 1 and metrics["index_s"] >= 0
    assert (store.fetch("retriever", 3) / "index.txt").read_text() == "retriever 3"
    assert store.manifest("retriever", 3)["parents"] == {"encoder": 3}
    assert host.build(3)["tools"] == 1
    assert calls == ["made"]


def test_index_of_the_frozen_base(tmp_path: Path, root: str) -> None:
    fresh = str(tmp_path / "fresh")
    IndexBuilderHost(make_build, str(tmp_path / "base"), fresh, reporter([])).build(-1)
    assert (SnapshotStore(fresh).fetch("retriever", -1) / "index.txt").read_text() == "retriever -1"


def test_progress_of_a_batch_inside_a_stage() -> None:
    moves: list[tuple[int, int]] = []
    progress = part_of(lambda done, total: moves.append((done, total)), size=10, done=30, total=50)
    progress(0, 40)
    progress(20, 40)
    progress(40, 40)
    progress(0, 0)
    assert moves == [(30, 50), (35, 50), (40, 50), (30, 50)]
