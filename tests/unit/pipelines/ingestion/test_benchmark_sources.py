import json
from pathlib import Path

import pytest

from actors.core.types import InputError
from pipelines.ingestion.benchmark_sources import read_beir, read_toolbench, read_toolret


def silent(done: int, total: int) -> None:
    assert done <= total


def write(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_corpus_alone_is_enough_and_its_text_is_what_is_embedded(tmp_path: Path) -> None:
    write(tmp_path / "corpus.jsonl", {"_id": "t1", "title": "Weather", "text": "Tells it."}, {"_id": "t2", "text": "Sends."})
    tools = [entry.tool for entry in read_beir(str(tmp_path), "mine", silent).entries]
    assert [(t.tool_id, t.name, t.title, t.description) for t in tools] == [
        ("mine.t1", "Weather", "Weather", "Tells it."),
        ("mine.t2", "t2", "t 2", "Sends."),
    ]
    assert [t.document for t in tools] == ["Weather: Tells it.", ": Sends."]


def test_a_folder_without_a_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"corpus\.jsonl: no such file"):
        read_beir(str(tmp_path), "mine", silent)
    write(tmp_path / "corpus.jsonl")
    with pytest.raises(InputError, match="holds no tools"):
        read_beir(str(tmp_path), "mine", silent)


def test_documentation_in_any_of_its_shapes_gives_a_schema(tmp_path: Path) -> None:
    documentations = [
        {
            "name": "roll",
            "description": "Rolls dice.",
            "parameters": {"type": "object", "properties": {"n": {"type": "int"}}, "required": ["n"]},
        },
        {"name": "add", "func_description": "Adds.", "parameters": {"a": {"type": "float, optional", "description": "One."}}},
        {
            "name": "find",
            "description": "Finds.",
            "required_parameters": [{"name": "q", "type": "STRING"}],
            "optional_parameters": [{"name": "page", "type": "NUMBER", "default": 1}],
        },
    ]
    rows = [{"id": f"web_tool_{i}", "documentation": json.dumps(d)} for i, d in enumerate(documentations)]
    write(tmp_path / "web" / "tools.jsonl", *rows, {"id": "code_tool_0", "documentation": "Plain words of a model."})
    write(tmp_path / "q" / "queries.jsonl", {"id": "q1", "query": "dice", "labels": []})
    entries = read_toolret(str(tmp_path), "toolret", silent).entries
    assert [e.tool.tool_id for e in entries] == [*(f"toolret.web_tool_{i}" for i in range(3)), "toolret.code_tool_0"]
    assert [e.tool.name for e in entries] == ["roll", "add", "find", "code_tool_0"]
    assert [e.tool.description for e in entries] == ["Rolls dice.", "Adds.", "Finds.", "Plain words of a model."]
    assert entries[0].input_schema == {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert entries[1].input_schema["properties"] == {"a": {"type": "number", "description": "One."}}
    assert entries[2].input_schema == {
        "type": "object",
        "properties": {"q": {"type": "string"}, "page": {"type": "number", "default": 1}},
        "required": ["q"],
    }
    assert entries[0].tool.document == rows[0]["documentation"]


def test_toolret_refuses_ids_given_twice_and_folders_without_tools(tmp_path: Path) -> None:
    write(tmp_path / "queries.jsonl", {"id": "q1", "query": "dice", "labels": []})
    with pytest.raises(InputError, match="holds no tools"):
        read_toolret(str(tmp_path), "toolret", silent)
    write(tmp_path / "tools.jsonl", {"id": "a", "documentation": "x"}, {"id": "a", "documentation": "y"})
    with pytest.raises(InputError, match=r"tools\.jsonl:2: tool id 'a' stands already in"):
        read_toolret(str(tmp_path), "toolret", silent)


TOOL = {
    "tool_name": "Fish Facts",
    "tool_description": "All about fish.",
    "api_list": [
        {
            "name": "Get One",
            "description": "One fish.",
            "required_parameters": [{"name": "id", "type": "STRING", "description": "Which.", "default": ""}],
            "optional_parameters": [{"name": "when", "type": "DATE (YYYY-MM-DD)", "description": ""}],
        },
        {"name": "Get One", "description": ""},
        {"name": "/", "description": "The root."},
    ],
}


def test_each_api_of_a_toolbench_file_is_a_tool_even_where_two_share_a_name(tmp_path: Path) -> None:
    write(tmp_path / "Animals" / "fish_facts.json", TOOL)
    entries = read_toolbench(str(tmp_path), "toolbench", silent).entries
    assert [e.tool.tool_id for e in entries] == [
        "toolbench.Animals.fish_facts.Get_One",
        "toolbench.Animals.fish_facts.Get_One_2",
        "toolbench.Animals.fish_facts.api_3",
    ]
    assert [e.tool.title for e in entries] == ["Fish Facts: Get One", "Fish Facts: Get One", "Fish Facts: /"]
    assert entries[0].tool.description == "One fish.\nAll about fish." and entries[1].tool.description == "All about fish."
    assert entries[0].tool.namespace == "toolbench.Animals.fish_facts"
    assert entries[0].input_schema == {
        "type": "object",
        "properties": {"id": {"type": "string", "description": "Which."}, "when": {"type": "string"}},
        "required": ["id"],
    }


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ("[]", "has no api_list"), ('{"api_list": [1]}', "has no api_list")]
)
def test_a_file_that_is_no_toolbench_tool_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=r"holds no \.json file"):
        read_toolbench(str(tmp_path), "toolbench", silent)
    (tmp_path / "tool.json").write_text(text)
    with pytest.raises(InputError, match=rf"tool\.json: {message}"):
        read_toolbench(str(tmp_path), "toolbench", silent)
