"""Quality of a release, or of the frozen encoder, on a benchmark: ``python -m pipelines.evaluate``.

Invariants: nothing is fitted here; the frozen encoder runs as published (float32, texts cut at its own maximum), a release as it is
served, so that what is unlike all that it was trained among is the frozen encoder's; a catalog that is not the release's is
embedded anew; results are written whole or not at all, at the end.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from actors.core import ranking
from actors.core.types import BASE_VERSION, Catalog, Corpus, InputError, Mode, Query, Split, Weighed
from actors.encoder import Encoder
from actors.hosts import RewriterModel, serving_rewrites
from actors.index import DenseIndex
from actors.index_builder import embed_catalog
from actors.interfaces import Progress
from actors.lexical import LexicalIndex, Ranking
from actors.models import native_precision, resolve_encoder, resolve_rewriter
from actors.retriever import Retriever
from actors.run_dir import FROZEN, OpenedRelease, open_release
from actors.scorer import context_titles
from configs.schema import CatalogConfig
from pipelines import catalogs
from pipelines.command_line import run_app
from pipelines.comparison.released import reordered
from pipelines.files import write_json, write_whole

DEPTH = 100
REWRITE_MODES = ("rewrite", "fused", "hybrid")
_SHOWN = ("nDCG@5", "nDCG@10", "R@5", "R@10", "COMP@5", "COMP@10", "Success@10", "RR")

PerQuery = dict[str, dict[str, float]]
"""Query id -> metric -> value (0..1)."""
Watch = Callable[[str], Progress]
"""From what is being done to where its progress is told."""


def evaluate_mode(
    retriever: Retriever, queries: Sequence[Query], rewrites: list[list[str]] | None, mode: Mode, fusion_weight: float
) -> PerQuery:
    """Every metric of every query; ``rewrites`` are those of each query (None where the mode needs none), rankings 100 deep."""
    rankings = retriever.rank([q.text for q in queries], rewrites, mode, fusion_weight, DEPTH)
    return measure(queries, rankings)


def measure(queries: Sequence[Query], rankings: Sequence[Ranking]) -> PerQuery:
    """Every metric of every query from its ranking."""
    run = {q.query_id: r for q, r in zip(queries, rankings, strict=True)}
    return ranking.evaluate(run, {q.query_id: q.gold for q in queries})


def load_benchmark(benchmark: str, services: str | None, release: OpenedRelease) -> Corpus:
    """All tools and queries of ``aws`` (``services`` if given, else the run's, else all) or of a folder, as ``beir:DIR``."""
    if benchmark != "aws" and services is not None:
        raise InputError(f"--services {services}: only the benchmark aws has services; leave the option out")
    chosen: Any = services if services in ("demo", "all") else services.split(",") if services else None
    if chosen is None:
        own = release.config.catalog
        chosen = own.services if own.source == "aws" else "all"
    return catalogs.load(CatalogConfig(source=benchmark, services=chosen), release.config.seed)


def select(corpus: Corpus, split: Split, benchmark: str) -> list[Query]:
    """The queries of one split. Raises InputError that names the splits there are."""
    queries = corpus.select(split)
    if not queries:
        present = ", ".join(s for s in ("train", "dev", "test") if any(q.split == s for q in corpus.queries))
        raise InputError(f"--split {split}: {benchmark} has no such queries; it has {present or 'none at all'}")
    return queries


def load_retriever(release: OpenedRelease, catalog: Catalog, watch: Watch) -> Retriever:
    """The release's retriever over ``catalog``."""
    config = release.config
    progress = watch(f"Embedding {len(catalog.tools)} tools")
    if release.store is not None:
        directory = release.store.fetch("retriever", release.retriever)
        precision = native_precision(config.precision)
        return Retriever.load(
            directory, config, catalog, version=release.retriever, precision=precision, threads=None, progress=progress
        )
    # The published model's own arithmetic: bfloat16 moves NDCG by up to 0.006 on a benchmark of 90 queries.
    encoder = Encoder(resolve_encoder(config.encoder.model), config.encoder, "float32", None)
    vectors, _ = embed_catalog(encoder, catalog, progress)
    dense = DenseIndex.build([t.tool_id for t in catalog.tools], vectors, config.encoder.index)
    return Retriever(BASE_VERSION, encoder, dense, catalog)


def make_rewrites(
    release: OpenedRelease, retriever: Retriever, catalog: Catalog, texts: Sequence[str], watch: Watch
) -> list[list[str]]:
    """The rewrites that the release's rewriter makes of the queries, context from its own retriever."""
    settings, progress = release.config.rewriter, watch(f"Rewriting {len(texts)} queries")
    contexts = context_titles(retriever, catalog, texts, settings.context_tools)
    with open_rewriter(release) as rewriter:
        return serving_rewrites(
            rewriter, texts, contexts, settings.eval_samples, settings.temperature, release.config.seed, progress
        )


@contextmanager
def open_rewriter(release: OpenedRelease) -> Iterator[RewriterModel]:
    """The release's rewriter, loaded; its engine ends with the context."""
    from actors.rewriter import Rewriter

    config = release.config
    rewriter = Rewriter(config.rewriter, native_precision(config.precision), os.cpu_count() or 1)
    try:
        if release.store is None or release.rewriter == BASE_VERSION:
            rewriter.load_base(resolve_rewriter(config.rewriter.model))
        else:
            rewriter.load_base(release.store.fetch("rewriter", 0))
            if release.rewriter > 0:
                rewriter.load_adapter(release.rewriter, release.store.fetch("rewriter", release.rewriter))
        yield rewriter
    finally:
        rewriter.close()


def summary(queries: Sequence[Query], per_query: PerQuery) -> dict[str, Any]:
    """Means of the metrics: ``overall``; ``by_tier`` and ``by_group`` with the number of queries, {} where no query has one."""
    tiers = list(dict.fromkeys(q.tier for q in queries))
    groups = list(dict.fromkeys(q.group for q in queries if q.group))
    return {
        "overall": ranking.mean(per_query),
        "by_tier": {} if tiers == ["standard"] else {t: _slice([q for q in queries if q.tier == t], per_query) for t in tiers},
        "by_group": {g: _slice([q for q in queries if q.group == g], per_query) for g in groups},
    }


def _slice(queries: Sequence[Query], per_query: PerQuery) -> dict[str, float]:
    return {"queries": len(queries), **ranking.mean(per_query, [q.query_id for q in queries])}


def per_query_table(
    queries: Sequence[Query], per_query: PerQuery, rankings: Sequence[Ranking], rewrites: Sequence[Sequence[str]] | None
) -> pa.Table:
    """One row a query: its slice, its metrics, its rewrites and the first ten tools."""
    rows = [
        {
            "query_id": q.query_id,
            "query": q.text,
            "tier": q.tier,
            "group": q.group,
            "novelty": q.novelty,
            **per_query[q.query_id],
            "gold": list(q.gold),
            "rewrites": list(rewrites[i]) if rewrites else [],
            "top": [tool_id for tool_id, _ in rankings[i][:10]],
        }
        for i, q in enumerate(queries)
    ]
    words = [(name, pa.string()) for name in ("query_id", "query", "tier", "group", "novelty")]
    lists = [(name, pa.list_(pa.string())) for name in ("gold", "rewrites", "top")]
    return pa.Table.from_pylist(rows, pa.schema([*words, *((m, pa.float64()) for m in ranking.METRICS), *lists]))


def run(
    benchmark: str,
    split: Split,
    release_name: str,
    mode: Mode | Weighed,
    *,
    services: str | None = None,
    watch: Watch,
) -> tuple[dict[str, Any], pa.Table]:
    """Evaluate; return the record of the JSON file and the per-query table. Raises InputError for wrong input."""
    start = time.perf_counter()
    release = open_release(release_name)
    corpus = load_benchmark(benchmark, services, release)
    queries = select(corpus, split, benchmark)
    texts = [q.text for q in queries]
    rewrites = None
    if mode == "bm25":
        tools = corpus.catalog.tools
        rankings = LexicalIndex([t.tool_id for t in tools], [t.document for t in tools]).search(texts, DEPTH)
    else:
        retriever = load_retriever(release, corpus.catalog, watch)
        retriever.vectors(texts, watch(f"Embedding {len(texts)} queries"))
        if mode == "reranked" or mode == "remembered" or mode == "named":
            rankings = reordered(mode, release_name, release, corpus.catalog, retriever, queries, DEPTH, watch)
        else:
            if mode in REWRITE_MODES:
                rewrites = make_rewrites(release, retriever, corpus.catalog, texts, watch)
            rankings = retriever.rank(texts, rewrites, mode, release.fusion_weight, DEPTH)
    per_query = measure(queries, rankings)
    record = {
        "benchmark": benchmark,
        "split": split,
        "release": release_name,
        "mode": mode,
        "queries": len(queries),
        "tools": len(corpus.catalog.tools),
        **summary(queries, per_query),
        "seconds": round(time.perf_counter() - start, 2),
    }
    return record, per_query_table(queries, per_query, rankings, rewrites)


def show(record: dict[str, Any]) -> Table:
    """The record as a table for the terminal, in percent."""
    title = "{benchmark}, {split}, {release}, {mode}: {queries} queries, {tools} tools, {seconds} s".format(**record)
    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    drawn.add_column("%")
    for metric in _SHOWN:
        drawn.add_column(metric, justify="right")
    lines = {"overall": record["overall"], **record["by_tier"], **record["by_group"]}
    for name, values in lines.items():
        drawn.add_row(name, *(f"{100 * values[m]:.1f}" for m in _SHOWN))
    return drawn


@contextmanager
def progress_bars() -> Iterator[Watch]:
    """Bars on stderr, one for each thing that is being done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = RichProgress(*columns, console=Console(stderr=True), transient=True)

    def watch(description: str) -> Progress:
        task = bars.add_task(description, total=None, visible=False)

        def progress(done: int, total: int) -> None:
            # Started at the first step: an error before it stays one line.
            if not bars.live.is_started:
                bars.start()
            bars.update(task, completed=done, total=total, visible=done < total)

        return progress

    try:
        yield watch
    finally:
        if bars.live.is_started:
            bars.stop()


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def evaluate(
    benchmark: Annotated[str, typer.Option(help="aws, or a folder as beir:DIR, toolret:DIR, mair:DIR, mtrb:DIR.")],
    release: Annotated[str, typer.Option(help="RUN_DIR[@version], or frozen.")] = FROZEN,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Which queries.")] = "test",
    mode: Annotated[
        Literal["bm25", "raw", "rewrite", "fused", "hybrid", "reranked", "remembered", "named"], typer.Option(help="How to rank.")
    ] = "raw",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    per_query: Annotated[Path | None, typer.Option(help="Per-query Parquet; by default beside the JSON file.")] = None,
    services: Annotated[str | None, typer.Option(help="aws: demo, all or names parted by commas; default the run's.")] = None,
) -> None:
    """Evaluate a release on a benchmark: a table here, figures to JSON, queries to Parquet."""
    for path in (json_file, per_query):
        if path is not None and path.is_dir():
            raise InputError(f"{path}: is a folder; give the name of a file")
    with progress_bars() as watch:
        record, table = run(benchmark, split, release, mode, services=services, watch=watch)
    parquet = per_query or (json_file.with_suffix(".parquet") if json_file else None)
    if parquet is not None:
        write_whole(parquet, lambda path: pq.write_table(table, path))
    if json_file is not None:
        write_json(json_file, record)
    # A pipe has no width of its own, and a narrow one would cut the columns' names.
    Console(width=None if sys.stdout.isatty() else 120).print(show(record))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.evaluate", arguments)


if __name__ == "__main__":
    sys.exit(main())
