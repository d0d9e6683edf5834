import json
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.core.types import InputError
from pipelines.catalogs import beir

TOOLS = [
    {"_id": "t1", "title": "Weather: Now", "text": "Tells the weather.\nParameters:\n- city", "metadata": {}},
    {"_id": "t2", "title": "", "text": "Sends mail."},
]
QUERIES = [
    {"_id": "q1", "text": "is it raining", "metadata": {"group": "G1"}},
    {"_id": "q2", "text": "tell my aunt", "metadata": {"tier": "V2", "need": "n2", "tools": "unseen"}},
    {"_id": "q3", "text": "nobody judged this"},
]
QRELS = {"train": [("q1", "t1", "2"), ("q1", "t2", "0")], "test": [("q2", "t2", "1"), ("q2", "t1", "1")]}


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(lines(TOOLS), encoding="utf-8")
    (tmp_path / "queries.jsonl").write_text(lines(QUERIES), encoding="utf-8")
    for split, rows in QRELS.items():
        text = "query-id\tcorpus-id\tscore\n" + "".join("\t".join(row) + "\n" for row in rows)
        (tmp_path / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
    return tmp_path


def test_tools_queries_grades_and_metadata_are_read(folder: Path) -> None:
    corpus = beir.load(folder)
    assert [t.tool_id for t in corpus.catalog.tools] == ["t1", "t2"]
    first, second = corpus.queries
    assert (first.query_id, first.split, first.gold, first.tier, first.group) == ("q1", "train", {"t1": 2}, "standard", "G1")
    assert (second.split, second.gold, second.tier, second.need, second.novelty) == (
        "test",
        {"t1": 1, "t2": 1},
        "V2",
        "n2",
        "unseen",
    )


def test_a_document_is_title_colon_text_to_the_letter(folder: Path) -> None:
    documents = [t.document for t in beir.load(folder).catalog.tools]
    assert documents == ["Weather: Now: Tells the weather.\nParameters:\n- city", ": Sends mail."]


def append(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (append("corpus.jsonl", '{"text": "x"}\n'), ["corpus.jsonl:3", "_id"]),
        (append("corpus.jsonl", '{"_id": "t3", "title": "x", "text": " "}\n'), ["corpus.jsonl:3", "text"]),
        (append("corpus.jsonl", '\n{"_id": "t3", "text"\n'), ["corpus.jsonl:4", "not JSON"]),
        (append("corpus.jsonl", "[1]\n"), ["corpus.jsonl:3", "object"]),
        (append("corpus.jsonl", '{"_id": "t1", "text": "x"}\n'), ["corpus.jsonl:3", "'t1'", "line 1"]),
        (append("queries.jsonl", '{"_id": "q1", "text": "x"}\n'), ["queries.jsonl:4", "'q1'", "twice"]),
        (append("queries.jsonl", '{"_id": "q9"}\n'), ["queries.jsonl:4", "text"]),
        (append("queries.jsonl", '{"_id": "q9", "text": "x", "metadata": [1]}\n'), ["queries.jsonl:4", "metadata"]),
        (append("qrels/test.tsv", "q2\tt9\t1\n"), ["test.tsv:4", "'t9'", "not in the catalog"]),
        (append("qrels/test.tsv", "q9\tt1\t1\n"), ["test.tsv:4", "'q9'", "queries.jsonl"]),
        (append("qrels/test.tsv", "q1\tt1\t1\n"), ["test.tsv", "'q1'", "train"]),
        (append("qrels/test.tsv", "q2 t1 1\n"), ["test.tsv:4", "tabs"]),
        (append("qrels/test.tsv", "q2\tt1\tyes\n"), ["test.tsv:4", "score"]),
        (append("qrels/dev.tsv", "query-id\tcorpus-id\tscore\n"), ["dev.tsv", "empty"]),
        (lambda folder: (folder / "corpus.jsonl").unlink(), ["corpus.jsonl", "no such file"]),
        (lambda folder: [p.unlink() for p in (folder / "qrels").iterdir()], ["qrels", "none of"]),
        (lambda folder: (folder / "corpus.jsonl").write_text(""), ["corpus.jsonl", "no tools"]),
        (lambda folder: (folder / "corpus.jsonl").write_bytes(b'{"_id": "\xff"}'), ["corpus.jsonl", "UTF-8"]),
    ],
)
def test_a_fault_is_one_line_with_file_and_place(folder: Path, change: Callable[[Path], None], words: list[str]) -> None:
    change(folder)
    with pytest.raises(InputError) as caught:
        beir.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        beir.load(tmp_path / "nowhere")
