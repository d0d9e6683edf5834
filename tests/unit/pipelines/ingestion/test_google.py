import json
from pathlib import Path
from typing import Any

import pytest

from actors.core.types import InputError
from pipelines.ingestion import google
from pipelines.ingestion.listing import Listing

DOCUMENT = {
    "name": "bookshop",
    "version": "v1",
    "title": "Library API",
    "parameters": {"alt": {"type": "string", "location": "query"}},
    "schemas": {
        "Loan": {
            "type": "object",
            "properties": {
                "days": {"type": "integer", "description": "For how long."},
                "book": {"$ref": "Book", "description": "What is lent."},
                "state": {"type": "string", "description": "Output only. Where the loan stands."},
                "key": {"type": "string", "readOnly": True},
                "readers": {"type": "array", "items": {"$ref": "Reader"}},
                "shelfId": {"type": "string", "description": "The body's own."},
            },
        },
        "Book": {
            "type": "object",
            "properties": {
                "title": {"type": "string", "description": "Its title. As it stands on its back."},
                "series": {"$ref": "Book", "description": "The book before it."},
            },
        },
        "Reader": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
    "resources": {
        "shelves": {
            "methods": {"list": {"id": "bookshop.shelves.list", "description": " Lists shelves. "}},
            "resources": {
                "loans": {
                    "methods": {
                        "insert": {
                            "id": "bookshop.shelves.loans.insert",
                            "description": "Lends a book.",
                            "parameters": {
                                "shelfId": {"type": "string", "location": "path", "required": True, "description": "Which shelf."},
                                "tag": {"type": "string", "location": "query", "repeated": True, "enum": ["new", "old"]},
                            },
                            "request": {"$ref": "Loan"},
                        }
                    }
                }
            },
        }
    },
}


def read(location: str) -> Listing:
    return google.read(location, "google", lambda done, total: None)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "bookshop.json"
    path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    return path


def test_each_method_of_nested_resources_is_a_tool_named_by_its_way(document: Path) -> None:
    listing = read(str(document))
    assert listing.whole and listing.notes == ()
    tools = [entry.tool for entry in listing.entries]
    assert [tool.tool_id for tool in tools] == ["google.bookshop.shelves.list", "google.bookshop.shelves.loans.insert"]
    assert [tool.title for tool in tools] == ["Library: List Shelves", "Library: Insert Loans (Shelves)"]
    assert tools[0].description == "Lists shelves." and tools[0].namespace == "google.bookshop" and tools[0].source == "google"


def test_a_schema_holds_what_a_caller_sends_and_one_level_below(document: Path) -> None:
    schema: dict[str, Any] = dict(read(str(document)).entries[1].input_schema)
    assert schema["required"] == ["shelfId"]
    assert schema["properties"] == {
        "shelfId": {"type": "string", "description": "Which shelf."},
        "tag": {"type": "array", "items": {"type": "string", "enum": ["new", "old"]}},
        "days": {"type": "integer", "description": "For how long."},
        "book": {
            "type": "object",
            "description": "What is lent.",
            "properties": {
                "title": {"type": "string", "description": "Its title."},
                "series": {"type": "object", "description": "The book before it."},
            },
        },
        "readers": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
    }


def test_of_a_carried_api_the_newest_stable_version_is_read_and_a_named_one_stands_in_its_ids() -> None:
    newest, named = read("drive"), read("drive.v2,admin.directory")
    assert "google.drive.files.create" in {entry.tool.tool_id for entry in newest.entries}
    ids = {entry.tool.tool_id for entry in named.entries}
    assert {"google.drive.v2.files.insert", "google.admin.directory.users.list"} <= ids


def test_every_carried_document_is_known_by_a_name_and_a_version() -> None:
    files = {path.stem for path in google.documents_dir().glob("*.json") if path.stem != "index"}
    known = google._carried()
    carried_twice = {"admin.datatransferv1", "admin.directoryv1", "admin.reportsv1"}
    assert len(files) > 400
    assert files - {d.path.stem for versions in known.values() for d in versions} == carried_twice
    assert known["compute"][0].version == "v1" and known["drive"][0].version == "v3"


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("drives", "google:drives: no such API is carried; give all, every or names of the"),
        ("cal", "google:cal: no such API is carried; do you mean .*calendar"),
        ("drive.v9", "google:drive.v9: not carried; of drive there are v3, v2"),
        ("admin", "google:admin: stands for several APIs; give admin.datatransfer, admin.directory, admin.reports"),
        ("/nowhere/a.json", "/nowhere/a.json: cannot be read .*; give the path of a discovery document"),
    ],
)
def test_what_is_not_carried_is_named_with_what_is(location: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        read(location)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ("[]", "no discovery document"), ('{"name": "a"}', "no discovery document")]
)
def test_a_file_that_is_no_discovery_document_is_refused(document: Path, text: str, message: str) -> None:
    document.write_text(text)
    with pytest.raises(InputError, match=message):
        read(str(document))
