"""The query log as files: appended while read, many writers, deletions that keep positions right."""

from pathlib import Path

import pytest

from actors.core.events import MAX_EVENT_BYTES
from actors.core.types import InputError
from pipelines.streams.jsonl import JsonlSource, blank_tenant


def label(tenant: str, query: str) -> str:
    return (
        f'{{"version":1,"type":"label","time":1,"tenant":"{tenant}","query":"{query}","tool_ids":["a"],"by":"b","train_on":true}}\n'
    )


def texts(source: JsonlSource, limit: int = 100) -> list[bytes]:
    return [record.data for record in source.poll(limit, 0)]


def test_lines_of_all_files_are_read_once_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text("3\n4\n")
    (tmp_path / "a.jsonl").write_text("1\n\n2\n")
    (tmp_path / "notes.txt").write_text("no event\n")
    source = JsonlSource(tmp_path)
    assert source.depth() == 9
    assert texts(source, 3) == [b"1", b"2", b"3"]
    assert texts(source) == [b"4"]
    assert texts(source) == []
    assert source.depth() == 0


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path: Path) -> None:
    source = JsonlSource(tmp_path)
    assert texts(source) == []
    with (tmp_path / "a.jsonl").open("w") as log:
        log.write("one\ntw")
        log.flush()
        assert texts(source) == [b"one"]
        assert texts(source) == []
        log.write("o\n")
        log.flush()
        assert texts(source) == [b"two"]


def test_reading_goes_on_from_a_position(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("1\n2\n3\n")
    source = JsonlSource(tmp_path)
    texts(source, 1)
    position = source.position()
    texts(source)
    other = JsonlSource(tmp_path)
    other.seek(position)
    assert texts(other) == [b"2", b"3"]


def test_a_log_that_shrank_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("1\n")
    with pytest.raises(InputError, match="a query log only grows"):
        JsonlSource(tmp_path).seek({"a.jsonl": 100})
    JsonlSource(tmp_path).seek({"gone.jsonl": 100})


def test_a_file_for_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    with pytest.raises(InputError, match=r"stream\.address=.*not a directory"):
        JsonlSource(tmp_path / "log")


def test_an_oversize_line_is_cut_to_what_its_refusal_needs(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x" * (10 << 20) + b"\nnext\n")
    long, after = texts(JsonlSource(tmp_path))
    assert len(long) == MAX_EVENT_BYTES + 1
    assert after == b"next"


def test_a_tenant_is_blanked_and_positions_stay_right(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        label("me", "mine") + label("you", "yours") + "broken\n" + label("me", "mine too") + label("me", "unfinished")[:-1]
    )
    source = JsonlSource(tmp_path)
    assert b"mine" in texts(source, 1)[0]
    size = path.stat().st_size
    assert blank_tenant(tmp_path, "me") == 2
    assert path.stat().st_size == size
    assert "mine" not in path.read_text()
    assert [b"yours" in text for text in texts(source)] == [True, False]
