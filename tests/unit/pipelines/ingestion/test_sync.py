"""From sources to a folder, by the command line."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from actors.core.types import InputError
from pipelines import cli
from pipelines.ingestion import sources, store
from pipelines.ingestion.listing import Listing, make_entry
from pipelines.ingestion.store import Store
from tests.unit.pipelines.ingestion.conftest import CountingEncoder

Out = pytest.CaptureFixture[str]


def functions(path: Path, **tools: str) -> str:
    """A source of the given tools (name -> description)."""
    path.write_text(
        json.dumps([{"name": name, "description": text, "input_schema": {"type": "object"}} for name, text in tools.items()])
    )
    return f"functions:{path}"


def run(*arguments: object) -> int:
    return cli.main(["catalog", *map(str, arguments)])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != store.LOCK_FILE}


def test_a_catalog_is_made_kept_in_step_and_embeds_nothing_twice(
    orders: Path, tmp_path: Path, encoder: type[CountingEncoder], capsys: Out
) -> None:
    folder, tools = tmp_path / "cat", tmp_path / "tools.json"
    assert run("sync", f"shop=openapi:{orders}", functions(tools, ping="Pings.", pong="Pongs."), "--catalog", folder) == 0
    said = capsys.readouterr().out
    assert "7 added, 0 changed, 0 removed, 0 unchanged" in said
    assert "7 tools of 2 sources\nembedded 7 texts" in said
    assert "shop.createCategory: its schema holds itself" in said
    assert (len(encoder.texts), encoder.loaded) == (7, 1)

    assert run("sync", "--catalog", folder) == 0
    said = capsys.readouterr().out
    assert "0 added, 0 changed, 0 removed, 7 unchanged" in said
    assert "embedded nothing" in said
    assert (len(encoder.texts), encoder.loaded) == (7, 1), "no model is loaded for a catalog that did not change"

    functions(tools, ping="Pings twice.", peng="Pengs.")
    assert run("sync", f"functions:{tools}", "--catalog", folder) == 0
    said = capsys.readouterr().out
    for line in ("tools.peng: new in tools", "tools.ping: description changed", "tools.pong: no longer listed by tools"):
        assert f"  {line}\n" in said
    assert encoder.texts[7:] == ["ping. Pings twice.", "peng. Pengs."]
    known = Store(folder).sources()
    assert {name: (source.kind, source.tools, source.whole) for name, source in known.items()} == {
        "shop": ("openapi", 5, True),
        "tools": ("functions", 2, True),
    }
    assert run("show", folder) == 0
    assert "openapi:" in capsys.readouterr().out
    assert run("show", folder, "tools.ping") == 0
    assert json.loads(capsys.readouterr().out)["description"] == "Pings twice."


def test_a_dry_run_says_all_and_writes_nothing(orders: Path, tmp_path: Path, encoder: type[CountingEncoder], capsys: Out) -> None:
    folder = tmp_path / "cat"
    assert run("sync", f"openapi:{orders}", "--catalog", folder, "--dry-run") == 0
    assert "orders.listOrders: new in orders" in capsys.readouterr().out
    assert not folder.exists()
    run("sync", f"openapi:{orders}", "--catalog", folder)
    before = files(folder)
    orders.write_text(orders.read_text().replace("newest first", "oldest first").replace("createOrder", "makeOrder"))
    capsys.readouterr()
    assert run("sync", "--catalog", folder, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "1 added, 1 changed, 1 removed, 3 unchanged" in said
    assert "orders.listOrders: description changed" in said
    assert files(folder) == before
    assert len(encoder.texts) == 5


def test_a_source_is_dropped_with_its_tools_alone(
    orders: Path, tmp_path: Path, encoder: type[CountingEncoder], capsys: Out
) -> None:
    folder = tmp_path / "cat"
    run("sync", f"shop=openapi:{orders}", functions(tmp_path / "tools.json", ping="Pings.", pong="Pongs."), "--catalog", folder)
    before = files(folder)
    capsys.readouterr()
    assert run("drop", folder, "tools", "--dry-run") == 0
    assert "tools.ping: tools is dropped" in capsys.readouterr().out
    assert files(folder) == before

    run("label", folder, "are you there", "tools.ping")
    capsys.readouterr()
    assert run("drop", folder, "tools") == 0
    said = capsys.readouterr().out
    assert f"0 added, 0 changed, 2 removed, 5 unchanged\ncatalog {folder}: 5 tools of 1 source\n1 labelled query left out" in said
    assert list(Store(folder).sources()) == ["shop"]
    assert {source for source, _ in Store(folder).entries()} == {"shop"}

    assert run("drop", folder, "tools", "shop") == 2
    assert f"SOURCE=tools: the catalog {folder} has no such source; it has shop" in capsys.readouterr().err
    assert run("drop", tmp_path / "none", "shop") == 2
    assert not (tmp_path / "none").exists()


def test_long_lists_are_cut_with_a_count(tmp_path: Path, encoder: type[CountingEncoder], capsys: Out) -> None:
    source = functions(tmp_path / "t.json", **{f"tool_{n}": "Does." for n in range(30)})
    assert run("sync", source, "--catalog", tmp_path / "cat", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "added 30\n" in said
    assert said.count("new in t\n") == 20
    assert "  and 10 more\n" in said


def test_one_source_that_fails_leaves_the_catalog_as_it_was(
    orders: Path, tmp_path: Path, encoder: type[CountingEncoder], capsys: Out
) -> None:
    folder, tools = tmp_path / "cat", tmp_path / "tools.json"
    run("sync", f"openapi:{orders}", functions(tools, ping="Pings."), "--catalog", folder)
    before = files(folder)
    functions(tools, other="Another.")
    orders.write_text("openapi: [")
    capsys.readouterr()
    assert run("sync", "--catalog", folder) == 2
    told = capsys.readouterr().err
    assert told.startswith("cohyde: source orders: ")
    assert told.count("\n") == 1
    orders.unlink()
    assert run("sync", "--catalog", folder) == 2
    assert "no such file" in capsys.readouterr().err
    assert files(folder) == before


def test_an_empty_listing_deletes_nothing_and_says_so(tmp_path: Path, encoder: type[CountingEncoder], capsys: Out) -> None:
    folder = tmp_path / "cat"
    source = functions(tmp_path / "tools.json", ping="Pings.")
    run("sync", source, "--catalog", folder)
    before = files(folder)
    functions(tmp_path / "tools.json")
    capsys.readouterr()
    assert run("sync", source, "--catalog", folder) == 0
    assert "refused: tools: lists no tools; what the catalog has of it stays (1)" in capsys.readouterr().out
    assert files(folder) == before


def test_a_source_that_was_not_read_to_its_end_deletes_nothing(
    tmp_path: Path, encoder: type[CountingEncoder], monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    listings = [Listing((one("a"), one("b"))), Listing((one("a"),), whole=False), Listing((one("a"),))]
    monkeypatch.setitem(sources.KINDS, "list", lambda location, namespace, progress: listings.pop(0))
    folder = tmp_path / "cat"
    tools = []
    for _ in range(3):
        assert run("sync", "x=list:it", "--catalog", folder) == 0
        tools.append([tool.tool_id for tool in Store(folder).tools()])
    assert tools == [["x.a", "x.b"], ["x.a", "x.b"], ["x.a"]]
    assert "refused: x: was not read to its end; what it did not list stays (1)" in capsys.readouterr().out


def one(name: str) -> Any:
    return make_entry("x", name, f"Does {name}.", {"type": "object"}, "list")[0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("petstore.yaml", r"not a source; write \[NAME=\]KIND:LOCATION"),
        ("opnapi:x.yaml", "no kind 'opnapi'; meant 'openapi'"),
        ("openapi:", "names no location"),
        ("a b=openapi:x.yaml", "a source's name is made of letters"),
        ("openapi:elsewhere/orders.yaml", r"'orders' is the name of openapi:/.*; give this source its own, as orders-2=openapi"),
        ("orders-2=openapi:orders.yaml extra=openapi:orders.yaml orders-2=openapi:b.yaml", "is called 'orders-2' too"),
    ],
)
def test_a_source_that_is_written_wrong_is_told(
    orders: Path, tmp_path: Path, encoder: type[CountingEncoder], monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run("sync", "openapi:orders.yaml", "--catalog", "cat")
    before = files(Path("cat"))
    with pytest.raises(InputError, match=message):
        sources.parse(source.split(" ") if "b=" not in source else [source], Store(Path("cat")).sources())
    assert files(Path("cat")) == before


def test_a_catalog_is_read_again_from_any_folder(
    orders: Path, tmp_path: Path, encoder: type[CountingEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("sync", "openapi:orders.yaml", "--catalog", "cat") == 0
    monkeypatch.chdir("/")
    assert run("sync", "--catalog", tmp_path / "cat") == 0


def test_what_a_catalog_command_cannot_use_is_told(tmp_path: Path, capsys: Out) -> None:
    assert run("sync", "--catalog", tmp_path / "new") == 2
    assert "knows no sources yet; name one" in capsys.readouterr().err
    assert run("show", tmp_path / "none") == 2
    assert "holds no catalog" in capsys.readouterr().err
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tools.jsonl").write_text('{"tool": 1}\n')
    assert run("show", tmp_path / "broken", "x") == 2
    assert "tools.jsonl:1: not a tool of a catalog" in capsys.readouterr().err
    (tmp_path / "broken" / "sources.json").write_text('{"a": {}}')
    assert run("show", tmp_path / "broken") == 2
    assert "not a list of sources" in capsys.readouterr().err


def test_two_syncs_at_once_do_not_meet(
    orders: Path, tmp_path: Path, encoder: type[CountingEncoder], monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setattr(store, "LOCK_TIMEOUT_S", 0.1)
    (tmp_path / "cat").mkdir()
    with FileLock(tmp_path / "cat" / store.LOCK_FILE):
        assert run("sync", f"openapi:{orders}", "--catalog", tmp_path / "cat") == 2
    assert "another command is changing it" in capsys.readouterr().err
    assert files(tmp_path / "cat") == {}


def _die_while_writing(folder: Path, after: int) -> None:
    """Sync the folder's sources, and end without a word once ``after`` files were put in place."""
    replaced = 0
    replace = Path.replace

    def dying(self: Path, target: Path) -> Path:
        nonlocal replaced
        if replaced == after and target.parent == folder:
            os._exit(9)
        replaced += target.parent == folder
        return replace(self, target)

    Path.replace = dying  # type: ignore[method-assign]
    run("sync", "--catalog", folder)


@pytest.mark.parametrize("after", [0, 1])
def test_a_crash_while_writing_leaves_a_catalog_that_the_next_sync_completes(
    tmp_path: Path, encoder: type[CountingEncoder], after: int
) -> None:
    folder = tmp_path / "cat"
    source = functions(tmp_path / "tools.json", ping="Pings.", pong="Pongs.")
    run("sync", source, "--catalog", folder)
    functions(tmp_path / "tools.json", ping="Pings twice.", peng="Pengs.")
    child = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(folder, after))
    child.start()
    child.join(20)
    assert child.exitcode == 9
    assert [tool.description for tool in Store(folder).tools()] == ["Pings.", "Pongs."], "the old catalog, whole"
    assert run("sync", "--catalog", folder) == 0
    assert [tool.description for tool in Store(folder).tools()] == ["Pings twice.", "Pengs."]
    assert Store(folder).sources()["tools"].tools == 2
