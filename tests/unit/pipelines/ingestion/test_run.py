"""A catalog folder in runs: what they publish, and what a server is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.catalog_file import Journal, new_entry
from configs.serving import ServingConfig
from pipelines import cli
from pipelines.catalogs import synced
from pipelines.ingestion import sync
from pipelines.ingestion.store import Store
from serve_app.loader import Loader
from tests.unit.pipelines.ingestion.conftest import CountingEncoder, make_run


@pytest.fixture
def catalog(orders: Path, tmp_path: Path, encoder: type[CountingEncoder]) -> Path:
    cli.main(["catalog", "sync", f"openapi:{orders}", "--catalog", str(tmp_path / "cat")])
    return tmp_path / "cat"


@pytest.fixture
def run(catalog: Path, tmp_path: Path) -> Path:
    """A run on the folder, as far as its catalog goes."""
    return make_run(tmp_path / "run", catalog)


def test_a_server_answers_with_the_schemas_of_the_sources(catalog: Path, run: Path) -> None:
    served = Loader(ServingConfig(run=str(run))).entries
    assert served == {entry.tool.tool_id: entry for _, entry in Store(catalog).entries()}
    price = served["orders.createOrder"].input_schema["properties"]["items"]["items"]["properties"]["price"]
    assert price["properties"]["currency"] == {"type": "string", "default": "EUR"}


def test_a_run_publishes_the_tools_that_it_learns_whatever_a_sync_made_of_them_since(catalog: Path, orders: Path) -> None:
    loaded = synced.load(catalog).catalog
    orders.write_text(orders.read_text().replace("newest first", "oldest first").replace("createOrder", "makeOrder"))
    cli.main(["catalog", "sync", "--catalog", str(catalog)])
    published = list(synced.entries(f"synced:{catalog}", loaded) or [])
    assert {entry.tool for entry in published} == set(loaded.tools)
    assert len(published) == len(loaded.tools)
    assert synced.entries("aws", loaded) is None


def test_a_served_run_finds_what_a_sync_brings(catalog: Path, run: Path, orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "JOURNAL_STEP", 1)
    server = Loader(ServingConfig(run=str(run)))
    client = new_entry("mine.refund", "refund", "", "Refunds.", "mine", {}, "api")
    server.journal.append([client], [])
    text = orders.read_text()
    orders.write_text(text.replace("newest first", "oldest first").replace("createOrder", "makeOrder").replace("[open,", "[new,"))
    assert cli.main(["catalog", "sync", "--catalog", str(catalog), "--run", str(run)]) == 0
    assert server.poll()
    expected = {entry.tool.tool_id: entry for _, entry in Store(catalog).entries()}
    assert server.entries == {**expected, "mine.refund": client}
    assert "orders.createOrder" not in expected
    assert expected["orders.listOrders"].input_schema["properties"]["status"]["enum"][0] == "new"


def test_a_run_that_missed_syncs_is_brought_up_to_date_and_told_nothing_twice(
    catalog: Path, run: Path, orders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders.write_text(orders.read_text().replace("newest first", "oldest first"))
    cli.main(["catalog", "sync", "--catalog", str(catalog)])
    assert not (run / "serving").exists()
    for told in ("1 put in or changed, 0 taken out", "0 put in or changed, 0 taken out"):
        capsys.readouterr()
        assert cli.main(["catalog", "sync", "--catalog", str(catalog), "--run", str(run)]) == 0
        assert f"run {run}: {told}" in capsys.readouterr().out
    assert len(Journal(str(run / "serving" / "catalog")).poll()) == 1


def test_a_served_run_loses_a_source_that_is_dropped(catalog: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text(
        json.dumps([{"name": "ping", "description": "Pings.", "input_schema": {"type": "object"}}])
    )
    cli.main(["catalog", "sync", f"functions:{tmp_path}/tools.json", "--catalog", str(catalog), "--run", str(run)])
    cli.main(["catalog", "drop", str(catalog), "orders", "--run", str(run)])
    poll = Journal(f"{run}/serving/catalog").poll()
    assert poll.pop("tools.ping") is not None
    assert len(poll) == 5
    assert set(poll.values()) == {None}


def test_what_is_no_run_is_told_before_the_catalog_changes(catalog: Path, orders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (catalog / "tools.jsonl").read_bytes()
    orders.write_text(orders.read_text().replace("createOrder", "makeOrder"))
    for name, message in (("gone", "not a run directory"), ("frozen", "the frozen models are no run")):
        assert cli.main(["catalog", "sync", "--catalog", str(catalog), "--run", name]) == 2
        assert message in capsys.readouterr().err
    assert (catalog / "tools.jsonl").read_bytes() == before


def test_tools_of_equal_text_are_no_negatives_of_each_other(tmp_path: Path, encoder: type[CountingEncoder]) -> None:
    tools = [{"name": name, "description": text} for name, text in (("get_it", "Gets."), ("get-it", "Gets."), ("put_it", "Puts."))]
    (tmp_path / "t.json").write_text(json.dumps(tools))
    cli.main(["catalog", "sync", f"functions:{tmp_path / 't.json'}", "--catalog", str(tmp_path / "cat")])
    equivalents = synced.load(tmp_path / "cat").catalog.equivalents
    assert equivalents == {"t.get_it": frozenset({"t.get-it"}), "t.get-it": frozenset({"t.get_it"})}
