"""docs/agents.md: its programs run, its commands are answered, its configurations start a server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from serve_app.loader import Loader
from tests.word_world import WordEncoder, make_run, served

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs" / "agents.md").read_text(), re.MULTILINE | re.DOTALL)
WRITTEN = "http://127.0.0.1:8000"


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Loader, "_encoder", lambda self, source, release: WordEncoder(release.retriever))
        with served(make_run(tmp_path_factory.mktemp("docs") / "run")) as address:
            yield address


@pytest.mark.parametrize("program", blocks("python"))
def test_each_program_runs(url: str, program: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(program.replace(WRITTEN, url), "docs/agents.md", "exec"), {})
    if "nowhere" in program:
        shown = capsys.readouterr().out
        assert shown.startswith("1 shop.refund ")
        assert "404 there is no tool 'nowhere'" in shown


def test_each_command_is_answered(url: str) -> None:
    commands = [line for text in blocks("sh") for line in text.splitlines()]
    assert len(commands) == 2
    for command, shape in zip(commands, ("tool_result", "output"), strict=True):
        done = subprocess.run(["bash", "-c", command.replace(WRITTEN, url)], capture_output=True, text=True, timeout=20, check=True)
        assert {shape, "request_id", "tool_ids"} <= set(json.loads(done.stdout))


@pytest.mark.timeout(90)
def test_the_desktop_agents_configuration_starts_a_server(url: str) -> None:
    over_http, over_stdio = (json.loads(text)["mcpServers"]["tools"] for text in blocks("json"))
    assert over_http["url"] == f"{WRITTEN}/mcp"
    assert over_stdio["command"] == "cohyde"
    # What the command runs, of this checkout.
    program = ["-c", "import sys; from pipelines.entry import main; sys.exit(main())"]
    arguments = [argument.replace(WRITTEN, url) for argument in over_stdio["args"]]
    environment = {**os.environ, **over_stdio["env"]}

    async def listed() -> list[str]:
        parameters = StdioServerParameters(command=sys.executable, args=[*program, *arguments], env=environment, cwd=ROOT)
        async with Client(parameters, read_timeout_seconds=60) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    assert asyncio.run(listed()) == ["search_tools", "describe_tool", "report_outcome"]
