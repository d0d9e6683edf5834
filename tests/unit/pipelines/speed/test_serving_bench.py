import asyncio
import base64
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rich.console import Console

from actors.core.types import InputError
from configs.schema import Config
from pipelines.speed import load as bench_load
from pipelines.speed import scan, servers, serving
from pipelines.speed.load import MARK, Tally, load, make_requests, percentile
from pipelines.speed.serving import EMBEDDER, OBVIOUS, OURS, Results
from serve_app.haproxy import free_port

TEMPLATE = json.dumps({"query": MARK, "k": 10})
Answer = Callable[[int, bytes, asyncio.StreamWriter], Awaitable[None]]


# The load client ---------------------------------------------------------------------------------------------------------------


def test_a_percentile_is_a_value_that_was_measured() -> None:
    hundred = [float(i) for i in range(1, 101)]
    assert [percentile(hundred, each) for each in (50, 95, 99, 100)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0


def test_a_report_counts_answers_in_time_as_throughput_and_all_as_latencies() -> None:
    report = Tally(2.0, within=2, latencies=[0.3, 0.1, 0.2], errors=Counter({"status 503": 1})).report()
    assert report["requests_per_s"] == 1.0
    assert (report["answers"], report["p50_ms"], report["p99_ms"]) == (3, pytest.approx(200), pytest.approx(300))
    assert report["errors"] == {"status 503": 1}
    assert json.loads(json.dumps(Tally(2.0).report()))["p50_ms"] is None


def test_each_client_has_queries_of_its_own() -> None:
    queries = ["a", 'say "b"', "ç", "d", "e"]
    requests = make_requests("http://127.0.0.1:80/v1/search", TEMPLATE, queries, 2)
    bodies = [[json.loads(request.partition(b"\r\n\r\n")[2])["query"] for request in own] for own in requests]
    assert bodies == [["a", "ç", "e"], ['say "b"', "d"]]
    head, _, body = requests[1][0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/search HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize(
    ("url", "template", "queries"),
    [
        ("http://example.com:80/", TEMPLATE, ["a"]),
        ("http://127.0.0.1/", TEMPLATE, ["a"]),
        ("https://127.0.0.1:80/", TEMPLATE, ["a"]),
        ("http://127.0.0.1:80/", "{}", ["a"]),
        ("http://127.0.0.1:80/", TEMPLATE, []),
    ],
)
def test_what_cannot_be_asked_is_refused(url: str, template: str, queries: list[str]) -> None:
    with pytest.raises(InputError):
        make_requests(url, template, queries, 1)


def under_load(answer: Answer, clients: int = 2, seconds: float = 0.25, **use: Any) -> tuple[Tally, list[bytes]]:
    """Put a server under load whose requests ``answer`` answers, by their number; with the bodies in their order."""
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                await answer(len(bodies), bodies[-1], writer)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> Tally:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/search"
        try:
            return await load(url, make_requests(url, TEMPLATE, [f"q{i}" for i in range(8)], clients), seconds, **use)
        finally:
            server.close()

    return asyncio.run(run()), bodies


def answered(writer: asyncio.StreamWriter, body: bytes = b"{}", status: str = "200 OK", more: str = "") -> None:
    writer.write(f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def test_clients_ask_anew_when_they_are_answered() -> None:
    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        answered(writer)

    tally, bodies = under_load(answer)
    assert not tally.errors
    assert 4 <= tally.within <= len(tally.latencies) == len(bodies) <= 52
    assert min(tally.latencies) >= 0.009
    assert sorted(json.loads(body)["query"] for body in bodies[:2]) == ["q0", "q1"]


def test_every_failure_is_counted_by_its_reason_and_the_client_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_load, "PAUSE_S", 0.001)

    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if number == 2:
            answered(writer, b"busy", "503 Service Unavailable")
        elif number == 3:
            writer.close()
        elif number == 4:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            writer.close()
        elif number == 5:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            await asyncio.sleep(0.002)
            answered(writer)

    tally, bodies = under_load(answer, clients=1)
    assert tally.errors == {"status 503": 1, "IncompleteReadError": 2, "ValueError": 1}
    assert len(tally.latencies) == len(bodies) - 4 > 1


def test_a_silent_server_is_an_error_and_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_load, "REQUEST_TIMEOUT_S", 0.1)

    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        return

    tally, _ = under_load(answer, clients=1, seconds=0.05)
    assert tally.errors == {"TimeoutError": 1}
    assert not tally.latencies


def test_nobody_listening_is_an_error() -> None:
    url = f"http://127.0.0.1:{free_port()}/search"
    tally = asyncio.run(load(url, make_requests(url, TEMPLATE, ["a"], 1), 0.05))
    assert set(tally.errors) == {"ConnectionRefusedError"}


def test_answers_in_chunks_and_closed_connections_are_understood() -> None:
    used: list[bytes] = []

    async def use(body: bytes) -> None:
        used.append(body)

    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.002)
        if number % 2:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n")
        else:
            answered(writer, b"closed", more="Connection: close\r\n")
            writer.close()

    tally, _ = under_load(answer, clients=1, use=use)
    assert not tally.errors
    assert set(used) == {b"abc0123456789", b"closed"}


