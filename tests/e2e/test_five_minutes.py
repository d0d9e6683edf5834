"""The page "Your own catalog in five minutes", command by command, from the OpenAPI document to the official MCP client.

Models are tiny and training is a step or two, for time; everything else is what the page says.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from actors.core.text import identifier_words
from tests.e2e.small_world import overrides
from tests.tiny_models import make_encoder, make_rewriter
from tests.unit.docs.reading import ROOT, commands

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PAGE = ROOT / "docs" / "five-minutes.md"
QUERY = "the customer wants her money back for a broken mug"


def page(folder: Path, port: int) -> list[list[str]]:
    """The page's commands, its folders below ``folder``, its programs by this Python."""
    found = []
    for command in commands(PAGE, frozenset()):
        if not command.strict:
            continue
        words = [w.replace("my-catalog", str(folder / "catalog")).replace("runs/own", str(folder / "run")) for w in command.words]
        words = [w.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}") for w in words]
        program = {"cohyde": [sys.executable, "-m", "pipelines.cli"], "python": [sys.executable]}[words[0]]
        found.append([*program, *words[1:]])
    return found


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout


def environment() -> dict[str, str]:
    """A terminal wide enough for whole lines."""
    return os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)}


def tiny(folder: Path, catalog: Path) -> list[str]:
    """Overrides for models that know the document's words."""
    tools = [json.loads(line)["tool"] for line in (catalog / "tools.jsonl").read_text().splitlines()]
    texts = [f"{tool['title']} {tool['description']} {' '.join(identifier_words(tool['name']))}" for tool in tools]
    words = sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower())})
    make_encoder(folder / "encoder", [*words, ".", ":", ","])
    make_rewriter(folder / "rewriter", [*words, ".", ":", ",", "<", ">"])
    settings = [s for s in overrides(folder, folder / "run") if not s.startswith(("catalog.source", "encoder.pairs_per_chunk"))]
    return [*settings, f"catalog.source=synced:{catalog}", "loop.units=1", "loop.baselines=[]"]


def test_an_mcp_client_finds_an_operation_of_an_openapi_document(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sync, lint, label, train, serve, ask, again = page(tmp_path, port)
    assert "added" in run(sync) and "50 labelled queries" in run(label)
    run(lint)
    run([*train, *tiny(tmp_path, tmp_path / "catalog")])
    server = subprocess.Popen(
        [*serve, "--port", str(port)], cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 180
        while not answers(port):
            assert server.poll() is None, server.stderr.read()[-3000:] if server.stderr else ""
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.5)
        told = run([*ask[:-1], QUERY])
        first = next(line for line in told.splitlines() if line.startswith("1. ")).split(" | ")[0].removeprefix("1. ")
        assert "search_tools, describe_tool, report_outcome" in told and first.startswith("shop.")
        known = {tool["tool"]["tool_id"]: tool["input_schema"] for tool in map(json.loads, tools_of(tmp_path))}
        assert str(known[first]) in told, "the schema is the document's own"
        assert "unchanged" in run(again)
    finally:
        started = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(signal.SIGINT)
        server.wait(30)
        for process in psutil.wait_procs(started, timeout=10)[1]:
            process.kill()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def tools_of(folder: Path) -> list[str]:
    return (folder / "catalog" / "tools.jsonl").read_text().splitlines()
