"""One server for the tests that do not harm it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.haproxy import free_port
from tests.serving.small_run import Server, make_run, start_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("serving")
    started = start_server(make_run(root), free_port(), "explore_share=0")
    yield started
    assert started.end() == 0
