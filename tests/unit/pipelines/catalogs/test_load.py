import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from actors.core.types import Catalog, Corpus, InputError, Query, Tool
from configs.schema import CatalogConfig
from pipelines import catalogs
from pipelines.catalogs import aws, vague


@pytest.fixture
def small_aws(sdk: Path, vague_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small SDK in place of the installed one; returns the cache's folder."""
    monkeypatch.setattr(aws, "data_dir", lambda: sdk)
    monkeypatch.setattr(vague, "FOLDER", vague_folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cohyde" / "catalogs"


def message(config: CatalogConfig) -> str:
    with pytest.raises(InputError) as caught:
        catalogs.load(config, 1)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tool(tool_id: str, namespace: str = "n") -> Tool:
    return Tool(tool_id, tool_id, tool_id, "does it", namespace=namespace)


def test_all_services_are_read_once_and_then_kept(small_aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = catalogs.load(CatalogConfig(), 1)
    assert len(first.catalog.tools) == 7
    monkeypatch.setattr(aws, "read_operations", lambda **_: pytest.fail("read again"))
    assert catalogs.load(CatalogConfig(), 1) == first
    assert len(list(small_aws.iterdir())) == 1


def test_a_broken_cache_is_made_anew(small_aws: Path) -> None:
    first = catalogs.load(CatalogConfig(), 1)
    (kept,) = small_aws.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert catalogs.load(CatalogConfig(), 1) == first


def test_the_demo_leaves_near_duplicates_out_unless_a_vague_query_asks_for_them(small_aws: Path) -> None:
    demo = catalogs.load(CatalogConfig(services="demo"), 1)
    assert [t.tool_id for t in demo.catalog.tools] == ["aws.mail.BurnLetter", "aws.mail.SendLetter"]
    assert demo.catalog.equivalents == {}
    assert all(q.gold.keys() <= demo.catalog.by_id.keys() for q in demo.queries)


def test_named_services_are_taken_whole_with_their_queries(small_aws: Path) -> None:
    corpus = catalogs.load(CatalogConfig(services=["mail"]), 1)
    assert len(corpus.catalog.tools) == 4
    assert corpus.catalog.equivalents["aws.mail.OldSend"] == {"aws.mail.SendLetter"}


def test_faults_of_the_aws_settings_name_the_field(small_aws: Path) -> None:
    assert "catalog.services: no service 'mial' in botocore; meant 'mail'?" in message(CatalogConfig(services=["mial"]))
    assert "train split empty" in message(CatalogConfig(services=["waf"]))
    assert "catalog.max_train_queries=0" in message(CatalogConfig(max_train_queries=0))
    assert "catalog.source='azure'" in message(CatalogConfig(source="azure"))
    assert "catalog.source='beir:'" in message(CatalogConfig(source="beir:"))


def test_a_gold_that_the_catalog_lacks_is_named(small_aws: Path, vague_folder: Path) -> None:
    path = vague_folder / "qrels" / "test.tsv"
    path.write_text(path.read_text().replace("BurnLetter", "BurnPaper"))
    said = message(CatalogConfig())
    assert "'b-v1'" in said
    assert "'aws.mail.BurnPaper'" in said
    assert "install the pinned version" in said
    assert not small_aws.exists()


def test_beir_folders_load_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "t", "title": "T", "text": "x"}))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "x"}))
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tt\t1\n")
    assert len(catalogs.load(CatalogConfig(source=f"beir:{tmp_path}"), 1).queries) == 1


def test_a_run_needs_labelled_queries_in_every_split() -> None:
    queries = [Query(split, "x", "standard", split, {"t": 1}) for split in catalogs.NEEDED_SPLITS]
    catalogs.check_trainable(Corpus(Catalog((tool("t"),)), tuple(queries)), CatalogConfig(source="beir:mine"))
    for missing in catalogs.NEEDED_SPLITS:
        left = [q for q in queries if q.split != missing] + [Query("s", "x", "symptom", missing, {"t": 1}, "symptom")]
        with pytest.raises(InputError, match=rf"beir:mine: the {missing} split is empty.*qrels/{missing}\.tsv"):
            catalogs.check_trainable(Corpus(Catalog((tool("t"),)), tuple(left)), CatalogConfig(source="beir:mine"))


