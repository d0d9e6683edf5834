"""What the parts cost on this machine: ``python -m pipelines.speed.parts``; the last line is one JSON object with all figures.

Invariants: nothing is written but below a temporary directory. Index vectors are random (a scan costs the same whatever they hold);
queries, prompts and training rows are the catalog's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from actors.core.prompts import catalog_entry, rewrite_prompt
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, Catalog, InputError
from actors.models import native_precision, resolve_encoder, resolve_rewriter
from configs.load import load
from pipelines import catalogs, train_loops, warm_start
from pipelines.catalogs import requests
from pipelines.command_line import library_logs, run_app
from pipelines.ray_stages import Learner
from pipelines.speed.device import device_name, parameters, peak_memory_gb, product_gflops
from pipelines.speed.engines import Bench, Figures, drawn_contexts, labelled_texts, measure_engines

SEARCH_QUERIES = 512
SEARCH_BATCH = 32
INDEX_SIZES = {"3k": 3_000, "20k": 20_000}
TRAIN_STEPS = 3
START_TIMEOUT_S = 300.0


# Search ------------------------------------------------------------------------------------------------------------------------


def measure_search(bench: Bench) -> Figures:
    """Queries embedded and searched per second, in batches, for each size of index."""
    import numpy as np

    from actors.encoder import Encoder
    from actors.index import DenseIndex

    encoder = Encoder(bench.encoder_dir, bench.config.encoder, bench.precision, bench.threads)
    rng = np.random.default_rng(bench.config.seed)
    texts = (labelled_texts(bench.corpus) * SEARCH_QUERIES)[:SEARCH_QUERIES]
    figures: Figures = {}
    for name, size in INDEX_SIZES.items():
        vectors = rng.standard_normal((size, encoder.dimension), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        index = DenseIndex.build([str(i) for i in range(size)], vectors, bench.config.encoder.index)
        index.search(encoder.encode_queries(texts[:SEARCH_BATCH]), 10)
        started = time.perf_counter()
        for start in range(0, len(texts), SEARCH_BATCH):
            index.search(encoder.encode_queries(texts[start : start + SEARCH_BATCH]), 10)
        figures[f"search_qps_{name}"] = len(texts) / (time.perf_counter() - started)
    return figures


# Learners ----------------------------------------------------------------------------------------------------------------------


def measure_training(bench: Bench) -> Figures:
    """One optimizer step of the encoder's InfoNCE, the rewriter's SFT and DPO: seconds, pairs or tokens a second, and of the

    rewriter's, model operations (6 a weight and token: forward and backward; DPO's LoRA spares the weights' gradients and reads the
    reference instead) as a share of the rate of a matrix product on the same device; the peak of memory.
    """
    from transformers import AutoTokenizer

    from actors.encoder_trainer import EncoderTrainer
    from actors.rewriter_trainer import RewriterTrainer

    config, corpus, seed, share = bench.config, bench.corpus, bench.config.seed, bench.config.encoder.warm_start_share
    texts = requests.of_any_kind()
    encoder = EncoderTrainer(config.encoder, corpus.catalog, bench.encoder_dir, bench.precision, bench.threads, texts)
    rows, shares = warm_start.encoder_warm_start(corpus, share)
    step_s = encoder.train(rows, shares, TRAIN_STEPS, seed)["step_s"]
    figures: Figures = {"encoder_step_s": step_s, "encoder_pairs_per_s": config.encoder.pairs_per_step / step_s}
    figures |= {"device": device_name(), "encoder_memory_gb": peak_memory_gb()}
    del encoder
    gc.collect()
    tokenizer: Any = AutoTokenizer.from_pretrained(bench.rewriter_dir)
    settings = config.rewriter
    queries = warm_start.sft_queries(corpus, share, TRAIN_STEPS * settings.sft_rows_per_step, seed)
    sft_rows = warm_start.sft_rows(
        queries,
        dict(zip((q.query_id for q in queries), drawn_contexts(bench, len(queries)), strict=True)),
        lambda query, titles: rewrite_prompt(query, titles, tokenizer, settings.prompt_tokens),
        lambda tool_id: catalog_entry(corpus.catalog.by_id[tool_id]),
    )
    rewriter = RewriterTrainer(settings, bench.precision, bench.threads)
    pairs = [(row.prompt, row.target) for row in sft_rows]
    operations = 6 * parameters(bench.rewriter_dir) / (product_gflops(bench.precision) * 1e9)

    def told(name: str, metrics: Mapping[str, Any]) -> Figures:
        per_s = metrics["tokens_per_s"]
        own = {"step_s": metrics["step_s"], "tokens_per_s": per_s, "peak_share": operations * per_s, "memory_gb": peak_memory_gb()}
        return {f"{name}_{key}": value for key, value in own.items()}

    figures |= told("sft", rewriter.sft(bench.rewriter_dir, pairs, bench.scratch / "sft", seed))
    wanted = TRAIN_STEPS * settings.pairs_per_step
    preferences = [
        {"prompt": row.prompt, "chosen": row.target, "rejected": other.target, "chosen_reward": 1.0, "rejected_reward": 0.0}
        for row, other in zip(sft_rows, sft_rows[1:] + sft_rows[:1], strict=True)
    ][:wanted]
    return figures | told("dpo", rewriter.dpo(bench.rewriter_dir, None, preferences, bench.scratch / "dpo", seed))


# Actors ------------------------------------------------------------------------------------------------------------------------


def measure_starts(bench: Bench) -> Figures:
    """Seconds from asking for each actor until its model answers, one after another; learners until they ended again."""
    return {"start_s": asyncio.run(_starts(bench))}


async def _starts(bench: Bench) -> dict[str, float]:
    from actors import remote

    run_dir = bench.scratch / "run"
    store_root = str(bench.scratch / "snapshots")
    # The catalog's size is the index builder's work, not its start.
    few = replace(bench.corpus, catalog=Catalog(bench.corpus.catalog.tools[:64]), queries=())
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started

    async def answer(call: Any, whom: str) -> None:
        await remote.ask(call, START_TIMEOUT_S, f"the {whom}")

    started = time.perf_counter()
    with remote.cluster(bench.config, run_dir):
        seconds["cluster"] = time.perf_counter() - started
        shared, monitor = remote.share(few), remote.make_monitor(bench.scratch / "metrics.jsonl")
        given = (store_root, bench.precision, monitor)
        with timed("registry"):
            registry = remote.make_registry(store_root)
            await remote.wait_ready({"registry": registry}, START_TIMEOUT_S)
        with timed("index_builder"):
            builder = remote.make_index_builder(bench.config, shared, bench.encoder_dir, *given)
            await answer(builder.build.remote(BASE_VERSION), "index builder")
        with timed("scorer"):
            scorer = remote.make_scorer(bench.config, shared, *given)
            await answer(scorer.contexts.remote(BASE_VERSION, ["q"], 1), "scorer")
        with timed("rewriter"):
            rewriter = remote.make_rewriter(bench.config, bench.rewriter_dir, *given)
            await answer(rewriter.rewrite.remote(BASE_VERSION, ["q"], [[]], bench.config.seed), "rewriter")
        remote.end([registry, builder, scorer, rewriter])
        for kind, base_dir in (("encoder", bench.encoder_dir), ("rewriter", bench.rewriter_dir)):
            with timed(f"{kind}_learner"):
                feed = remote.make_feed()
                fixed = (bench.config, shared, base_dir, bench.precision, store_root, str(bench.scratch / "train"))
                learner = Learner(kind, feed, train_loops.fit(kind, *fixed, feed, monitor, f"{kind}-bench"))  # type: ignore[arg-type]
                learner.start()
                await learner.stop(START_TIMEOUT_S)
    assert SnapshotStore(store_root).has("retriever", BASE_VERSION)
    return seconds


# Command -----------------------------------------------------------------------------------------------------------------------

PARTS: dict[str, tuple[str, Callable[[Bench], Figures]]] = {
    # First: vLLM changes the environment of the processes that this one starts.
    "starts": ("Starting each actor", measure_starts),
    "search": ("Embedding and searching", measure_search),
    "training": ("Training steps of both learners", measure_training),
    "engines": ("Generating with both engines", measure_engines),
}

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def command(
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides, as rewriter.samples_per_query=8.")] = None,
    config: Annotated[str, typer.Option(help="YAML file whose sizes are measured.")] = "configs/demo.yaml",
    part: Annotated[list[str] | None, typer.Option(help=f"Only these parts: {', '.join(PARTS)}.")] = None,
) -> None:
    """Measure the parts; the last line is one JSON object with the figures."""
    chosen = part or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        raise InputError(f"--part {unknown[0]}: there is none of that name; it is one of {', '.join(PARTS)}")
    resolved = load(config, overrides or [])
    with tempfile.TemporaryDirectory(prefix="cohyde-bench-") as scratch:
        library_logs(Path(scratch))
        console = Console(stderr=True)
        bench = Bench(
            resolved,
            catalogs.load(resolved.catalog, resolved.seed),
            resolve_encoder(resolved.encoder.model),
            resolve_rewriter(resolved.rewriter.model),
            native_precision(resolved.precision),
            os.cpu_count() or 1,
            Path(scratch),
        )
        figures: Figures = {"precision": bench.precision, "threads": bench.threads}
        for name in PARTS:
            if name not in chosen:
                continue
            title, measure = PARTS[name]
            started = time.perf_counter()
            with console.status(title):
                measured = _rounded(measure(bench))
            print(f"{title} ({time.perf_counter() - started:.0f} s)")
            for key, value in measured.items():
                print(f"  {key:30} {value}")
            figures |= measured
    print(json.dumps(figures))


def _rounded(value: Any) -> Any:
    """Figures to four digits that count."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.speed.parts", arguments)


if __name__ == "__main__":
    sys.exit(main())
