"""The routes that answer in the shapes of model vendors' tool search, of a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from anthropic.types import ToolParam, ToolResultBlockParam
from openai.types.responses.response_tool_search_output_item_param_param import ResponseToolSearchOutputItemParamParam
from pydantic import TypeAdapter

from serve_app.client import ToolSearch
from serve_app.loader import Loader
from tests.word_world import WordEncoder, make_run, served


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Loader, "_encoder", lambda self, source, release: WordEncoder(release.retriever))
        run: Path = make_run(tmp_path_factory.mktemp("agents") / "run")
        with served(run) as url, httpx.Client(base_url=url) as client, ToolSearch(url) as tools:
            schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
            tools.put_tool("garden.paint", {"name": "paint", "description": "paint fence", "input_schema": schema})
            yield client


def test_anthropics_answer_refers_to_what_it_defines(http: httpx.Client) -> None:
    # Without schemas no tool could be called, whatever was asked for.
    body = {"query": "paint fence", "k": 2, "detail": "brief", "tool_use_id": "toolu_1"}
    answer = http.post("/v1/search/anthropic", json=body).json()
    TypeAdapter(ToolResultBlockParam).validate_python(answer["tool_result"], extra="forbid")
    TypeAdapter(list[ToolParam]).validate_python(answer["tools"], extra="forbid")
    names = [tool["name"] for tool in answer["tools"]]
    assert (names[0], len(names)) == ("garden--paint", 2)
    assert answer["tool_result"]["tool_use_id"] == "toolu_1"
    assert [block["tool_name"] for block in answer["tool_result"]["content"]] == names
    assert answer["tool_ids"]["garden--paint"] == "garden.paint"
    assert answer["tools"][0]["input_schema"]["required"] == ["colour"]
    outcome = {"type": "outcome", "request_id": answer["request_id"], "tool_id": "garden.paint", "result": "succeeded"}
    assert http.post("/v1/feedback", json={"events": [outcome]}).status_code == 202


def test_openais_answer_defines_what_was_found(http: httpx.Client) -> None:
    answer = http.post("/v1/search/openai", json={"query": "paint fence", "k": 1, "call_id": "call_1"}).json()
    TypeAdapter(ResponseToolSearchOutputItemParamParam).validate_python(answer["output"], extra="forbid")
    [tool] = answer["output"]["tools"]
    assert (answer["output"]["call_id"], tool["name"], tool["defer_loading"]) == ("call_1", "garden--paint", True)
    assert tool["parameters"]["required"] == ["colour"]
    assert answer["tool_ids"] == {"garden--paint": "garden.paint"}


def test_nothing_that_fits_is_said_to_the_model(http: httpx.Client) -> None:
    body = {"query": "paint fence", "min_score": 1, "namespaces": ["nowhere"], "tool_use_id": "toolu_1"}
    answer = http.post("/v1/search/anthropic", json=body).json()
    assert answer["tools"] == []
    assert answer["tool_result"]["content"][0]["type"] == "text"


@pytest.mark.parametrize(("vendor", "field"), [("anthropic", "tool_use_id"), ("openai", "call_id")])
def test_the_id_of_the_call_must_be_given(http: httpx.Client, vendor: str, field: str) -> None:
    refused = http.post(f"/v1/search/{vendor}", json={"query": "paint fence"})
    assert (refused.status_code, refused.json()["detail"]) == (422, f"{field}: field required")
    document = http.get("/openapi.json").json()
    assert document["paths"][f"/v1/search/{vendor}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
