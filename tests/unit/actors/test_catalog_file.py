from __future__ import annotations

from pathlib import Path

import pytest

from actors import catalog_file
from actors.catalog_file import COMPACT_AT, Entry, Journal, entry_of, new_entry
from actors.core.snapshots import SnapshotStore
from actors.core.types import Catalog, InputError, Parameter, Tool

PARAMETERS = (Parameter("Key", "string", True, "Which."), Parameter("Tags", "map"))
TOOL = Tool("s3.Put", "Put", "S3: Put", "Puts.", PARAMETERS, "s3", "aws")


def entry(tool_id: str, text: str = "Does it.") -> Entry:
    return new_entry(tool_id, "do_it", "", text, "ns", {"type": "object", "properties": {"a": {"type": "string"}}}, "api")


def test_a_catalog_comes_back_as_it_was(tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path))
    with pytest.raises(InputError, match="holds no catalog"):
        catalog_file.read(store)
    catalog = Catalog((TOOL, Tool("b", "b", "B", "", ready_document="ready")))
    catalog_file.publish(store, catalog)
    catalog_file.publish(store, catalog)
    assert catalog_file.read(store) == [entry_of(tool) for tool in catalog.tools]


def test_a_catalog_keeps_the_schemas_of_its_sources(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"enum": [1, 2]}}}}}
    made = new_entry("t", "do_it", "", "Does it.", "ns", schema, "openapi")
    store = SnapshotStore(str(tmp_path))
    catalog_file.publish(store, Catalog((made.tool,)), [made])
    assert catalog_file.read(store) == [made]


def test_the_hash_of_an_entry_goes_by_its_whole_schema_and_not_by_the_order_of_keys() -> None:
    def of(inner: dict[str, str]) -> str:
        return new_entry("t", "n", "", "d", "", {"properties": {"a": {"items": inner}}}, "api").content_hash

    assert of({"type": "string", "format": "date"}) == of({"format": "date", "type": "string"})
    assert of({"type": "string"}) != of({"type": "integer"})


def test_a_schema_says_what_the_catalog_knows() -> None:
    assert entry_of(TOOL).input_schema == {
        "type": "object",
        "properties": {"Key": {"type": "string", "description": "Which."}, "Tags": {"type": "object"}},
        "required": ["Key"],
    }


def test_a_new_tool_has_the_parameters_of_its_schema() -> None:
    schema = {"type": "object", "properties": {"order_id": {"type": "string", "description": "Which."}}, "required": ["order_id"]}
    made = new_entry("t", "refund_order", "", "Gives money back.", "orders", schema, "api")
    assert made.tool.title == "refund order"
    assert made.tool.parameters == (Parameter("order_id", "string", True, "Which."),)
    assert made.tool.document == "refund order. Gives money back. Parameters: order id."
    for wrong in ({"type": "array"}, {"properties": []}, {"properties": {"a": 1}}):
        with pytest.raises(InputError, match="input_schema"):
            new_entry("t", "n", "", "d", "", wrong, "api")


def test_changes_reach_every_reader_once_and_the_latest_wins(tmp_path: Path) -> None:
    writer, reader = Journal(str(tmp_path / "j")), Journal(str(tmp_path / "j"))
    assert reader.poll() == {}
    writer.append([entry("a"), entry("b")], [])
    assert reader.poll() == {"a": entry("a"), "b": entry("b")}
    assert reader.poll() == {}
    writer.append([entry("a", "Does more.")], ["b"])
    assert reader.poll() == {"a": entry("a", "Does more."), "b": None}
    assert Journal(str(tmp_path / "j")).poll() == {"a": entry("a", "Does more."), "b": None}


def test_the_order_of_reading_does_not_matter(tmp_path: Path) -> None:
    early = Journal(str(tmp_path / "j"))
    early.append([entry("a", "Old.")], [])
    [first] = (tmp_path / "j").iterdir()
    held = tmp_path / first.name
    first.rename(held)
    early.append([entry("a", "New.")], [])
    reader = Journal(str(tmp_path / "j"))
    assert reader.poll() == {"a": entry("a", "New.")}
    held.rename(first)
    assert reader.poll() == {}


def test_many_files_become_one_and_readers_do_not_notice(tmp_path: Path) -> None:
    writer, reader = Journal(str(tmp_path / "j")), Journal(str(tmp_path / "j"))
    known: dict[str, Entry] = {}
    for number in range(COMPACT_AT):
        writer.append([entry(f"t{number}")], [])
        known[f"t{number}"] = entry(f"t{number}")
    writer.append([], ["t0"])
    del known["t0"]
    writer.poll()
    writer.compact(known)
    assert len(list((tmp_path / "j").iterdir())) == 1
    assert writer.poll() == {}
    assert reader.poll() == {**known, "t0": None}
    writer.compact(known)
    assert len(list((tmp_path / "j").iterdir())) == 1