def test_an_embedding_is_searched_before_it_counts_as_answered(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.eye(3, dtype=np.float32))
    found: list[int] = []

    def embedded(row: int, width: int = 3) -> bytes:
        vector = np.eye(width, dtype=np.float32)[row]
        return json.dumps({"data": [{"embedding": base64.b64encode(vector.tobytes()).decode()}]}).encode()

    async def run() -> None:
        searcher = bench_load.Searcher(tmp_path / "vectors.npy")
        search = searcher._index.search

        def watched(vectors: Any, k: int) -> Any:
            scores, rows = search(vectors, k)
            found.extend(rows[:, 0].tolist())
            return scores, rows

        searcher._index.search = watched
        await asyncio.gather(*(searcher(embedded(row)) for row in (2, 0, 1)))
        for broken in (b"{}", b'{"data": []}', b"no json", embedded(0, 2)):
            with pytest.raises(ValueError):
                await searcher(broken)

    asyncio.run(run())
    assert sorted(found) == [0, 1, 2]


# The scan ----------------------------------------------------------------------------------------------------------------------


def test_recall_is_the_share_of_the_exact_answers() -> None:
    assert scan.recall([["a", "b"], ["c"]], [["b", "a"], ["c", "d"]]) == pytest.approx(0.75)


def test_a_catalog_grows_by_noisy_repetition() -> None:
    vectors = np.eye(4, dtype=np.float32)
    rows = scan.grown(vectors, 10)
    assert rows.shape == (10, 4)
    assert rows.dtype == np.float32
    assert np.array_equal(rows[:4], vectors)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(10), abs=1e-5)
    assert 0.99 < float(rows[9] @ vectors[1]) < 1.0
    fewer = scan.grown(vectors, 2)
    assert len({tuple(row) for row in fewer}) == 2


def test_every_kind_of_index_is_measured_on_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MEASURED_S", 0.0)
    vectors = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    figures = scan.scan(vectors, 100, vectors)
    assert figures["real"] == 64
    assert figures["half_recall_10"] > 0.9
    assert figures["hnsw_recall_10"] > 0.9
    assert min(figures[f"{kind}_1_ms"] for kind in scan.KINDS) > 0
    text = shown(*scan.tables({"floor": FLOOR, "scan": [figures]}))
    assert "100 *" in text


def test_the_queries_are_distinct_and_always_alike() -> None:
    queries = scan.real_queries()
    assert len(queries) == len(set(queries)) > 5_000
    assert queries == scan.real_queries()


# Figures -----------------------------------------------------------------------------------------------------------------------

FLOOR = {"encode_1_ms": 3.0, "scan_1_ms": 1.0, "encode_64_ms": 2.0, "scan_64_ms": 0.5}


def shown(*what: Any) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(*what)
    return captured.get()


