"""The commands on a catalog that the pages have, run one after the other as a reader would, in a folder with the files they name.

Stand-ins: vectors are not computed, the server on the web is one of this machine, and of both clouds one service is read.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import mcp_types as types
import pytest
from mcp.server import MCPServer

from pipelines import cli
from pipelines.ingestion.store import Store
from tests.unit.docs.reading import ROOT, commands
from tests.unit.pipelines.ingestion.conftest import CountingEncoder, make_run
from tests.unit.pipelines.ingestion.test_mcp_source import served

pytestmark = pytest.mark.timeout(120)

NOTES = """\
import sys
from mcp.server import MCPServer
server = MCPServer("notes")

@server.tool()
def take_note(text: str) -> str:
    "Keeps a note."
    return text

server.run()
"""
TOOLS = """\
from langchain_core.tools import tool

@tool
def toss(sides: int) -> int:
    "Tosses a die of so many sides."
    return 1

TOOLS = [toss]
"""


def write_sources(folder: Path) -> None:
    """Every file that the pages' commands name."""
    shutil.copy(ROOT / "docs" / "examples" / "shop.yaml", folder / "shop.yaml")
    shutil.copy(ROOT / "docs" / "examples" / "shop-queries.tsv", folder / "queries.tsv")
    function = {
        "name": "ring_bell",
        "description": "Rings the bell of the door.",
        "parameters": {"type": "object", "properties": {}},
    }
    (folder / "tools.json").write_text(json.dumps([{"type": "function", "function": function}]))
    (folder / "notes_server.py").write_text(NOTES)
    started = {"command": sys.executable, "args": [str(folder / "notes_server.py")]}
    (folder / "mcp-servers.json").write_text(json.dumps({"mcpServers": {"files": started}}))
    saved = types.ListToolsResult(
        tools=[types.Tool(name="find_book", description="Finds a book.", input_schema={"type": "object"})]
    )
    (folder / "listing.json").write_text(saved.model_dump_json(by_alias=True))
    (folder / "my_package").mkdir()
    (folder / "my_package" / "tools.py").write_text(TOOLS)
    bench = folder / "data" / "my-folder"
    bench.mkdir(parents=True)
    (bench / "corpus.jsonl").write_text(json.dumps({"_id": "t1", "title": "Weather", "text": "Tells the weather."}) + "\n")


def test_the_pages_commands_work_in_their_order(
    tmp_path: Path, encoder: type[CountingEncoder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # A program that is started has the current folder among those it imports from.
    monkeypatch.syspath_prepend(str(tmp_path))
    write_sources(tmp_path)
    server = MCPServer("github")
    server.add_tool(lambda: None, name="open_issue", description="Opens an issue.")
    pages = [ROOT / "README.md", ROOT / "docs" / "catalog.md", ROOT / "docs" / "catalog-sources.md"]
    found = [command for page in pages for command in commands(page, {"cohyde"})]
    wanted = [list(c.words) for c in found if c.strict and c.words[:2] == ("cohyde", "catalog")]
    with served(server.streamable_http_app()) as address:
        stand_ins = {"https://mcp.example.com/mcp": address, "stdio:python ": f"stdio:{sys.executable} "}
        stand_ins |= {"google:all": "google:drive", "botocore:all": "botocore:sqs"}
        for words in wanted:
            for there, here in stand_ins.items():
                words = [word.replace(there, here) for word in words]
            if "--run" in words:
                make_run(Path("runs") / "mine", Path("my-catalog"))
            assert cli.main(words[1:]) == 0, (words, capsys.readouterr())
    assert len(wanted) >= 17
    ours = {name: source.tools for name, source in Store(tmp_path / "my-catalog").sources().items()}
    assert {"shop", "github", "notes", "team", "saved", "mine", "bench"} == {*ours}
    assert "tools" not in ours
    clouds = Store(tmp_path / "clouds").sources()
    assert clouds["google"].tools > 40
    assert clouds["aws"].tools > 10
    assert json.loads((tmp_path / "findings.json").read_text())
