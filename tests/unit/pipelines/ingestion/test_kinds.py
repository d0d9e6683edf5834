import json
from pathlib import Path

import pytest

from pipelines.ingestion import sources
from pipelines.ingestion.sources import Wanted, parse
from pipelines.ingestion.store import Source


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("google:drive,calendar", Wanted("google", "google", "drive,calendar")),
        ("botocore:all", Wanted("aws", "botocore", "all")),
        ("cloud=botocore:s3", Wanted("cloud", "botocore", "s3")),
        ("notes=mcp:stdio:python 'my server.py' --port 3", Wanted("notes", "mcp", "stdio:python 'my server.py' --port 3")),
        ("mcp:https://shop.example/mcp", Wanted("mcp", "mcp", "https://shop.example/mcp")),
        ("lc=langchain:my_tools:TOOLS", Wanted("lc", "langchain", "my_tools:TOOLS")),
    ],
)
def test_each_kind_s_location_is_kept_as_it_is_written(text: str, wanted: Wanted) -> None:
    assert parse([text], {}) == [wanted]


def test_files_and_folders_are_kept_by_their_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("listing.json").write_text("[]")
    found = parse(["mcp:listing.json", "beir:folder", "toolret:other", "toolbench:third", "google:all"], {})
    assert [wanted.location for wanted in found] == [
        *(str(tmp_path / name) for name in ("listing.json", "folder", "other", "third")),
        "all",
    ]


def test_a_saved_listing_is_read_by_its_kind_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps({"tools": [{"name": "add", "description": "Adds."}]}))
    (wanted,) = parse([f"sums=mcp:{path}"], {"other": Source("google", "all", "", 0, True)})
    listing = sources.KINDS[wanted.kind](wanted.location, wanted.name, lambda done, total: None)
    assert [entry.tool.tool_id for entry in listing.entries] == ["sums.add"]
