"""Quality against what a query costs at once: ``python -m pipelines.benchmark.latency RUN_DIR``.

How many rewrites are joined to the query, and how many of the first tools are read, each with the milliseconds that one query alone
takes on this machine, and the quality that the run's test queries get for it.

Invariants: nothing is trained; each weight is fitted on dev for its own amount; rewrites are the run's own, and so are likelihoods
that it has read; times are medians of queries asked one after the other, and hold what comes before (of a rewrite, the search).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from matplotlib.figure import Figure
from rich.console import Console

from actors.core import fusion, ranking
from actors.core.types import InputError, Query
from actors.hosts import serving_rewrites
from actors.lexical import Ranking
from actors.run_dir import OpenedRelease, open_release
from actors.scorer import context_titles
from pipelines import catalogs, evaluate
from pipelines.command_line import run_app
from pipelines.comparison import grids
from pipelines.comparison.grids import Cell, Grid
from pipelines.comparison.likelihoods import Likelihoods
from pipelines.comparison.rewrite_sets import RewriteSet
from pipelines.evaluate import PerQuery, Watch, progress_bars
from pipelines.files import write_json, write_whole

TIMED_QUERIES = 16
KNOWN = "tools known"
"""Tools whose entries the reranker has read before, for another query or this one."""
METRIC = "nDCG@5"
SLICES = ("standard", "vague")
DEPTHS = (2, 4, 8, 12, 16, 24, 32, 48, 64)
"""Of reading, as far as the run itself read."""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Spent:
    """``amount`` of rewrites or tools read, what one query takes, the weight that dev gave, NDCG@5 (0..1) by slice."""

    line: str
    amount: int
    milliseconds: float
    weight: float
    values: dict[str, float]


@dataclass
class Bench:
    """A run's release over its own test queries."""

    run_dir: Path
    release: OpenedRelease
    watch: Watch

    def __post_init__(self) -> None:
        """Load catalog, queries and retriever."""
        config = self.release.config
        corpus = catalogs.load(config.catalog, config.seed)
        self.catalog = corpus.catalog
        self.dev, self.test = corpus.select("dev"), corpus.select("test")
        self.retriever = evaluate.load_retriever(self.release, corpus.catalog, self.watch)
        self.timed = self.test[:: max(1, len(self.test) // TIMED_QUERIES)][:TIMED_QUERIES]

    def raw(self) -> Spent:
        """The query alone."""
        encoder, dense = self.retriever.encoder, self.retriever.dense
        found = self.retriever.rank([q.text for q in self.test], None, "raw", 0.0, evaluate.DEPTH)
        took = timed(self.timed, lambda q: dense.search(encoder.encode_queries([q.text]), evaluate.DEPTH))
        return Spent("raw", 0, took, 0.0, self._values(evaluate.measure(self.test, found)))

    def rewritten(self, kept: dict[str, list[str]], before: float) -> list[Spent]:
        """One rewrite and more, as many as the run wrote for each query."""
        config, rows = self.release.config, []
        most = min(len(kept[q.query_id]) for q in self.test)
        titles = config.rewriter.context_tools
        contexts = {q.query_id: context_titles(self.retriever, self.catalog, [q.text], titles)[0] for q in self.timed}
        with evaluate.open_rewriter(self.release) as rewriter:
            for amount in range(1, most + 1):
                weight, _ = fusion.fit_weight(
                    self.retriever.vectors([q.text for q in self.dev]),
                    self.retriever.mean_vectors([kept[q.query_id][:amount] for q in self.dev]),
                    self.retriever.dense.vectors,
                    self.retriever.dense.tool_ids,
                    self.dev,
                )
                texts = [kept[q.query_id][:amount] for q in self.test]
                per_query = evaluate.evaluate_mode(self.retriever, self.test, texts, "fused", weight)

                def write(query: Query, amount: int = amount) -> object:
                    given = ([query.text], [contexts[query.query_id]], amount, config.rewriter.temperature, config.seed)
                    return serving_rewrites(rewriter, *given, lambda done, total: None)

                rows.append(Spent("rewrites", amount, before + timed(self.timed, write), weight, self._values(per_query)))
        return rows

    def reranked(self, before: float) -> list[Spent]:
        """The first tools read, a few and more of them, to the depth that the run read; then the same tools once more."""
        assert self.release.store is not None
        config, tools = self.release.config, self.catalog.by_id
        deepest, rows = config.retrieval.rerank_depth, []
        on_dev, on_test = (self._found(queries) for queries in (self.dev, self.test))
        for depth in (deepest, *(d for d in reversed(DEPTHS) if d < deepest)):
            retrieval = config.retrieval.model_copy(update={"rerank_depth": depth})
            reader = Likelihoods(config.model_copy(update={"retrieval": retrieval}), self.release.store, tools, self.run_dir)
            weight = reader.fit(self.dev, on_dev, self.watch(f"Reading {depth} tools of dev queries"))
            ranked = reader.rerank(self.test, on_test, weight, self.watch(f"Reading {depth} tools of test queries"))
            first = {
                q.query_id: [(q.text, tools[t]) for t, _ in found[:depth]] for q, found in zip(self.test, on_test, strict=True)
            }
            values = self._values(evaluate.measure(self.test, ranked))
            # A reranker of its own, which has kept nothing of these entries yet.
            model = Likelihoods(config, self.release.store, tools, None).reranker()
            for line in ("tools read", KNOWN):
                took = timed(self.timed, lambda q, m=model, f=first: m.likelihoods(f[q.query_id]))  # type: ignore[misc]
                rows.append(Spent(line, depth, before + took, weight, values))
        return sorted(rows, key=lambda row: (row.line == KNOWN, row.amount))

    def _found(self, queries: Sequence[Query]) -> list[Ranking]:
        return self.retriever.rank([q.text for q in queries], None, "raw", 0.0, evaluate.DEPTH)

    def _values(self, per_query: PerQuery) -> dict[str, float]:
        by_kind = {kind: [q.query_id for q in self.test if q.kind == kind] for kind in SLICES}
        return {kind: ranking.mean(per_query, ids)[METRIC] for kind, ids in by_kind.items() if ids}


def timed(queries: Sequence[Query], work: Callable[[Query], object]) -> float:
    """Milliseconds of one query, the median; the first query is done once before."""
    work(queries[0])
    took = []
    for query in queries:
        started = time.perf_counter()
        work(query)
        took.append(1000 * (time.perf_counter() - started))
    return median(took)


def grid(rows: Sequence[Spent]) -> Grid:
    """A line for each amount."""
    kinds = list(rows[0].values)
    lines = []
    for row in rows:
        label = row.line if row.line == "raw" else f"{row.line}: {row.amount}"
        cells = [f"{row.milliseconds:,.0f}", f"{row.weight:g}", *(f"{100 * row.values[kind]:.1f}" for kind in kinds)]
        lines.append((label, tuple(map(Cell, cells))))
    note = f"Medians of {TIMED_QUERIES} queries, one after the other, on {os.cpu_count()} cores. Weights are fitted on dev."
    columns = (("ms a query", ""), ("weight", ""), *((f"NDCG@5, {kind}", "") for kind in kinds))
    return Grid("Quality against what a query takes (%)", note, columns, tuple(lines))


def curve(rows: Sequence[Spent]) -> Figure:
    """NDCG@5 over milliseconds, a panel for each slice."""
    kinds = list(rows[0].values)
    figure = Figure(figsize=(4.2 * len(kinds), 3.2), layout="constrained")
    for place, kind in enumerate(kinds, start=1):
        axes = figure.add_subplot(1, len(kinds), place, title=kind, xlabel="ms a query", ylabel="NDCG@5 (%)", xscale="log")
        for line in dict.fromkeys(row.line for row in rows):
            own = [row for row in rows if row.line == line]
            axes.plot([r.milliseconds for r in own], [100 * r.values[kind] for r in own], marker="o", label=line)
            for row in own if line != "raw" else []:
                place_of = (row.milliseconds, 100 * row.values[kind])
                axes.annotate(str(row.amount), place_of, fontsize=7, xytext=(3, 3), textcoords="offset points")
        axes.legend(fontsize=7)
    return figure


@app.command()
def latency(
    run: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A finished run of rounds.")],
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path("runs/benchmark/latency"),
) -> None:
    """Measure what rewrites and reading cost a query, and what they give."""
    release = open_release(run, "RUN_DIR")
    kept = RewriteSet(Path(run), "cohyde", release.rewriter)
    if release.store is None or not kept.path.is_file():
        raise InputError(f"RUN_DIR {run}: has no rewrites of test queries; name the directory of a finished run of rounds")
    with progress_bars() as watch:
        bench = Bench(Path(run), release, watch)
        rows = [bench.raw()]
        rows += bench.rewritten(kept.read(), rows[0].milliseconds)
        if release.config.rewriter.rerank_rows:
            rows += bench.reranked(rows[0].milliseconds)
    write_json(out / "latency.json", [asdict(row) for row in rows])
    write_whole(out / "latency.svg", lambda path: curve(rows).savefig(path, format="svg"))
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(grids.draw(grid(rows)), "")
    console.print(f"Files: {out}/latency.json, latency.svg", highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.benchmark.latency", arguments)


if __name__ == "__main__":
    sys.exit(main())
