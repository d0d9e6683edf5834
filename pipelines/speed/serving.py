"""What the search server does under load, beside its alternatives: ``python -m pipelines.speed.serving``.

The last line is one JSON object.

Three servers stand on this machine with the same encoder weights and the same tools, and one client program asks them in turn:
ours, the one that one would write first, and a dedicated embedding server whose vectors the client searches itself.

Invariants: rounds of all servers alternate, with the same client and queries, and medians of rounds are compared; an alternative
that could not be had is shown as such, and its figure is null; every wait has a deadline; whatever was started is ended; a request
that failed is shown, and the exit code is 1 then; the searches do not get into the query log of the run.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from pipelines.command_line import library_logs, run_app
from pipelines.speed import int8, scan
from pipelines.speed.load import MARK, K, Side, embedding
from pipelines.speed.servers import (
    EMBEDDER_ENVIRONMENT,
    Unavailable,
    embedder_command,
    install_embedder,
    older_layout,
    server,
)
from serve_app.haproxy import free_port

OURS, OBVIOUS, EMBEDDER = "ours", "obvious (FastAPI, sentence-transformers, FAISS)", "infinity-emb, searched by the client"
LOADS = (1, 8, 64)
"""Clients that ask at once."""
WARM_UP_S = 2.0
COMPARED = 32
"""Queries whose answers are compared before the load."""
AROUND_20K = (18_000, 22_000)
ANSWER_TIMEOUT_S, LOAD_TIMEOUT_S = 60.0, 120.0
"""LOAD_TIMEOUT_S: of the client, beside the time that it asks."""
UNLIMITED = "limits.requests_per_minute=100000000"
"""The load is one tenant's, and far more than one tenant may ask for."""


@dataclass
class Results:
    """Reports of the load client by (server, clients), the errors of the warm-up too, and why there are none of a server."""

    rounds: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    errors: dict[tuple[str, int], Counter[str]] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def median(self, side: str, clients: int, key: str) -> float:
        """Over the rounds."""
        return float(statistics.median(report[key] for report in self.rounds[side, clients]))


# Servers -----------------------------------------------------------------------------------------------------------------------


def start_ours(stack: contextlib.ExitStack, served: scan.Released, scratch: Path, env: Mapping[str, str]) -> Side:
    """Our server, as it is configured but for the limit of one tenant and the place of its query log."""
    port = free_port()
    command = [sys.executable, "-m", "pipelines.serve", "--run", str(served.run), "--port", str(port)]
    command += [UNLIMITED, f"query_log={scratch / 'query-log'}"]
    stack.enter_context(server(OURS, command, port, scratch / "ours.log", env, ready=f"serving at http://127.0.0.1:{port}"))
    body = {"query": MARK, "k": K, "mode": "raw", "min_score": -1, "detail": "brief"}
    return Side(OURS, f"http://127.0.0.1:{port}/v1/search", json.dumps(body))


def start_obvious(stack: contextlib.ExitStack, served: scan.Released, scratch: Path, env: Mapping[str, str]) -> Side:
    """The obvious server."""
    port, ids = free_port(), scratch / "ids.json"
    ids.write_text(json.dumps(served.tool_ids), encoding="utf-8")
    command = [sys.executable, "-m", "pipelines.speed.obvious", "--encoder", str(served.encoder_dir)]
    command += ["--vectors", str(served.vectors), "--ids", str(ids), "--port", str(port)]
    stack.enter_context(server(OBVIOUS, command, port, scratch / "obvious.log", env))
    return Side(OBVIOUS, f"http://127.0.0.1:{port}/search", json.dumps({"query": MARK}))


def start_embedder(stack: contextlib.ExitStack, served: scan.Released, scratch: Path, env: Mapping[str, str], place: Path) -> Side:
    """The embedding server of the environment ``place``. Raises Unavailable where it does not come up or cannot answer."""
    port, model = free_port(), scratch / "embedder-model"
    older_layout(served.encoder_dir, model, served.config.encoder.query_tokens)
    # Its interpreter is another one, and its caches are to go with the scratch directory.
    own = {**{name: x for name, x in env.items() if name != "PYTHONPATH"}, **EMBEDDER_ENVIRONMENT, "INFINITY_HOME": str(scratch)}
    command = embedder_command(place, model, port)
    body = json.dumps({"input": MARK, "encoding_format": "base64"})
    side = Side(EMBEDDER, f"http://127.0.0.1:{port}/embeddings", body, served.vectors)
    try:
        stack.enter_context(server(EMBEDDER, command, port, scratch / "embedder.log", own, cwd=scratch))
        first_tools(side, "ready", served)
    except (RuntimeError, OSError, ValueError) as error:
        raise Unavailable(str(error)) from error
    return side