def test_needs_are_set_aside_for_the_stream_by_hash_and_by_service(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = (replace(tool("old"), namespace="s3"), replace(tool("new"), namespace="glue"))
    queries = [
        Query(f"{tier} {n} {split}", "x", "vague", split, {gold: 1}, tier, need=f"{n} {split}")
        for n, gold in [(n, "new" if n % 10 == 0 else "old") for n in range(200)]
        for tier in ("V1", "V2")
        for split in catalogs.NEEDED_SPLITS
    ]
    monkeypatch.setitem(catalogs.FOLDERS, "beir", lambda folder: Corpus(Catalog(tools), tuple(queries)))
    aside = catalogs.load(CatalogConfig(source="beir:x", stream_share=0.25, stream_services=["glue"]), 17).select("stream")
    assert {q.query_id.split()[2] for q in aside} == {"train"}
    needs = {q.need for q in aside}
    assert len(aside) == 2 * len(needs)
    assert set(range(0, 200, 10)) <= {int(need.split()[0]) for need in needs}
    assert 25 <= len(needs) - 20 <= 65
    assert not catalogs.load(CatalogConfig(source="beir:x"), 17).select("stream")


def corpus_of_many() -> Corpus:
    queries = [
        Query(f"{tier}-{split}-{novelty}-{i}", "x", kind, split, {"t": 1}, tier, need=f"{split}-{novelty}-{i}", novelty=novelty)
        for split, count in (("train", 30), ("test", 12))
        for tier, kind in (("standard", "standard"), ("V1", "vague"), ("V2", "vague"))
        for novelty, share in (("seen", 3), ("unseen", 1))
        for i in range(count * share // 3)
    ]
    queries.append(Query("s", "x", "symptom", "train", {"t": 1}, "symptom"))
    return Corpus(Catalog((tool("t"),)), tuple(queries))


def test_subsets_keep_proportions_needs_and_warm_start_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogs.FOLDERS, "beir", lambda path: corpus_of_many())
    config = CatalogConfig(source="beir:x", max_train_queries=15, max_test_queries_per_tier=8)
    kept = catalogs.load(config, 3).queries
    train = Counter(q.tier for q in kept if q.split == "train")
    assert train == {"standard": 5, "V1": 5, "V2": 5, "symptom": 1}
    test = Counter((q.tier, q.novelty) for q in kept if q.split == "test")
    assert set(test.values()) == {6, 2}
    assert all(test[tier, "seen"] == 6 for tier in ("standard", "V1", "V2"))
    needs = [{q.need for q in kept if q.split == "test" and q.tier == tier} for tier in ("V1", "V2")]
    assert needs[0] == needs[1]
    assert catalogs.load(config, 3).queries == kept
    assert catalogs.load(config, 4).queries != kept


def test_demo_services_are_those_with_most_needs_an_operation() -> None:
    tools = [tool(f"a{i}", "a") for i in range(2)] + [tool(f"b{i}", "b") for i in range(4)] + [tool(f"c{i}", "c") for i in range(3)]
    golds = [("train", "a0"), ("test", "b0"), ("test", "b1"), ("train", "c0")]
    queries = [Query(f"q{i}", "x", "vague", split, {gold: 1}, "V1", need=f"n{i}") for i, (split, gold) in enumerate(golds)]  # type: ignore[arg-type]
    corpus = Corpus(Catalog(tuple(tools)), tuple(queries))
    # Needs an operation: a 1/2, b (2 + 2)/4, c 1/3, where c1 is left out: 1/2.
    assert catalogs.demo_services(corpus, frozenset(), operations=6) == {"a", "b"}
    assert catalogs.demo_services(corpus, frozenset(), operations=5) == {"b"}
    assert catalogs.demo_services(corpus, frozenset({"c1", "c2"}), operations=5) == {"b", "c"}


def test_a_cut_drops_a_vague_query_with_a_gold_outside_but_narrows_others() -> None:
    queries = (
        Query("v", "x", "vague", "train", {"in": 1, "out": 1}),
        Query("s", "x", "standard", "train", {"in": 1, "out": 1}),
        Query("t", "x", "standard", "test", {"in": 1}, novelty="seen"),
        Query("o", "x", "standard", "test", {"out": 1}, novelty="seen"),
    )
    corpus = Corpus(Catalog((tool("in"), tool("out")), {"in": frozenset({"out"})}), queries)
    left = catalogs.cut(corpus, lambda t: t.tool_id == "in", "setting")
    assert [(q.query_id, set(q.gold)) for q in left.queries] == [("s", {"in"}), ("t", {"in"})]
    assert left.catalog.equivalents == {}
