"""The OpenAPI document holds what the server does: schemathesis makes requests of it and checks the answers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from serve_app.haproxy import free_port
from tests.serving.small_run import Server, make_run, start_server

pytestmark = [pytest.mark.serving, pytest.mark.timeout(300)]
EXAMPLES = 15


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of its own: made-up requests change the catalog."""
    started = start_server(make_run(tmp_path_factory.mktemp("made-up")), free_port(), "rewriter_replicas=0")
    yield started
    assert started.end() == 0


def test_the_server_does_what_its_document_says(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    tested = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        # Without its shrinking, which would ask a failing route a hundred times more.
        phases = (Phase.explicit, Phase.generate)

        @given(case=operation.as_strategy())
        @settings(max_examples=EXAMPLES, deadline=None, phases=phases, suppress_health_check=list(HealthCheck), database=None)
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(base_url=server.url, timeout=30)

        check()
        tested.add((operation.method.upper(), operation.path))
    assert {("POST", "/v1/search"), ("PUT", "/v1/tools/{tool_id}"), ("POST", "/v1/feedback")} <= tested


def test_every_route_has_a_document(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            assert about.get("description"), (method, path)
            problems = [code for code in about["responses"] if code.startswith(("4", "5"))]
            assert problems, (method, path)
            for code in problems:
                assert "application/problem+json" in about["responses"][code]["content"], (method, path, code)
    assert document["components"]["schemas"]["SearchRequest"]["examples"]