# Rounds ------------------------------------------------------------------------------------------------------------------------


def compare(
    served: scan.Released, scratch: Path, env: Mapping[str, str], seconds: float, repeats: int, torch_index: str
) -> Results:
    """Start all servers, look whether they answer alike, and put them under load in turn."""
    console, results = Console(stderr=True), Results()
    queries = scan.real_queries()
    (scratch / "queries.json").write_text(json.dumps(queries), encoding="utf-8")
    with contextlib.ExitStack() as stack:
        place: Path | None = None
        try:
            place = install_embedder(torch_index, lambda line: console.print(line, highlight=False, markup=False))
        except Unavailable as error:
            results.missing[EMBEDDER] = str(error)
        console.print("starting the servers", highlight=False)
        sides = [start_ours(stack, served, scratch, env), start_obvious(stack, served, scratch, env)]
        if place is not None:
            try:
                sides.append(start_embedder(stack, served, scratch, env, place))
            except Unavailable as error:
                results.missing[EMBEDDER] = str(error)
        found = {side.name: [first_tools(side, query, served) for query in queries[:COMPARED]] for side in sides}
        results.agreement = {name: scan.recall(ranked, found[OBVIOUS]) for name, ranked in found.items()}
        for clients in LOADS:
            for side in sides:
                _count(results, side, clients, _load(side, clients, WARM_UP_S, scratch))
            for repeat in range(repeats):
                console.print(f"{clients} clients, round {repeat + 1} of {repeats}", highlight=False)
                for side in sides:
                    report = _load(side, clients, seconds, scratch)
                    _count(results, side, clients, report)
                    results.rounds.setdefault((side.name, clients), []).append(report)
    return results


