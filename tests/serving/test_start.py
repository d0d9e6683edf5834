"""Ways to start: a deployed configuration, the frozen models, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from actors.core.types import InputError
from actors.run_dir import open_release
from configs.schema import Config
from configs.serving import ServingConfig
from pipelines import cli, serve
from pipelines.frozen_run import prepare_catalog, prepare_frozen
from serve_app.haproxy import free_port
from serve_app.loader import Loader
from tests.e2e.small_world import make_world
from tests.serving.small_run import ROOT, Server, start_server

pytestmark = [pytest.mark.serving, pytest.mark.timeout(300)]


def test_the_deployed_configuration_is_one_that_ray_and_the_application_take(server: Server) -> None:
    from ray.serve.schema import ServeDeploySchema

    from configs.serving import parse

    given = yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text())
    deployed = ServeDeploySchema.model_validate(given)
    assert deployed.http_options.host == "127.0.0.1"
    [application] = deployed.applications
    assert application.import_path == "serve_app.app:build"
    assert parse(application.args).keys


def test_what_cannot_be_served_is_refused_before_anything_starts(tmp_path: Path) -> None:
    from serve_app.app import build

    with pytest.raises(InputError, match="not a run directory"):
        build({"run": str(tmp_path)})
    with pytest.raises(InputError, match="no such setting"):
        build({"run": str(tmp_path), "ports": 1})
    command = [sys.executable, "-m", "pipelines.serve", "--run", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("serve: --run") or "not a run directory" in line


def test_the_frozen_models_are_served_where_nothing_was_trained(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    run_dir = prepare_frozen(tmp_path / "frozen", f"beir:{world / 'catalog'}", "demo", lambda what: lambda done, total: None)
    assert prepare_frozen(run_dir, "never read", "demo", lambda what: lambda done, total: None) == run_dir
    started = start_server(run_dir, free_port(), "rewriter_replicas=0", "explore_share=0")
    try:
        ready = httpx.get(f"{started.url}/readyz").json()
        assert (ready["release"], ready["rewriter"], ready["tools"]) == ("frozen", "off", 30)
        body = {"query": "I need somewhere to put files, make me a bucket", "mode": "raw", "k": 3, "min_score": -1}
        found = httpx.post(f"{started.url}/v1/search", json=body, timeout=30).json()
        assert "create-bucket" in [tool["tool_id"] for tool in found["tools"]]
    finally:
        assert started.end() == 0
    assert not [name for name in os.listdir(run_dir) if name.startswith("cluster")]


def test_a_synced_catalog_is_served_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def sync(*names: str) -> Path:
        tools = [{"name": name, "description": f"Does {name}.", "input_schema": {"type": "object"}} for name in names]
        (tmp_path / "tools.json").write_text(json.dumps(tools))
        assert cli.main(["catalog", "sync", "mine=functions:tools.json", "--catalog", "cat"]) == 0
        return prepare_catalog(Path("cat"), lambda what: lambda done, total: None)

    run_dir = sync("send_mail", "read_mail")
    assert run_dir == Path("runs/frozen-cat")
    # Cut as the sync cut them, the vectors that it made are found.
    assert open_release(str(run_dir)).config.encoder.document_tokens == Config().encoder.document_tokens
    assert set(Loader(ServingConfig(run=str(run_dir))).entries) == {"mine.send_mail", "mine.read_mail"}
    assert sync("send_mail", "read_mail", "drop_mail") == run_dir
    assert "mine.drop_mail" in Loader(ServingConfig(run=str(run_dir))).entries
    (tmp_path / "other").mkdir()
    shutil.copytree("cat", "other/cat")
    with pytest.raises(InputError, match=r"runs/frozen-cat serves synced:.*rename the folder"):
        prepare_catalog(Path("other/cat"), lambda what: lambda done, total: None)
    assert serve.main(["--catalog", "cat", "--run", "runs/x"]) == 2


def test_keys_say_who_may_ask_and_a_candidate_is_shadowed(tmp_path: Path, server: Server) -> None:
    from tests.serving.small_run import make_run

    keys = tmp_path / "keys.json"
    add = [sys.executable, "-m", "pipelines.cli", "keys", "add", str(keys), "--tenant", "shop", "--scope", "search"]
    secret = subprocess.run(add, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout.strip()
    shadowing = ("shadow.release=2", "shadow.share=1")
    started = start_server(make_run(tmp_path / "own"), free_port(), "rewriter_replicas=0", f"keys={keys}", *shadowing)
    try:
        ask = {"query": "create bucket", "mode": "raw"}
        assert httpx.post(f"{started.url}/v1/search", json=ask).status_code == 401
        known = {"Authorization": f"Bearer {secret}"}
        assert httpx.post(f"{started.url}/v1/search", json=ask, headers=known).status_code == 200
        refused = httpx.delete(f"{started.url}/v1/tools/create-bucket", headers=known)
        assert (refused.status_code, "catalog" in refused.json()["detail"]) == (403, True)
        written = "".join(file.read_text() for file in started.log_dir.glob("*.jsonl"))
        assert '"tenant":"shop"' in written
        deadline = time.monotonic() + 30
        # The candidate answers after the client has its own answer.
        while not (shadow := httpx.get(f"{started.url}/v1/releases", headers=known).json()["shadow"])["searches"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert (shadow["release"], shadow["searches"]) == ("2", 1)
        assert 0 <= shadow["agreement_at_5"] <= 1
        logs = started.run_dir / "serving" / "logs"
        assert not [f for f in logs.rglob("*") if f.is_file() and secret in f.read_text(errors="replace")]
    finally:
        assert started.end() == 0
