"""What serving so many tools to so many queries takes: ``python -m pipelines.speed.capacity --tools 10000000 --qps 10000``.

Unit costs were measured on two cores of an AVX2 processor without bfloat16 arithmetic; each stands here with the command that
measured it, and everything else is computed from them.

Invariants: pure, nothing is started or measured; each line says how its figure is known; what one process cannot do is said.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import typer

from pipelines.command_line import run_app

SCAN_MS = {1_000: 0.06, 20_000: 0.9, 100_000: 5.7, 1_000_000: 53.0}
"""Milliseconds of one core for one query's exact scan of 384 numbers of 16 bits, by tools: ``python -m pipelines.speed.scan``."""
CATALOG_OF_BENCH, REQUESTS_OF_BENCH, CORES_OF_BENCH = 19_796, 244.0, 2
"""Tools, requests a second of 64 clients, and cores, which the clients shared: ``make bench-serve``."""
REWRITES_A_CORE_S = 17.9 / 2
"""Of a model of 135 million parameters, in batches: ``make bench`` (with bfloat16 arithmetic)."""
RERANK_CORE_S = 2 * 1.636
"""Core seconds to read 16 tools that were not read before: ``python -m pipelines.benchmark.latency``."""
EMBEDDED_A_CORE_S = 4_198 / 27 / 2
"""Tools of 80 tokens at most: "index of the warm-started encoder: 27 s" of ``make demo`` (with bfloat16 arithmetic)."""
INDEX_GB_PER_MILLION, FILE_GB_PER_MILLION = 0.8, 1.536
"""Resident 16-bit index: ``python -m pipelines.speed.scan``; its file in 32 bits, 384 numbers a tool."""
ENTRY_KB = 3.8
"""Resident kilobytes of one tool's name, text, parameters and schema in a replica: AWS, read by ``actors.catalog_file``."""
REPLICA_GB = 1.0
"""A replica without its catalog: ``memory_gb`` of configs/serving.py, which holds for 20,000 tools, rounded down by theirs."""
EVENT_KB = 1.0
"""A search of ten tools in the query log: the length of such a line."""
THREADS = 2
"""Of one replica, each on a core of its own (configs/serving.py)."""
BUSY = 0.6
"""Share of its cores that a replica may use: above it, queues grow faster than throughput. A choice."""
SERVER_GB_S = 200.0
"""What a server of eight memory channels reads a second. From its specification, not measured."""
SCAN_BYTES = 384 * 2
PATIENCE_MS = 100.0
"""Longest scan of one query that is still called interactive. A choice."""

How = Literal["measured", "computed", "code", "choice"]


@dataclass(frozen=True)
class Line:
    """One figure: of what, how much, how it is known, and what follows from it."""

    what: str
    needed: str
    how: How
    note: str


def plan(tools: int, qps: float, rewritten: float = 0.1, reranked: float = 0.01) -> list[Line]:
    """What ``tools`` and ``qps`` searches a second take in raw mode, and what rewriting and reranking shares of them adds."""
    return [*_searching(tools, qps), *_memory(tools, qps), *_models(qps, rewritten, reranked), *_training(tools), *_log(qps)]


def scan_ms(tools: int) -> float:
    """Milliseconds of one core that an exact scan takes: between the measured sizes, and beyond the last in proportion."""
    sizes = list(SCAN_MS)
    if tools > sizes[-1]:
        return SCAN_MS[sizes[-1]] * tools / sizes[-1]
    return float(np.interp(tools, sizes, list(SCAN_MS.values())))


def request_ms() -> float:
    """Milliseconds of one core that a request takes beside its scan: HTTP, guard, encoding, the log, and its client."""
    return 1_000 * CORES_OF_BENCH / REQUESTS_OF_BENCH - scan_ms(CATALOG_OF_BENCH)


def cores(tools: int, qps: float) -> float:
    """Cores of all replicas of ``Search``, at ``BUSY``."""
    return qps * (request_ms() + scan_ms(tools)) / 1_000 / BUSY


def replicas(tools: int, qps: float) -> int:
    """Replicas of ``Search``; two at least, so that one may fail."""
    return max(2, math.ceil(cores(tools, qps) / THREADS))


def replica_gb(tools: int) -> float:
    """Peak of one replica: while it loads a release beside the old one, two indices and the newest one's file are in memory."""
    return REPLICA_GB + tools * ENTRY_KB / 1e6 + tools / 1e6 * (2 * INDEX_GB_PER_MILLION + FILE_GB_PER_MILLION)