def first_tools(side: Side, query: str, served: scan.Released) -> list[str]:
    """Ids of the first tools that a side finds. Raises RuntimeError for an answer that is none."""
    target = urlsplit(side.url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=ANSWER_TIMEOUT_S)
    with contextlib.closing(connection):
        body = side.body.replace(json.dumps(MARK), json.dumps(query)).encode()
        connection.request("POST", target.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{side.name} answered with status {answer.status}: {text[:500].decode(errors='replace')}")
    if side.vectors is None:
        tools = [str(tool["tool_id"]) for tool in json.loads(text)["tools"]]
    else:
        import numpy as np

        cosines = np.load(side.vectors, mmap_mode="r") @ embedding(text)
        tools = [served.tool_ids[row] for row in np.argsort(-cosines, kind="stable")[:K]]
    if len(tools) != min(K, len(served.tool_ids)):
        raise RuntimeError(f"{side.name} answered {query!r} with {len(tools)} tools; {K} were asked for")
    return tools


def _load(side: Side, clients: int, seconds: float, scratch: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "pipelines.speed.load", side.url, "--clients", str(clients), "--seconds", str(seconds)]
    command += ["--queries", str(scratch / "queries.json"), "--body", side.body]
    command += ["--vectors", str(side.vectors)] if side.vectors is not None else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + LOAD_TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"the load client failed on {side.name}: {done.stderr.strip()[-2_000:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not report["answers"]:
        raise RuntimeError(f"{side.name} answered nothing at {clients} clients: {report['errors']}")
    return report


def _count(results: Results, side: Side, clients: int, report: Mapping[str, Any]) -> None:
    results.errors.setdefault((side.name, clients), Counter()).update(report["errors"])


# What is said ------------------------------------------------------------------------------------------------------------------


def summary(results: Results, floor: Mapping[str, float], tools: int, cores: int) -> dict[str, float | int | None]:
    """The figures of the last line; see ``sentences`` for what they mean."""
    median = results.median
    embedder = None
    if EMBEDDER not in results.missing:
        embedder = median(OURS, 64, "requests_per_s") / median(EMBEDDER, 64, "requests_per_s")
    return {
        "throughput_ratio_64": median(OURS, 64, "requests_per_s") / median(OBVIOUS, 64, "requests_per_s"),
        "p50_ratio_1": median(OURS, 1, "p50_ms") / median(OBVIOUS, 1, "p50_ms"),
        "server_ratio_64": embedder,
        "p95_ms_20k_8": median(OURS, 8, "p95_ms") if AROUND_20K[0] <= tools <= AROUND_20K[1] else None,
        "floor_ratio": median(OURS, 1, "p50_ms") / (floor["encode_1_ms"] + floor["scan_1_ms"]),
        "tools": tools,
        "cores": cores,
    }


def sentences(results: Results, figures: Mapping[str, Any], floor: Mapping[str, float]) -> list[str]:
    """The claims, each with what was measured."""
    median, alone = results.median, floor["encode_1_ms"] + floor["scan_1_ms"]
    ours, obvious = median(OURS, 64, "requests_per_s"), median(OBVIOUS, 64, "requests_per_s")
    said = [
        f"{figures['tools']:,} tools, {figures['cores']} cores; the client runs on the same cores.",
        f"64 clients: ours answers {ours:.0f} requests a second, {ours / obvious:.2f} times the obvious server's {obvious:.0f}.",
        f"1 client: half of the answers take ours at most {median(OURS, 1, 'p50_ms'):.1f} ms, the obvious server"
        f" {median(OBVIOUS, 1, 'p50_ms'):.1f} ms: {figures['p50_ratio_1']:.2f} of its time.",
        f"8 clients: 95 % of our answers take at most {median(OURS, 8, 'p95_ms'):.1f} ms.",
        f"Encoding and scanning alone take {alone:.1f} ms on one thread; at 1 client ours takes {figures['floor_ratio']:.2f} times"
        " as long.",
    ]
    if EMBEDDER in results.missing:
        said.append(f"The embedding server was not measured: {results.missing[EMBEDDER]}")
    else:
        said.append(
            f"64 clients: ours answers {figures['server_ratio_64']:.2f} times as many requests as infinity-emb embeds"
            f" ({median(EMBEDDER, 64, 'requests_per_s'):.0f} a second), whose vectors the client searches with FAISS by itself."
        )
    return said


def table(results: Results) -> Table:
    """A line for each server and load."""
    shown = Table(box=box.SIMPLE_HEAD, caption="medians of rounds; shared: of the first 10, with the obvious server's")
    for name in ("server", "clients", "requests/s", "lowest-highest", "p50 ms", "p95", "p99", "client's CPU", "shared", "errors"):
        shown.add_column(name, justify="left" if name in ("server", "errors") else "right")
    for (side, clients), rounds in results.rounds.items():
        rates = [report["requests_per_s"] for report in rounds]
        times = [f"{results.median(side, clients, key):.1f}" for key in ("p50_ms", "p95_ms", "p99_ms")]
        client = f"{100 * results.median(side, clients, 'cpu_share'):.0f} %"
        errors = ", ".join(f"{count} {why}" for why, count in results.errors[side, clients].items()) or "none"
        spread, rate = f"{min(rates):.0f}-{max(rates):.0f}", f"{statistics.median(rates):.1f}"
        shown.add_row(side, str(clients), rate, spread, *times, client, f"{100 * results.agreement[side]:.0f} %", errors)
    for side in results.missing:
        shown.add_row(side, *[""] * 8, "not measured, see below")
    return shown


def _interrupted(number: int, _: object) -> None:
    raise SystemExit(128 + number)


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def command(
    run: scan.Run = None,
    seconds: Annotated[float, typer.Option(help="Of each round.", min=1, max=120)] = 5.0,
    repeats: Annotated[int, typer.Option(help="Rounds of each server and load.", min=1, max=50)] = 3,
    torch_index: Annotated[str, typer.Option(help="A further package index, for the embedding server's torch.")] = "",
) -> None:
    """Measure the search server beside its alternatives; the last line is one JSON object with the figures."""
    # A SIGTERM must not leave servers behind.
    signal.signal(signal.SIGTERM, _interrupted)
    console = Console() if sys.stdout.isatty() else Console(width=160)
    # The servers get what was given to this process, without the settings of its own logging.
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryDirectory(prefix="cohyde-bench-") as scratch:
        library_logs(Path(scratch))
        served = scan.released(run)
        alone = scan.measure(served, Console(stderr=True))
        console.print(*scan.tables(alone))
        rounded = int8.measure(served)
        results = compare(served, Path(scratch), env, seconds, repeats, torch_index)
    figures = summary(results, alone["floor"], len(served.tool_ids), os.cpu_count() or 1)
    figures |= {"int8_delta_pp": rounded["delta_pp"], "int8_p_value": rounded["p_value"]}
    console.print(table(results))
    print("\n".join(sentences(results, figures, alone["floor"])))
    print(
        f"8-bit encoder: nDCG@5 {100 * rounded['int8']:.1f} on {rounded['queries']:.0f} dev queries,"
        f" {rounded['delta_pp']:+.2f} points against the model itself (p {rounded['p_value']:.2f})."
    )
    print(json.dumps({name: x if x is None or isinstance(x, int) else float(f"{x:.4g}") for name, x in figures.items()}))
    if any(errors for errors in results.errors.values()):
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.speed.serving", arguments)


if __name__ == "__main__":
    sys.exit(main())
