"""ToolRet, MAIR and MTRB in their published formats: small files written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.core.types import InputError
from configs.schema import CatalogConfig
from pipelines import catalogs
from pipelines.catalogs import mair, mtrb, toolret


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def tool(number: int, name: str, text: str) -> dict[str, Any]:
    return {"id": f"web_tool_{number}", "documentation": json.dumps({"name": name, "description": text})}


def asked(query_id: str, text: str, golds: list[str], instruction: str = "Find a tool for sums.") -> dict[str, Any]:
    labels = [{"id": gold, "doc": {"name": gold}, "relevance": 1} for gold in golds]
    return {"id": query_id, "query": text, "instruction": instruction, "labels": json.dumps(labels), "category": "web"}


@pytest.fixture
def toolret_folder(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "ToolRet-Tools" / "web" / "tools-00000.parquet", [tool(1, "add", "Adds."), tool(2, "sub", "Takes.")])
    code = [{"id": "code_tool_1", "documentation": "def root(x): the root of x"}]
    write_jsonl(tmp_path / "ToolRet-Tools" / "code" / "tools.jsonl", code)
    queries = [
        asked("apigen_query_0", "two and two", ["web_tool_1"]),
        asked("apigen_query_1", "less", ["web_tool_2", "web_tool_1"]),
    ]
    write_parquet(tmp_path / "ToolRet-Queries" / "apigen" / "queries-00000.parquet", queries)
    write_jsonl(tmp_path / "ToolRet-Queries" / "toolink" / "queries.jsonl", [asked("toolink_0", "root of 9", ["code_tool_1"])])
    return tmp_path


def test_toolret_is_one_catalog_with_its_tasks_in_categories(toolret_folder: Path) -> None:
    corpus = catalogs.load(CatalogConfig(source=f"toolret:{toolret_folder}"), 0)
    assert {t.tool_id: t.title for t in corpus.catalog.tools} == {
        "web_tool_1": "add",
        "web_tool_2": "sub",
        "code_tool_1": "code_tool_1",
    }
    assert corpus.catalog.by_id["web_tool_1"].document == tool(1, "add", "Adds.")["documentation"]
    by_id = {q.query_id: q for q in corpus.queries}
    assert by_id["apigen_query_1"].gold == {"web_tool_2": 1, "web_tool_1": 1}
    assert [by_id[q].group for q in ("apigen_query_0", "toolink_0")] == ["web/apigen", "code/toolink"]
    assert by_id["toolink_0"].text == "root of 9"
    assert {q.split for q in corpus.queries} == {"test"}


def test_toolret_with_instructions_puts_them_before_the_query(toolret_folder: Path) -> None:
    corpus = catalogs.load(CatalogConfig(source=f"toolret-instructed:{toolret_folder}"), 0)
    assert corpus.queries[0].text == "Instruct: Find a tool for sums.\nQuery: two and two"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (asked("q", "text", ["nobody"]), "gold 'nobody' is no tool"),
        (asked("q", "text", []), "has no gold"),
        (asked("q", " ", ["web_tool_1"]), "query is missing or empty"),
        (asked("apigen_query_0", "text", ["web_tool_1"]), "stands already in"),
        ({**asked("q", "text", []), "labels": "[{"}, "not JSON"),
        ({**asked("q", "text", []), "labels": "{}"}, "not a list of objects"),
        (
            {**asked("q", "text", []), "labels": [{"id": "web_tool_1", "relevance": "high"}]},
            "relevance of a label .* is not a number",
        ),
        ({"id": "what", "name": "?"}, "neither a tool"),
    ],
)
def test_a_broken_row_of_toolret_is_named(toolret_folder: Path, row: dict[str, Any], message: str) -> None:
    write_jsonl(toolret_folder / "z" / "more.jsonl", [row])
    with pytest.raises(InputError, match=message) as caught:
        toolret.load(toolret_folder, instructions=False)
    assert "more.jsonl:1" in str(caught.value)


def test_a_folder_without_toolret_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        toolret.load(tmp_path / "nothing", instructions=False)
    with pytest.raises(InputError, match="holds no file of rows"):
        toolret.load(tmp_path, instructions=False)
    write_jsonl(tmp_path / "tools.jsonl", [tool(1, "add", "Adds.")])
    with pytest.raises(InputError, match="1 tools and 0 queries"):
        toolret.load(tmp_path, instructions=False)
    (tmp_path / "broken.parquet").write_text("no")
    with pytest.raises(InputError, match="not a Parquet file"):
        toolret.load(tmp_path, instructions=False)


@pytest.fixture
def mair_folder(tmp_path: Path) -> Path:
    for task in ("SpotifyAPI", "TMDB"):
        write_jsonl(tmp_path / task / "docs.jsonl", [{"id": f"{task}-{n}", "doc": f"GET /{n}\nGives {n}."} for n in ("a", "b")])
        labels = [{"id": f"{task}-a", "score": 2}, {"id": f"{task}-b", "score": 0}]
        query = {"qid": f"{task}-q", "query": "give me a", "instruction": "Find the API.", "labels": labels}
        write_parquet(tmp_path / task / "queries.parquet", [query])
    return tmp_path


def test_each_task_of_mair_is_a_catalog_of_its_own(mair_folder: Path) -> None:
    assert [path.name for path in mair.tasks(mair_folder)] == ["SpotifyAPI", "TMDB"]
    assert mair.tasks(mair_folder / "TMDB") == [mair_folder / "TMDB"]
    corpus = catalogs.load(CatalogConfig(source=f"mair-instructed:{mair_folder / 'TMDB'}"), 0)
    [query] = corpus.queries
    assert (query.gold, query.text) == ({"TMDB-a": 2}, "Instruct: Find the API.\nQuery: give me a")
    assert corpus.catalog.by_id["TMDB-a"].title == "GET /a"
    assert corpus.catalog.by_id["TMDB-a"].document == "GET /a\nGives a."


def test_a_gold_that_mair_does_not_have_is_named(mair_folder: Path) -> None:
    query = {"qid": "late", "query": "what", "instruction": "", "labels": [{"id": "none", "score": 1}]}
    write_jsonl(mair_folder / "TMDB" / "more.jsonl", [query])
    with pytest.raises(InputError, match="gold 'none' is no document"):
        mair.load(mair_folder / "TMDB", instructions=False)


TOOLS = [
    {
        "ID": 1,
        "tool_name": "/movie/{id}",
        "tool_usage": "GET /movie/{id}",
        "tool_description": "A movie.",
        "rewrite_description": "Film.",
    },
    {"ID": 2, "tool_name": "/search", "tool_usage": "GET /search", "tool_description": "Finds."},
]
TESTS = [
    {"query": "when was it made", "relevant Tools": ["GET /search", "GET /movie/{id}", "GET /search"], "relevant IDs": [7, 9, 7]}
]


def test_mtrb_matches_golds_by_usage_and_prefers_the_rewritten_description(tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    (tmp_path / "mtr_x_test.json").write_text(json.dumps(TESTS))
    (tmp_path / "mtr_x_train.json").write_text(json.dumps([{"query": "find", "relevant Tools": ["/search"]}]))
    corpus = catalogs.load(CatalogConfig(source=f"mtrb:{tmp_path}"), 0)
    assert [t.document for t in corpus.catalog.tools] == ["/movie/{id}: Film.", "/search: Finds."]
    assert {q.split: q.gold for q in corpus.queries} == {"train": {"/search": 1}, "test": {"/search": 1, "/movie/{id}": 1}}


def test_mtrb_takes_tools_as_names_with_descriptions(tmp_path: Path) -> None:
    (tmp_path / "api_list.json").write_text(json.dumps({"calculator": "Calculates.", "Now": "What is on."}))
    (tmp_path / "mtr_test.json").write_text(json.dumps([{"query": "16 >> 3", "relevant Tools": ["calculator"]}]))
    assert mtrb.load(tmp_path).queries[0].gold == {"calculator": 1}


def test_what_is_wrong_with_mtrb_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 0 files"):
        mtrb.load(tmp_path)
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    for rows, message in (
        ([{"query": "a", "relevant Tools": ["GET /lost"]}], "gold 'GET /lost' is no tool"),
        ([{"query": "a", "relevant Tools": []}], "is missing or empty"),
        ([{"relevant Tools": ["/search"]}], "query is missing"),
        ({"query": "a"}, "not a list"),
        (["a"], "not a JSON object"),
    ):
        (tmp_path / "mtr_test.json").write_text(json.dumps(rows))
        with pytest.raises(InputError, match=message):
            mtrb.load(tmp_path)


def test_an_unknown_source_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"give aws, beir:DIR, beir-written:DIR, toolret:DIR"):
        catalogs.load(CatalogConfig(source="excel:tools"), 0)
