"""Quality against the size of the catalog, the same queries throughout: ``python -m pipelines.benchmark.sizes``.

A catalog of n tools holds every right tool of the test queries and n less those of the others, drawn by hash, so that a larger one
holds all of a smaller one.

Invariants: nothing is trained or fitted; rewrites are made once, their prompts' titles from the whole catalog.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from actors.core import ranking
from actors.core.types import Catalog, Corpus, InputError, Mode, Query
from actors.lexical import LexicalIndex
from actors.retriever import Retriever
from actors.run_dir import FROZEN, open_release
from pipelines import evaluate
from pipelines.benchmark import tables
from pipelines.benchmark.aggregate import Line
from pipelines.benchmark.tables import Point
from pipelines.command_line import run_app
from pipelines.comparison import grids
from pipelines.evaluate import Watch, progress_bars
from pipelines.files import write_json, write_whole

METRIC = "nDCG@5"
SIZES = "1000,5000,20000"

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def catalog_of(corpus: Corpus, queries: Sequence[Query], size: int) -> Catalog:
    """``size`` tools of the corpus, or all where it has fewer. Raises InputError where the right tools alone are more."""
    right = {tool_id for query in queries for tool_id in query.gold}
    if size < len(right):
        raise InputError(f"--sizes {size}: the test queries have {len(right)} right tools; give at least as many")
    others = sorted(
        (t.tool_id for t in corpus.catalog.tools if t.tool_id not in right), key=lambda t: hashlib.sha256(t.encode()).digest()
    )
    kept = right | set(others[: size - len(right)])
    return Catalog(tuple(t for t in corpus.catalog.tools if t.tool_id in kept))


def measure(
    corpus: Corpus,
    queries: Sequence[Query],
    sizes: Sequence[int],
    retrievers: Mapping[Line, tuple[Retriever, list[list[str]] | None, float]],
) -> list[Point]:
    """A point of each line, size and tier; beside a retriever stand its rewrites and their weight."""
    texts, rows = [q.text for q in queries], list[Point]()
    for size in sizes:
        catalog = catalog_of(corpus, queries, size)
        tools = catalog.tools
        words = LexicalIndex([t.tool_id for t in tools], [t.document for t in tools])
        found = {Line("bm25", -1, "bm25"): evaluate.measure(queries, words.search(texts, evaluate.DEPTH))}
        for line, (whole, rewrites, weight) in retrievers.items():
            mode: Mode = "fused" if rewrites else "raw"
            found[line] = evaluate.evaluate_mode(whole.over(catalog), queries, rewrites, mode, weight)
        for line, figures in found.items():
            for tier in dict.fromkeys(q.tier for q in queries):
                ids = [q.query_id for q in queries if q.tier == tier]
                value = ranking.mean(figures, ids)[METRIC]
                rows.append(Point(line.label, f"{len(tools):,}", tier, len(ids), value, 0.0))
    return rows


def _retrievers(release: str, corpus: Corpus, texts: list[str], watch: Watch) -> dict[Line, Any]:
    frozen, opened = open_release(FROZEN), open_release(release)
    own = evaluate.load_retriever(opened, corpus.catalog, watch)
    found: dict[Line, Any] = {
        Line("frozen", -1, "raw"): (evaluate.load_retriever(frozen, corpus.catalog, watch), None, 0.0),
        Line("cohyde", -1, "raw"): (own, None, 0.0),
    }
    if opened.fusion_weight > 0:
        rewrites = evaluate.make_rewrites(opened, own, corpus.catalog, texts, watch)
        found[Line("cohyde", -1, "fused")] = (own, rewrites, opened.fusion_weight)
    return found


@app.command()
def sizes(
    release: Annotated[str, typer.Option(help="RUN_DIR[@version].")],
    benchmark: Annotated[str, typer.Option(help="aws, or a folder as beir:DIR.")] = "aws",
    sizes: Annotated[str, typer.Option(help="Numbers of tools, parted by commas.")] = SIZES,
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path("runs/benchmark/sizes"),
) -> None:
    """Measure BM25, the frozen encoder and a release on catalogs of growing size."""
    wanted = [int(part) for part in sizes.split(",") if part.strip().isdecimal() and int(part) > 0]
    if len(wanted) != len(sizes.split(",")):
        raise InputError(f"--sizes {sizes}: give whole numbers above 0, parted by commas, as {SIZES}")
    with progress_bars() as watch:
        opened = open_release(release)
        corpus = evaluate.load_benchmark(benchmark, "all" if benchmark == "aws" else None, opened)
        queries = evaluate.select(corpus, "test", benchmark)
        catalog_of(corpus, queries, min(wanted))
        rows = measure(corpus, queries, sorted(wanted), _retrievers(release, corpus, [q.text for q in queries], watch))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "sizes.json", [asdict(point) for point in rows])
    write_whole(out / "sizes.svg", lambda path: tables.points_curve(rows, "tools").savefig(path, format="svg"))
    grid = tables.points(rows, "NDCG@5 by size of the catalog (%)")
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(grids.draw(grid), "")
    console.print(f"Files: {out}/sizes.json, sizes.svg", highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.benchmark.sizes", arguments)


if __name__ == "__main__":
    sys.exit(main())
