"""What a search costs without a server, on one thread: ``python -m pipelines.speed.scan``; the last line is one JSON object.

The floor is the served encoder and the served scan (of 16 bits) alone; then growing catalogs are scanned exactly, in 16 bits, and
by HNSW.

Invariants: the vectors are a run's own; catalogs larger than it repeat them with noise, and the table says so; memory is what this
process grew by while an index was built, and the rows that the index keeps.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import psutil
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from actors.core.fusion import Vectors
from actors.core.types import InputError
from actors.index import IndexKind
from actors.run_dir import open_release
from configs.schema import Config
from pipelines.command_line import library_logs, run_app

QUERIES = Path(__file__).parents[1] / "catalogs" / "data" / "vague_aws" / "queries.jsonl"
FROZEN_RUN = Path("runs/frozen-all")
SEED = 1
KINDS: tuple[IndexKind, ...] = ("exact", "half", "hnsw")
SIZES = (1_000, 20_000, 100_000, 1_000_000)
NOISE = 0.01
"""Standard deviation of what is added to each number of a repeated vector of length 1."""
K, BATCH, SCAN_QUERIES = 10, 64, 256
MEASURED_S, LEAST_CALLS, EXPORT_TIMEOUT_S = 1.5, 5, 600.0

Given = TypeVar("Given")


@dataclass(frozen=True)
class Released:
    """What a run serves, as files."""

    run: Path
    config: Config
    encoder_dir: Path
    vectors: Path
    tool_ids: list[str]


def released(run: Path | None) -> Released:
    """The served retriever of ``run``; None: the frozen encoder over all of AWS, prepared if it is not there yet.

    Raises InputError for a folder that is no run, or one without release.
    """
    from actors.index import ENCODER_DIR, read_about

    if run is None:
        from pipelines.evaluate import progress_bars
        from pipelines.frozen_run import prepare_frozen

        with progress_bars() as watch:
            run = prepare_frozen(FROZEN_RUN, "aws", "all", watch)
    opened = open_release(str(run), "--run")
    if opened.store is None:
        raise InputError(f"--run {run}: give a run directory; without the option, the frozen encoder is measured")
    directory = opened.store.fetch("retriever", opened.retriever)
    return Released(run, opened.config, directory / ENCODER_DIR, directory / "vectors.npy", list(read_about(directory)["tool_ids"]))


def real_queries() -> list[str]:
    """Distinct queries that people wrote, shuffled, always alike."""
    lines = QUERIES.read_text(encoding="utf-8").splitlines()
    texts = list(dict.fromkeys(json.loads(line)["text"] for line in lines))
    random.Random(SEED).shuffle(texts)
    return texts


def recall(found: Sequence[Sequence[str]], exact: Sequence[Sequence[str]]) -> float:
    """Mean share of the exact answers that were found."""
    return statistics.fmean(len(set(mine) & set(right)) / len(right) for mine, right in zip(found, exact, strict=True))


def grown(vectors: Vectors, size: int) -> Vectors:
    """``size`` unit rows: some of ``vectors``, or all of them and noisy repetitions."""
    rng = np.random.default_rng(SEED)
    if size <= len(vectors):
        chosen: Vectors = vectors[np.sort(rng.choice(len(vectors), size, replace=False))]
        return chosen
    rows = np.empty((size, vectors.shape[1]), dtype=np.float32)
    rows[: len(vectors)] = vectors
    for start in range(len(vectors), size, len(vectors)):
        part = vectors[: size - start]
        moved = part + NOISE * rng.standard_normal(part.shape, dtype=np.float32)
        rows[start : start + len(part)] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return rows


def _ms(call: Callable[[Given], object], given: Sequence[Given]) -> float:
    """Median milliseconds of a call, after one that does not count."""
    call(given[-1])
    seconds, ends = list[float](), time.perf_counter() + MEASURED_S
    for each in itertools.cycle(given):
        started = time.perf_counter()
        call(each)
        ended = time.perf_counter()
        seconds.append(ended - started)
        if ended > ends and len(seconds) >= LEAST_CALLS:
            break
    return 1000 * statistics.median(seconds)


def _both(call: Callable[[Any], object], given: Any) -> tuple[float, float]:
    """Milliseconds a row of ``given``: one by one, and in batches of ``BATCH``."""
    alone = [given[i : i + 1] for i in range(len(given))]
    batches = [given[i : i + BATCH] for i in range(0, len(given) - BATCH + 1, BATCH)]
    return _ms(call, alone), _ms(call, batches) / BATCH


def measure(served: Released, console: Console) -> dict[str, Any]:
    """{"floor": milliseconds a query, "scan": a row for each size}; see ``tables``.

    Call ``library_logs`` before: it holds the tokenizer to one thread too.
    """
    from actors.onnx_encoder import OnnxEncoder

    texts, vectors = real_queries()[:SCAN_QUERIES], np.load(served.vectors)
    with tempfile.TemporaryDirectory(prefix="cohyde-bench-") as scratch, console.status("the floor: encoder and scan alone"):
        exported = Path(scratch) / "onnx"
        _export(served.encoder_dir, exported)
        encoder = OnnxEncoder(exported, served.config.encoder, 1)
        encode = _both(encoder.encode_queries, texts)
        queries = encoder.encode_queries(texts)
    own = _scanned("half", [str(i) for i in range(len(vectors))], vectors, queries)
    floor = {"encode_1_ms": encode[0], "encode_64_ms": encode[1], "scan_1_ms": own["half_1_ms"], "scan_64_ms": own["half_64_ms"]}
    del own
    rows = []
    for size in SIZES:
        with console.status(f"scanning {size:,} vectors"):
            rows.append(scan(vectors, size, queries))
    return {"floor": floor, "scan": rows}


def _export(encoder_dir: Path, directory: Path) -> None:
    """As the server does: in a process of its own, so that torch is not in this one."""
    command = [sys.executable, "-m", "actors.onnx_encoder", str(encoder_dir), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"the encoder in {encoder_dir} cannot be exported: {done.stderr.strip()[-2_000:]}")


def scan(vectors: Vectors, size: int, queries: Vectors) -> dict[str, Any]:
    """The figures of one size."""
    ids, rows = [str(i) for i in range(size)], grown(vectors, size)
    exact, half, hnsw = (_scanned(kind, ids, rows, queries) for kind in KINDS)
    right = exact.pop("found")
    recalls = {"half_recall_10": recall(half.pop("found"), right), "hnsw_recall_10": recall(hnsw.pop("found"), right)}
    return {"vectors": size, "real": min(size, len(vectors)), **exact, **half, **hnsw, **recalls}


def _scanned(kind: IndexKind, ids: list[str], rows: Vectors, queries: Vectors) -> dict[str, Any]:
    """Build, measure, search; with what was found for each query."""
    import faiss

    from actors.index import DenseIndex

    before, started = _memory(), time.perf_counter()
    # Only searches are held to one thread.
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    index = DenseIndex.build(ids, rows, kind)
    faiss.omp_set_num_threads(1)
    built = time.perf_counter() - started
    # An index that keeps the rows that it was made from holds them too.
    mb = _memory() - before + (rows.nbytes / 1e6 if index.vectors is rows else 0.0)
    alone, batched = _both(lambda some: index.search(some, K), queries)
    figures: dict[str, Any] = {f"{kind}_1_ms": alone, f"{kind}_64_ms": batched, f"{kind}_mb": mb}
    if kind == "hnsw":
        figures["hnsw_build_s"] = built
    return figures | {"found": index.search(queries, K)[0]}


def _memory() -> float:
    """Resident megabytes of this process."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