def reports(*rates: float, p50: float = 10.0) -> list[dict[str, Any]]:
    return [{"requests_per_s": rate, "p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 3 * p50, "cpu_share": 0.1} for rate in rates]


def results(embedder: bool = True) -> Results:
    found = Results()
    for side, rates, p50 in ((OURS, (90, 300, 100), 6.0), (OBVIOUS, (50, 10, 60), 12.0), (EMBEDDER, (80, 80, 80), 9.0)):
        if side == EMBEDDER and not embedder:
            found.missing[EMBEDDER] = "it cannot be installed"
            continue
        found.agreement[side] = 0.97
        for clients in serving.LOADS:
            found.rounds[side, clients] = reports(*rates, p50=p50)
            found.errors[side, clients] = Counter()
    return found


def test_ratios_are_of_the_medians_of_rounds() -> None:
    figures = serving.summary(results(), FLOOR, 19_796, 2)
    assert figures == {
        "throughput_ratio_64": 2.0,
        "p50_ratio_1": 0.5,
        "server_ratio_64": 1.25,
        "p95_ms_20k_8": 12.0,
        "floor_ratio": 1.5,
        "tools": 19_796,
        "cores": 2,
    }


def test_what_was_not_measured_is_null_and_said() -> None:
    found = results(embedder=False)
    figures = serving.summary(found, FLOOR, 4_200, 2)
    assert figures["server_ratio_64"] is None
    assert figures["p95_ms_20k_8"] is None
    said = " ".join(serving.sentences(found, figures, FLOOR))
    assert "not measured: it cannot be installed" in said
    assert "2.00 times the obvious server's 50" in said
    assert "not measured" in shown(serving.table(found))


def test_errors_are_shown_and_fail_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served = scan.Released(tmp_path, Config(), tmp_path, tmp_path / "vectors.npy", ["a"])
    found = results()
    monkeypatch.setattr(serving, "library_logs", lambda directory: None)
    monkeypatch.setattr(serving.signal, "signal", lambda *_: None)
    monkeypatch.setattr(scan, "released", lambda run: served)
    monkeypatch.setattr(scan, "measure", lambda *_: {"floor": FLOOR, "scan": []})
    exact = {"queries": 9, "model": 0.5, "int8": 0.4, "delta_pp": -10.0, "p_value": 0.5}
    monkeypatch.setattr(serving.int8, "measure", lambda _: exact)
    monkeypatch.setattr(serving, "compare", lambda *_: found)
    assert serving.main([]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["throughput_ratio_64"] == 2.0
    found.errors[OURS, 64].update({"status 429": 3})
    assert serving.main([]) == 1
    printed = capsys.readouterr().out
    assert "3 status 429" in printed
    assert json.loads(printed.splitlines()[-1])["tools"] == 1


# Servers -----------------------------------------------------------------------------------------------------------------------


def test_a_server_is_ended_with_its_children(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print("child", child.pid, "serving at here", flush=True)
time.sleep(60)
"""
    log = tmp_path / "log"
    with servers.server("it", [sys.executable, "-c", code], 1, log, os.environ, ready="serving at here"):
        child = psutil.Process(int(log.read_text().split()[1]))
        assert child.is_running()
    child.wait(5)
    assert not child.is_running()


def test_a_server_that_ends_at_once_leaves_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        pytest.raises(RuntimeError, match=r"it ended with exit code 1.*\n.*no such model"),
        servers.server("it", command, free_port(), tmp_path / "log", os.environ),
    ):
        raise AssertionError


def test_an_encoder_is_laid_out_for_older_releases(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    (new / "1_Pooling").mkdir(parents=True)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    for name, value in {
        "modules.json": modules,
        "config.json": {"model_type": "bert", "dtype": "float32"},
        "tokenizer_config.json": {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "model_max_length": 256},
        "1_Pooling/config.json": {"embedding_dimension": 384, "pooling_mode": "mean"},
        "tokenizer.json": {},
    }.items():
        (new / name).write_text(json.dumps(value))
    (new / "model.safetensors").write_bytes(b"weights")
    servers.older_layout(new, old, 64)
    kinds = [module["type"] for module in json.loads((old / "modules.json").read_text())]
    assert kinds == [f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize")]
    assert json.loads((old / "config.json").read_text()) == {"model_type": "bert"}
    assert json.loads((old / "1_Pooling/config.json").read_text()) == {"word_embedding_dimension": 384, "pooling_mode": "mean"}
    tokenizer = json.loads((old / "tokenizer_config.json").read_text())
    assert tokenizer == {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 256}
    assert json.loads((old / "sentence_bert_config.json").read_text())["max_seq_length"] == 64
    assert (old / "model.safetensors").read_bytes() == b"weights"
