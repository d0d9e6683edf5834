from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from actors.core.types import InputError
from configs.schema import CatalogConfig
from pipelines import catalogs, cli
from pipelines.catalogs import synced
from pipelines.ingestion import labels
from pipelines.ingestion.labels import Label
from tests.unit.pipelines.ingestion.conftest import CountingEncoder

Out = pytest.CaptureFixture[str]


def label(folder: Path, *arguments: str) -> int:
    return cli.main(["catalog", "label", str(folder), *arguments])


@pytest.fixture
def catalog(orders: Path, tmp_path: Path, encoder: type[CountingEncoder]) -> Path:
    cli.main(["catalog", "sync", f"openapi:{orders}", "--catalog", str(tmp_path / "cat")])
    return tmp_path / "cat"


def test_three_queries_fill_all_splits_and_more_go_by_their_words(tmp_path: Path) -> None:
    made = [Label(f"query number {n}", ("t",), "here") for n in range(300)]
    for number, one in enumerate(made[:3], start=1):
        counts = labels.add(tmp_path, [one], {"t"})
        assert sum(count > 0 for count in counts.values()) == number
    counts = labels.add(tmp_path, made, {"t"})
    assert sum(counts.values()) == 300
    assert 150 < counts["train"] < 210
    assert min(counts["dev"], counts["test"]) > 40
    again = labels.add(tmp_path, reversed(made), {"t"})
    assert again == counts, "a query keeps its split, and stands once"


def test_a_run_reads_what_was_labelled(catalog: Path, tmp_path: Path, capsys: Out) -> None:
    with pytest.raises(InputError, match="label three queries or more: cohyde catalog label"):
        config = CatalogConfig(source=f"synced:{catalog}")
        catalogs.check_trainable(catalogs.load(config, 1), config)
    assert label(catalog, "give the  buyer the money back", "orders.post_orders_id_refund") == 0
    (tmp_path / "q.tsv").write_text(
        "what did people buy\torders.listOrders, orders.createOrder\n\nsend the bill\torders.uploadInvoice\n"
    )
    assert label(catalog, "--file", str(tmp_path / "q.tsv")) == 0
    assert label(catalog, "send the bill", "orders.listOrders") == 0
    assert "3 labelled queries (1 train, 1 dev, 1 test)" in capsys.readouterr().out
    corpus = catalogs.load(config, 1)
    catalogs.check_trainable(corpus, config)
    assert {query.text: set(query.gold) for query in corpus.queries} == {
        "give the buyer the money back": {"orders.post_orders_id_refund"},
        "what did people buy": {"orders.listOrders", "orders.createOrder"},
        "send the bill": {"orders.uploadInvoice", "orders.listOrders"},
    }
    assert Counter(query.split for query in corpus.queries) == {"train": 1, "dev": 1, "test": 1}
    assert corpus.catalog.by_id["orders.createOrder"].parameters[0].name == "X-Tenant"


def test_what_stands_in_the_files_already_stays(catalog: Path) -> None:
    (catalog / "queries.jsonl").write_text('{"_id": "mine", "text": "own words", "metadata": {"tier": "V1"}}\n')
    (catalog / "qrels").mkdir()
    (catalog / "qrels" / "test.tsv").write_text("mine\torders.listOrders\t2\nmine\torders.createOrder\t0")
    assert label(catalog, "Own words", "orders.uploadInvoice") == 0, "other words"
    assert label(catalog, "own words", "orders.uploadInvoice") == 0
    (query,) = [q for q in synced.load(catalog).queries if q.query_id == "mine"]
    assert (query.tier, query.split, query.gold) == ("V1", "test", {"orders.listOrders": 2, "orders.uploadInvoice": 1})
    assert "mine\torders.createOrder\t0\n" in (catalog / "qrels" / "test.tsv").read_text()


def test_a_query_whose_tools_left_the_catalog_waits_for_them(catalog: Path, orders: Path, capsys: Out) -> None:
    label(catalog, "send the bill", "orders.uploadInvoice")
    label(catalog, "see all", "orders.listOrders")
    before = orders.read_text()
    orders.write_text(before.replace("uploadInvoice", "putInvoice"))
    capsys.readouterr()
    assert cli.main(["catalog", "sync", "--catalog", str(catalog)]) == 0
    assert "1 labelled query left out, for their tools are not in the catalog: q-" in capsys.readouterr().out
    assert [query.text for query in synced.load(catalog).queries] == ["see all"]
    orders.write_text(before)
    cli.main(["catalog", "sync", "--catalog", str(catalog)])
    assert len(synced.load(catalog).queries) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no tab\n", r"q.tsv:1: expected a query, a tab and tool ids"),
        ("a query\torders.listOrders\na query\t , \n", r"q.tsv:2: expected"),
        (
            "a query\torders.listOrders\nanother\torders.listOrder\n",
            r"q.tsv:2: no tool 'orders.listOrder' in the catalog; meant 'orders.listOrders'",
        ),
        ("??\torders.listOrders\n", r"q.tsv:1: the query is '\?\?'; give it in words"),
        ("\n", "holds no line"),
    ],
)
def test_a_file_with_a_fault_adds_nothing(catalog: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "q.tsv").write_text(content)
    with pytest.raises(InputError, match=message):
        labels.add(catalog, labels.read_file(tmp_path / "q.tsv"), {tool.tool_id for tool in synced.load(catalog).catalog.tools})
    assert not (catalog / "queries.jsonl").exists()
    assert not (catalog / "qrels").exists()


def test_label_asks_for_a_query_with_tools_or_a_file(catalog: Path, tmp_path: Path, capsys: Out) -> None:
    for arguments in ([], ["a query"], ["a query", "x", "--file", "f"]):
        assert label(catalog, *arguments) == 2
        assert "give a query and the ids of the tools that answer it" in capsys.readouterr().err
    assert label(tmp_path / "none", "a query", "x") == 2
    assert "holds no tools" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