def tables(measured: dict[str, Any]) -> tuple[Table, Table]:
    """The floor, and a line for each size."""
    floor = measured["floor"]
    lowest = Table(box=box.SIMPLE_HEAD, title="Floor: no server, one thread, ms a query")
    for name in ("batch", "encode", "scan of 16 bits", "both"):
        lowest.add_column(name, justify="right")
    for batch in (1, BATCH):
        parts = floor[f"encode_{batch}_ms"], floor[f"scan_{batch}_ms"]
        lowest.add_row(str(batch), *(f"{ms:.2f}" for ms in (*parts, sum(parts))))
    title = "Scan: one thread, ms a query alone and in batches of 64; MB: resident memory of the index"
    by_size = Table(box=box.SIMPLE_HEAD, title=title)
    formats = {
        "exact_1_ms": "{:.3f}",
        "exact_64_ms": "{:.3f}",
        "exact_mb": "{:.0f}",
        "half_1_ms": "{:.3f}",
        "half_64_ms": "{:.3f}",
        "half_mb": "{:.0f}",
        "half_recall_10": "{:.4f}",
        "hnsw_1_ms": "{:.3f}",
        "hnsw_64_ms": "{:.3f}",
        "hnsw_mb": "{:.0f}",
        "hnsw_recall_10": "{:.3f}",
        "hnsw_build_s": "{:.0f}",
    }
    heads = (
        "exact, alone",
        "in 64s",
        "MB",
        "16 bits, alone",
        "in 64s",
        "MB",
        "recall@10",
        "HNSW, alone",
        "in 64s",
        "MB",
        "recall@10",
        "built in s",
    )
    for name in ("vectors", *heads):
        by_size.add_column(name, justify="right")
    for row in measured["scan"]:
        repeated = "" if row["real"] == row["vectors"] else " *"
        shown = (form.format(row[key]) for key, form in formats.items())
        by_size.add_row(f"{row['vectors']:,}{repeated}", *shown)
    by_size.caption = f"* the run's vectors, repeated with Gaussian noise of {NOISE} a number and brought to length 1 again"
    return lowest, by_size


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Run = Annotated[Path | None, typer.Option(help="A run directory; without it, the frozen encoder over all of AWS.")]


@app.command()
def command(run: Run = None) -> None:
    """Measure encoder and scan without a server; the last line is one JSON object."""
    with tempfile.TemporaryDirectory(prefix="cohyde-bench-") as scratch:
        library_logs(Path(scratch))
        measured = measure(released(run), Console(stderr=True))
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(*tables(measured))
    print(json.dumps(measured))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.speed.scan", arguments)


if __name__ == "__main__":
    sys.exit(main())