def _searching(tools: int, qps: float) -> list[Line]:
    scan = scan_ms(tools)
    how: How = "measured" if tools in SCAN_MS else "computed"
    late = "" if scan <= PATIENCE_MS else f"over {PATIENCE_MS:.0f} ms: an exact scan in one process ends here"
    read = qps * tools * SCAN_BYTES / 1e9
    machines = math.ceil(read / SERVER_GB_S)
    share = f"{max(0.01, read / SERVER_GB_S):.0%} of one server's {SERVER_GB_S:.0f} GB/s"
    held = share if machines == 1 else f"as much as {machines:,} servers read at most"
    return [
        Line("scan of one query, one core", f"{_number(scan)} ms", how, late),
        Line("the rest of a request, one core", f"{request_ms():.1f} ms", "measured", "its client's share is in it"),
        Line("cores of Search", f"{cores(tools, qps):,.1f}", "computed", f"at {BUSY:.0%} use"),
        Line(
            "replicas of Search",
            f"{replicas(tools, qps):,}",
            "computed",
            f"{THREADS} threads each, two at least; the encoder is in each",
        ),
        Line("memory read by scans", f"{_number(read)} GB/s", "computed", held),
    ]


def _memory(tools: int, qps: float) -> list[Line]:
    entries, index = tools * ENTRY_KB / 1e6, tools / 1e6 * INDEX_GB_PER_MILLION
    one = replica_gb(tools)
    return [
        Line("index in one replica", f"{_number(index)} GB", "computed", "whole in each: it is not sharded"),
        Line("tools' texts and schemas in one replica", f"{_number(entries)} GB", "computed", "whole in each"),
        Line("one replica at its peak", f"{_number(one)} GB", "computed", "a new release is loaded beside the old one"),
        Line("all replicas", f"{_number(one * replicas(tools, qps))} GB", "computed", ""),
    ]


def _models(qps: float, rewritten: float, reranked: float) -> list[Line]:
    writing, reading = qps * rewritten / REWRITES_A_CORE_S / BUSY, qps * reranked * RERANK_CORE_S / BUSY
    return [
        Line(
            f"cores of Rewriter, {rewritten:.0%} of the searches", f"{writing:,.1f}", "computed", "none where it was asked before"
        ),
        Line(
            f"cores of Reranker, {reranked:.0%} of the searches",
            f"{reading:,.1f}",
            "computed",
            "half where its tools were read before",
        ),
    ]


def _training(tools: int) -> list[Line]:
    hours = tools / (EMBEDDED_A_CORE_S * 2) / 3_600
    each = "each encoder version, unless `encoder.sides=queries`; one process"
    return [Line("embedding the catalog, two cores", f"{_number(hours)} h", "computed", each)]


def _log(qps: float) -> list[Line]:
    day = qps * EVENT_KB * 86_400 / 1e6
    return [
        Line(
            "query log",
            f"{_number(qps * EVENT_KB / 1e3)} MB/s, {_number(day)} GB a day",
            "computed",
            "searches alone; one intake reads it",
        ),
        Line("searches that the intake remembers", f"{qps * 86_400 / 1e6:,.1f} million", "code", "a day of them, in one process"),
    ]


def _number(value: float) -> str:
    """Two digits that count; thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def table(lines: Sequence[Line]) -> str:
    """The lines in Markdown."""
    rows = [f"| {line.what} | {line.needed} | {line.how} | {line.note} |" for line in lines]
    return "\n".join(["| | needed | known by | |", "|---|---|---|---|", *rows])


command_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@command_app.command()
def command(
    tools: Annotated[int, typer.Option(help="Tools in the catalog.", min=1)] = 100_000,
    qps: Annotated[float, typer.Option(help="Searches a second.", min=0.001)] = 10.0,
    rewritten: Annotated[float, typer.Option(help="Share of the searches that are rewritten anew.", min=0, max=1)] = 0.1,
    reranked: Annotated[float, typer.Option(help="Share of the searches that are reranked.", min=0, max=1)] = 0.01,
) -> None:
    """What serving so many tools to so many searches takes, as a table in Markdown."""
    print(table(plan(tools, qps, rewritten, reranked)))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(command_app, "pipelines.speed.capacity", arguments)


if __name__ == "__main__":
    sys.exit(main())
