"""Starting and ending the servers that are measured; a dedicated embedding server (infinity-emb) among them.

Invariants: the embedding server lives in a virtual environment of its own, with the very weights that ours has, and is not tuned
beyond what its introduction tunes; an installation is complete or made anew; whatever was started is ended.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from actors.models import cache_dir

EMBEDDER = ("infinity-emb[server,torch]==0.0.78", "transformers<4.50", "fastapi<0.116", "pydantic<2.12")
"""With what was current when it was written; it does not know what came later."""
EMBEDDER_ENVIRONMENT = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
EMBEDDER_BATCH = 64
"""As many as ours embeds together; its own default is half of that."""
INSTALL_TIMEOUT_S, PROGRESS_S, START_TIMEOUT_S, STOP_TIMEOUT_S = 3_600.0, 15.0, 600.0, 75.0
_NEWER = ("backend", "is_local", "local_files_only")
"""Settings of a tokenizer that older releases do not know."""


class Unavailable(Exception):
    """An alternative cannot be had here; says why."""


def install_embedder(torch_index: str, say: Callable[[str], None]) -> Path:
    """Its virtual environment, made where it is not there yet, with the very torch of this one. Raises Unavailable."""
    place, log = cache_dir() / "bench-infinity", cache_dir() / "bench-infinity.log"
    wanted, stamp = [f"torch=={importlib.metadata.version('torch')}", *EMBEDDER], place / "installed.json"
    if stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == wanted:
        return place
    place.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    say(f"installing the embedding server into {place} (once; some minutes)")
    index = ["--extra-index-url", torch_index] if torch_index else []
    pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    for command in ([sys.executable, "-m", "venv", "--clear", str(place)], [*pip, "install", *index, *wanted]):
        _run(command, log, say)
    stamp.write_text(json.dumps(wanted), encoding="utf-8")
    return place


def _run(command: Sequence[str], log: Path, say: Callable[[str], None]) -> None:
    """Run a step of the installation; a line now and then says how far it is. Raises Unavailable."""
    started = time.monotonic()
    with log.open("a", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        while True:
            try:
                process.wait(PROGRESS_S)
                break
            except subprocess.TimeoutExpired:
                spent, lines = time.monotonic() - started, log.read_text(encoding="utf-8").splitlines()
                say(f"  {spent:.0f} s: {lines[-1].strip()[:100] if lines else ''}")
                if spent > INSTALL_TIMEOUT_S:
                    raise Unavailable(f"its installation was not done after {spent:.0f} s; pip's words are in {log}") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        lines = log.read_text(encoding="utf-8").splitlines() or [f"exit code {process.returncode}"]
        why = next((line for line in reversed(lines) if line.startswith("ERROR: ")), lines[-1])
        raise Unavailable(f"it cannot be installed ({why.removeprefix('ERROR: ')[:200]}); pip's words are in {log}")


def older_layout(encoder_dir: Path, target: Path, tokens: int) -> None:
    """The encoder's weights in a new directory ``target`` that sentence-transformers 3 reads; texts are cut at ``tokens``.

    What releases since then save, it does not load: they named classes and settings anew.
    """
    target.mkdir()
    modules: list[dict[str, Any]] = _read(encoder_dir / "modules.json")
    model = (encoder_dir / modules[0]["path"]).absolute()
    for pattern in ("*.safetensors*", "tokenizer.json", "vocab.txt", "special_tokens_map.json"):
        for file in model.glob(pattern):
            (target / file.name).symlink_to(file)
    for module in modules[1:]:
        (target / module["path"]).mkdir()
        source = (encoder_dir / module["path"]).absolute()
        for file in source.glob("*"):
            if file.name != "config.json":
                (target / module["path"] / file.name).symlink_to(file)
                continue
            settings = {"word_embedding_dimension" if name == "embedding_dimension" else name: x for name, x in _read(file).items()}
            _write(target / module["path"] / "config.json", settings)
    modules[0]["path"] = ""
    named = [{**each, "type": f"sentence_transformers.models.{each['type'].rpartition('.')[2]}"} for each in modules]
    _write(target / "modules.json", named)
    config = _read(model / "config.json")
    _write(target / "config.json", {name: x for name, x in config.items() if name != "dtype"})
    tokenizer = {name: x for name, x in _read(model / "tokenizer_config.json").items() if name not in _NEWER}
    if tokenizer.get("tokenizer_class") == "TokenizersBackend":
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    _write(target / "tokenizer_config.json", tokenizer)
    longest = min(tokens, int(tokenizer.get("model_max_length", tokens)), int(config.get("max_position_embeddings", tokens)))
    _write(target / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=1), encoding="utf-8")


def embedder_command(place: Path, model_dir: Path, port: int) -> list[str]:
    """How the embedding server is started: float32 on torch, as it comes."""
    where = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    how = ["--engine", "torch", "--device", "cpu", "--batch-size", str(EMBEDDER_BATCH)]
    return [str(place / "bin" / "infinity_emb"), "v2", "--model-id", str(model_dir), *where, *how]


@contextlib.contextmanager
def server(
    name: str, command: Sequence[str], port: int, log: Path, env: Mapping[str, str], cwd: Path | None = None, ready: str = ""
) -> Iterator[None]:
    """A server from when it answers, which the line ``ready`` says or else its port, until it and its children have ended.

    Raises RuntimeError with its last words where it does not come up.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=env, cwd=cwd
        )
    try:
        ends = time.monotonic() + START_TIMEOUT_S
        while not (ready in log.read_text(errors="replace") if ready else _listens(port)):
            if process.poll() is not None or time.monotonic() > ends:
                why = "did not answer in time" if process.returncode is None else f"ended with exit code {process.returncode}"
                words = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise RuntimeError(f"{name} {why}; its last words:\n{words}")
            time.sleep(0.2)
        yield
    finally:
        _end(process)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the server, which ends its children in order; SIGKILL to what is left of it and of them."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT_S)
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
