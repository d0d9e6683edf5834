"""Views follow the run: releases, the catalog's journal, what users found. The encoder is a sum of word vectors."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors import catalog_file, found
from actors.catalog_file import Entry, Journal, entry_of, new_entry
from actors.core.fusion import Vectors
from actors.core.snapshots import SnapshotStore
from actors.core.types import Found, InputError, Tool
from actors.interfaces import Progress
from actors.kept_vectors import VectorFiles
from actors.releases import Releases
from actors.run_dir import open_release
from configs.load import save
from configs.schema import Config
from configs.serving import ServingConfig
from serve_app import loader
from serve_app.loader import Loader
from serve_app.view import Ask, View
from serve_app.watcher import Watcher
from tests.word_world import TOOLS, WordEncoder, make_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run_dir = make_run(tmp_path / "run")
    monkeypatch.setattr(Loader, "_encoder", lambda self, source, release: WordEncoder(release.retriever))
    monkeypatch.setattr(WordEncoder, "embedded", [])
    return run_dir


class CountingEncoder(WordEncoder):
    """Tells which queries it embedded."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__(1)
        self._asked = asked

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        self._asked += texts
        return super().encode_queries(texts, progress)


class ConstantEncoder(WordEncoder):
    """Embeds all texts as one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        return super().encode_queries([self._text] * len(texts), progress)


def watcher(run: Path, seen: list[View] | None = None) -> Watcher:
    return Watcher(ServingConfig(run=str(run)), (seen if seen is not None else []).append, lambda version: None)


def first(view: View, query: str, k: int = 1) -> list[str]:
    return [tool_id for tool_id, _ in view.rank([Ask(query, k)])[0].ranking]


def tool(tool_id: str, text: str) -> Entry:
    return new_entry(tool_id, tool_id, text, text, "", {}, "api")


def promote(run: Path, number: int) -> None:
    Releases(SnapshotStore(str(run / "snapshots")), str(run / "releases")).promote(number, "test", "newer")


def test_where_queries_alone_were_trained_the_base_model_embeds_new_tools_and_what_finds_an_unfamiliar_one(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(run_dir=str(run))
    alone = {"sides": "queries", "mined_negatives": 0, "anchor_weight": 0.0}
    save(config.model_copy(update={"encoder": config.encoder.model_copy(update=alone)}), run / "config.yaml")
    base = run / "base"
    monkeypatch.setattr(loader, "resolve_encoder", lambda name: base)
    # The trained encoder takes every query for one of the new tool.
    trained = ConstantEncoder("Paint fence")
    monkeypatch.setattr(Loader, "_encoder", lambda self, source, release: WordEncoder() if source == base else trained)
    made = Loader(ServingConfig(run=str(run)))
    assert made.view(open_release(str(run))).unfamiliar == frozenset()
    entry, near = (entry_of(Tool(name, name, text, "")) for name, text in (("new", "Paint fence"), ("near", "Make mug")))
    made.journal.append([entry, near], [])
    made.poll()
    view = made.view(open_release(str(run)))
    assert np.allclose(view.dense.rows([view.rows["new"]])[0], WordEncoder().encode_queries([entry.tool.document])[0], atol=1e-2)
    assert view.unfamiliar == {"new"}
    assert first(view, "make hat") == ["make-hat"], "the trained encoder finds what is unfamiliar, the frozen one answers"
    made.journal.append([], ["new"])
    made.poll()
    assert made.view(open_release(str(run))).unfamiliar == frozenset()


def test_a_promotion_takes_over_with_its_own_encoder(run: Path) -> None:
    seen: list[View] = []
    made = watcher(run, seen)
    assert (made.view.name, first(made.view, "make hat")) == ("0", ["make-hat"])
    made.look()
    assert seen == []
    promote(run, 1)
    made.look()
    assert [view.name for view in seen] == ["1"]
    assert first(seen[0], "make hat") == ["make-hat"]
    assert WordEncoder.embedded == []


def test_a_damaged_release_is_refused_and_taken_once_it_is_whole(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = watcher(run)
    vectors = run / "snapshots" / "retriever" / "1" / "vectors.npy"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-40])
    promote(run, 1)
    made.look()
    assert made.view.name == "0"
    assert "vectors.npy is missing or damaged" in made.refused
    vectors.write_bytes(whole)
    made.look()
    assert made.view.name == "0"
    monkeypatch.setattr("serve_app.watcher.AGAIN_AFTER_S", 0.0)
    made.look()
    assert (made.view.name, made.refused) == ("1", "")


def test_labelled_queries_come_with_a_release_that_weighs_them_and_are_embedded_once(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SnapshotStore(str(run / "snapshots"))
    releases = Releases(store, str(run / "releases"))
    releases.add(replace(releases.get(1), number=5, memory_weight=1.0))
    made = watcher(run)
    assert made.view.memory is None
    promote(run, 5)
    made.look()
    assert made.view.name == "0"
    assert "labels.json: is missing or empty" in made.refused

    found.publish(str(run), [Found("", "paint fence", ("make-hat",))], found.LABELS)
    promote(run, 1)
    server = Loader(ServingConfig(run=str(run)))
    assert server.view(open_release(str(run))).memory is None
    promote(run, 5)
    assert server.view(open_release(str(run))).memory is not None, "though its retriever was loaded for a release without"

    for file in (run / "serving" / "vectors" / "1").glob("*.npz"):
        file.unlink()
    asked: list[str] = []
    monkeypatch.setattr(Loader, "_encoder", lambda self, source, release: CountingEncoder(asked))
    for _ in range(2):
        memory = Loader(ServingConfig(run=str(run))).view(open_release(str(run))).memory
        assert memory is not None
        assert list(memory.near(WordEncoder(1).encode_queries(["paint fence"]))[0]) == ["make-hat"]
    assert asked == ["paint fence"]


def test_a_release_file_that_is_no_json_is_refused(run: Path) -> None:
    made = watcher(run)
    (run / "releases" / "served.json").write_text("{")
    made.look()
    assert made.view.name == "0"
    assert "refused" in made.refused


def test_catalog_changes_are_found_at_once_kept_and_embedded_once(run: Path) -> None:
    made = watcher(run)
    done = made.change([tool("new", "paint fence"), tool("make-cup", "break cup")], ["drop-hat"])
    assert (done.changed, done.deleted, done.unchanged, done.embedded) == (2, 1, 0, 2)
    assert first(made.view, "paint fence") == ["new"]
    assert first(made.view, "break cup") == ["make-cup"]
    assert "drop-hat" not in first(made.view, "drop hat", 9)
    assert len(made.view.entries) == 4
    again = made.change([tool("new", "paint fence")], ["nowhere"])
    assert (again.changed, again.deleted, again.unchanged, again.embedded) == (0, 0, 1, 0)
    # A restart, with vectors from the disk.
    WordEncoder.embedded.clear()
    restarted = watcher(run)
    assert first(restarted.view, "paint fence") == ["new"]
    assert WordEncoder.embedded == []
    # A new encoder embeds what its run does not know, before it takes over.
    promote(run, 1)
    restarted.look()
    assert restarted.view.name == "1"
    assert first(restarted.view, "paint fence") == ["new"]
    assert sorted(WordEncoder.embedded) == ["break cup. break cup", "paint fence. paint fence"]
    # Back again: nothing is embedded.
    WordEncoder.embedded.clear()
    promote(run, 0)
    restarted.look()
    assert first(restarted.view, "break cup") == ["make-cup"]
    assert WordEncoder.embedded == []


def test_another_replica_follows_the_journal(run: Path) -> None:
    one, other = watcher(run), watcher(run)
    one.change([tool("new", "paint fence")], [])
    other.look()
    assert first(other.view, "paint fence") == ["new"]
    one.change([], ["new"])
    other.look()
    assert "new" not in other.view.entries


def test_a_tool_that_comes_back_as_it_was_is_not_embedded(run: Path) -> None:
    made = watcher(run)
    made.change([], ["make-cup"])
    [cup] = [t for t in TOOLS if t.tool_id == "make-cup"]
    done = made.change([catalog_file.entry_of(cup)], [])
    assert (done.changed, done.embedded) == (1, 0)
    assert first(made.view, "make cup") == ["make-cup"]


def test_tools_move_towards_what_users_found_and_back(run: Path) -> None:
    made = watcher(run)
    last = first(made.view, "quench my thirst", 4)[-1]
    found.publish(str(run), [Found("ann", "quench my thirst", (last, "gone"))])
    made.look()
    assert first(made.view, "quench my thirst") == [last]
    assert made.view.moved == {last}
    made.change([tool("new", "paint fence")], [])
    assert first(made.view, "quench my thirst") == [last]
    found.publish(str(run), [])
    made.look()
    assert made.view.moved == frozenset()


def test_words_follow_the_catalog(run: Path) -> None:
    made = watcher(run)
    hybrid = [Ask("fence", 1, hybrid=True)]
    made.view.rank(hybrid)
    made.change([tool("new", "paint fence")], [])
    assert made.view.rank(hybrid)[0].words.keys() == {"new"}
    made.change([], ["new"])
    assert made.view.rank(hybrid)[0].words == {}


def test_a_run_that_cannot_be_served_says_why(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        watcher(tmp_path)
    shutil.rmtree(run / "snapshots" / "catalog")
    with pytest.raises(InputError, match="holds no catalog"):
        watcher(run)


def test_the_journal_is_put_together_by_whoever_reads_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.catalog_file.COMPACT_AT", 3)
    made = watcher(run)
    for number in range(5):
        made.change([tool(f"n{number}", f"thing {number}")], [])
    assert len(list((run / "serving" / "catalog").iterdir())) < 4
    assert Journal(f"{run}/serving/catalog").poll().keys() == {f"n{i}" for i in range(5)}


def test_a_change_is_shown_though_its_first_view_failed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = watcher(run), watcher(run)
    one.change([tool("new", "paint fence")], [])
    with monkeypatch.context() as broken:
        broken.setattr(VectorFiles, "add", lambda self, vectors: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            other.look()
    assert "new" not in other.view.entries
    other.look()
    assert first(other.view, "paint fence") == ["new"]
