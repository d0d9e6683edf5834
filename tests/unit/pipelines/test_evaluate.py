"""The evaluation command on a small folder, with a fake encoder and a fake rewriter."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from actors.core.ranking import METRICS
from actors.core.types import Catalog, Completion, Query
from actors.index import DenseIndex
from actors.interfaces import Progress
from actors.retriever import Retriever
from actors.run_dir import OpenedRelease, open_release
from configs.schema import CatalogConfig, Config
from pipelines import evaluate
from tests.fakes_retrieval import TableEncoder

KEYS = ["benchmark", "split", "release", "mode", "queries", "tools", "overall", "by_tier", "by_group", "seconds"]
TABLE = {"warm": [1.0, 0.0], "cold": [0.0, 1.0], "sunny": [1.0, 0.0], "heat: warm sun": [1.0, 0.0], "ice: cold snow": [0.0, 1.0]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    directory = tmp_path / "beir"
    (directory / "qrels").mkdir(parents=True)
    tools = [{"_id": "t1", "title": "heat", "text": "warm sun"}, {"_id": "t2", "title": "ice", "text": "cold snow"}]
    queries = [
        {"_id": "q1", "text": "warm", "metadata": {"group": "g1", "tier": "V1"}},
        {"_id": "q2", "text": "cold", "metadata": {"group": "g2", "tier": "V1"}},
        {"_id": "q3", "text": "sunny", "metadata": {"group": "g2", "tier": "V2"}},
    ]
    (directory / "corpus.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tools))
    (directory / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    (directory / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tt1\t1\nq2\tt2\t1\nq3\tt2\t1\n")
    return directory


@pytest.fixture
def fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(release: OpenedRelease, catalog: Catalog, watch: evaluate.Watch) -> Retriever:
        encoder = TableEncoder(TABLE)
        vectors = encoder.encode_documents([t.document for t in catalog.tools])
        return Retriever(0, encoder, DenseIndex.build([t.tool_id for t in catalog.tools], vectors, "exact"), catalog)

    monkeypatch.setattr(evaluate, "load_retriever", load)
    monkeypatch.setattr(evaluate, "make_rewrites", lambda release, retriever, catalog, texts, watch: [["cold"] for _ in texts])


def _evaluate(folder: Path, tmp_path: Path, *more: str) -> dict[str, Any]:
    target = tmp_path / "out" / "figures.json"
    assert evaluate.main(["--benchmark", f"beir:{folder}", "--json", str(target), *more]) == 0
    record: dict[str, Any] = json.loads(target.read_text())
    return record


def test_figures_and_per_query_results_by_hand(folder: Path, tmp_path: Path, fake_models: None) -> None:
    record = _evaluate(folder, tmp_path)
    assert list(record) == KEYS
    assert (record["queries"], record["tools"], record["mode"], record["release"]) == (3, 2, "raw", "frozen")
    assert list(record["overall"]) == list(METRICS)
    # "sunny" finds heat first and its gold second: 1 / log2(3).
    third = 1 / math.log2(3)
    assert record["overall"]["nDCG@5"] == pytest.approx((2 + third) / 3)
    assert record["by_tier"]["V1"]["nDCG@5"] == 1.0
    assert (record["by_tier"]["V2"]["RR"], record["by_tier"]["V2"]["queries"]) == (0.5, 1)
    assert record["by_group"]["g2"]["nDCG@5"] == pytest.approx((1 + third) / 2)
    rows = pq.read_table(tmp_path / "out" / "figures.parquet").to_pylist()
    assert [row["query_id"] for row in rows] == ["q1", "q2", "q3"]
    assert rows[2]["nDCG@5"] == pytest.approx(third)
    assert (rows[2]["top"], rows[2]["gold"], rows[2]["tier"]) == (["t1", "t2"], ["t2"], "V2")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figures.json", "figures.parquet"]


def test_rewrites_are_used_where_the_mode_says_so(folder: Path, tmp_path: Path, fake_models: None) -> None:
    record = _evaluate(folder, tmp_path, "--mode", "rewrite")
    assert record["by_tier"]["V2"]["nDCG@5"] == 1.0
    assert record["by_tier"]["V1"]["nDCG@5"] == pytest.approx((1 + 1 / math.log2(3)) / 2)
    rows = pq.read_table(tmp_path / "out" / "figures.parquet").to_pylist()
    assert rows[0]["rewrites"] == ["cold"]


def test_bm25_needs_no_model(folder: Path, tmp_path: Path) -> None:
    record = _evaluate(folder, tmp_path, "--mode", "bm25")
    assert record["by_tier"]["V1"]["nDCG@5"] == 1.0
    assert record["by_tier"]["V2"]["nDCG@5"] == 0.0


def test_one_plain_tier_is_no_breakdown() -> None:
    queries = [Query("q", "q", "standard", "test", {"t": 1})]
    summary = evaluate.summary(queries, {"q": dict.fromkeys(METRICS, 1.0)})
    assert (summary["by_tier"], summary["by_group"]) == ({}, {})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--benchmark"),
        (["--benchmark", "aws", "--mode", "best"], "best"),
        (["--benchmark", "aws", "--fast"], "--fast"),
        (["--benchmark", "nowhere"], "catalog.source"),
        (["--benchmark", "beir:/nowhere"], "no such folder"),
        (["--benchmark", "beir:{folder}", "--split", "dev"], "it has test"),
        (["--benchmark", "beir:{folder}", "--release", "/nowhere"], "not a run directory"),
        (["--benchmark", "beir:{folder}", "--services", "demo"], "only the benchmark aws"),
        (["--benchmark", "beir:{folder}", "--json", "{folder}"], "is a folder"),
    ],
)
def test_wrong_arguments_are_one_line_and_code_2(
    arguments: list[str], expected: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([a.format(folder=folder) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_the_benchmark_aws_takes_the_services_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[CatalogConfig] = []
    monkeypatch.setattr(evaluate.catalogs, "load", lambda config, seed: asked.append(config))
    demo = Config(catalog=CatalogConfig(services="demo", max_test_queries_per_tier=3))
    release = OpenedRelease("0", demo, None, 0, 0, 0.3)
    evaluate.load_benchmark("aws", None, release)
    evaluate.load_benchmark("aws", "s3,ec2", release)
    evaluate.load_benchmark("aws", None, open_release("frozen"))
    assert [c.services for c in asked] == ["demo", ["s3", "ec2"], "all"]
    assert asked[0].max_test_queries_per_tier is None


class FakeRewriter:
    """Writes what it was asked."""

    def rewrite(
        self,
        queries: Sequence[str],
        contexts: Sequence[Sequence[str]],
        samples: int,
        temperature: float,
        seed: int,
        progress: Progress,
    ) -> tuple[list[str], list[list[Completion]]]:
        text = f"{samples} at {temperature}"
        return list(queries), [[Completion(text, 1, True)] * samples for _ in queries]


def test_serving_writes_the_first_rewrite_greedily() -> None:
    def rewrites(count: int) -> list[list[str]]:
        return evaluate.serving_rewrites(FakeRewriter(), ["q"], [[]], count, 0.7, 1, lambda done, total: None)

    assert rewrites(1) == [["1 at 0.0"]]
    assert rewrites(3) == [["1 at 0.0", "2 at 0.7", "2 at 0.7"]]


def test_evaluate_mode_measures_every_query(folder: Path) -> None:
    corpus = evaluate.catalogs.load(CatalogConfig(source=f"beir:{folder}"), 1)
    encoder = TableEncoder(TABLE)
    vectors = encoder.encode_documents([t.document for t in corpus.catalog.tools])
    retriever = Retriever(0, encoder, DenseIndex.build(["t1", "t2"], vectors, "exact"), corpus.catalog)
    per_query = evaluate.evaluate_mode(retriever, corpus.select("test"), [["cold"]] * 3, "fused", 0.9)
    assert {q: v["RR"] for q, v in per_query.items()} == {"q1": 0.5, "q2": 1.0, "q3": 1.0}
