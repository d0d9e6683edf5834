"""What the rewriter turned round adds as a second score: ``python -m pipelines.benchmark.rerank RUN_DIR...``, a seed each.

For each finished run, the pretrained rewriter is trained from entry to query on the run's labelled training queries and reads the
first tools that the frozen encoder, the encoder alone and CoHyDE's release find; the weight of its likelihood is fitted on dev.

Invariants: the reranker learns from training queries alone; test queries are read once, for the table; what was trained or read is
not done again by the same command.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from actors.core.fusion import fit_rerank_weight, reranked
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, Corpus, InputError, Query
from actors.lexical import LexicalIndex, Ranking
from actors.models import native_precision, resolve_rewriter
from actors.run_dir import OpenedRelease, open_release, storage_root
from pipelines import catalogs, compare, evaluate, warm_start
from pipelines.arms import write_json, write_whole
from pipelines.benchmark import aggregate, tables
from pipelines.benchmark.aggregate import Figures, Line
from pipelines.command_line import run_app
from pipelines.compare import RERANKED
from pipelines.evaluate import Watch, progress_bars
from pipelines.units import ENCODER_ALONE

KIND, VERSION = "reranker", 0
LIKELIHOODS = Path("results") / "likelihoods.json"

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass
class Bench:
    """One run with its reranker."""

    name: str
    depth: int
    per_tier: int | None
    watch: Watch
    release: OpenedRelease = field(init=False)
    corpus: Corpus = field(init=False)
    likelihoods: dict[str, float] = field(default_factory=dict, init=False)
    weights: dict[str, float] = field(default_factory=dict, init=False)
    seconds: float = field(default=0.0, init=False)
    """Spent on reading them, for ``queries_scored`` queries."""
    queries_scored: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Open the run. Raises InputError where it has no release of its own."""
        self.release = open_release(self.name, "RUN_DIR")
        if self.release.store is None or self.release.retriever == BASE_VERSION:
            raise InputError(f"RUN_DIR {self.name}: has no encoder of its own that trained; name the directory of a finished run")
        catalog = self.release.config.catalog
        if self.per_tier is not None:
            catalog = catalog.model_copy(update={"max_test_queries_per_tier": self.per_tier})
        self.corpus = catalogs.load(catalog, self.release.config.seed)
        kept = self.run_dir / LIKELIHOODS
        self.likelihoods = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}

    @property
    def run_dir(self) -> Path:
        """Where the run is."""
        return Path(self.name)

    @property
    def store(self) -> SnapshotStore:
        """The run's snapshots."""
        assert self.release.store is not None
        return self.release.store

    def train(self, rows: int) -> None:
        """Publish the run's reranker, once. Raises InputError where it was trained on another number of rows."""
        if self.store.has(KIND, VERSION):
            known = self.store.manifest(KIND, VERSION)["rows"]
            if known != rows:
                raise InputError(f"--rows {rows}: the reranker of {self.name} was trained on {known}; give --rows {known}")
            return
        from actors.rewriter_trainer import RewriterTrainer

        config = self.release.config
        trainer = RewriterTrainer(config.rewriter, native_precision(config.precision), os.cpu_count())
        given = [(row.prompt, row.target) for row in warm_start.turned_rows(self.corpus, rows, config.seed)]
        progress, base = self.watch(f"Training the reranker of {self.name}"), resolve_rewriter(config.rewriter.model)

        # What another reranker said, whose snapshot was removed, is not what this one says.
        (self.run_dir / LIKELIHOODS).unlink(missing_ok=True)
        self.likelihoods = {}

        def write(directory: Path) -> None:
            trainer.sft(base, given, directory, config.seed, progress)

        self.store.publish(KIND, VERSION, write, {"rows": rows})

    def figures(self) -> dict[Line, Figures]:
        """Test figures of every line."""
        dev, test = self.corpus.select("dev"), self.corpus.select("test")
        tools = self.corpus.catalog.tools
        words = LexicalIndex([t.tool_id for t in tools], [t.document for t in tools])
        found: dict[Line, Figures] = {
            Line("bm25", -1, "bm25"): evaluate.measure(test, words.search([q.text for q in test], evaluate.DEPTH))
        }
        for plain, second, opened in self._retrievers():
            retriever = evaluate.load_retriever(opened, self.corpus.catalog, None, self.watch)
            on_dev, on_test = (retriever.rank([q.text for q in qs], None, "raw", 0.0, evaluate.DEPTH) for qs in (dev, test))
            own_dev, own_test = (self._likelihoods(q, r, plain.label) for q, r in ((dev, on_dev), (test, on_test)))
            weight, _ = fit_rerank_weight(on_dev, own_dev, dev)
            self.weights[second.label] = weight
            found[plain] = evaluate.measure(test, on_test)
            found[second] = evaluate.measure(test, [reranked(r, own, weight) for r, own in zip(on_test, own_test, strict=True)])
        return found

    def _retrievers(self) -> list[tuple[Line, Line, OpenedRelease]]:
        config = self.release.config
        root = storage_root(config, self.run_dir)
        alone = SnapshotStore(f"{root}/arms/{ENCODER_ALONE.name}/snapshots")
        newest = alone.latest("retriever")
        if newest is None:
            raise InputError(
                f"RUN_DIR {self.name}: has no encoder alone to compare with; run it with loop.baselines=[encoder_alone]"
            )
        opened = (
            OpenedRelease("frozen", config, self.store, BASE_VERSION, BASE_VERSION, 0.0),
            OpenedRelease(ENCODER_ALONE.name, config, alone, BASE_VERSION, newest, 0.0),
            self.release,
        )
        lines = (("frozen", "sft"), (ENCODER_ALONE.name, RERANKED), ("cohyde", "cohyde"))
        return [(Line(one, -1, "raw"), Line(two, -1, "reranked"), o) for (one, two), o in zip(lines, opened, strict=True)]

    def _likelihoods(self, queries: Sequence[Query], rankings: Sequence[Ranking], whose: str) -> list[list[float]]:
        """Of the first tools of each query; a pair that was read before is not read again."""
        from actors.reranker import Reranker

        reranker, tools = None, self.corpus.catalog.by_id
        progress, kept = self.watch(f"Reading what {whose} finds"), self.run_dir / LIKELIHOODS
        for done, (query, ranking) in enumerate(zip(queries, rankings, strict=True)):
            missing = [t for t, _ in ranking[: self.depth] if _key(query, t) not in self.likelihoods]
            if missing:
                if reranker is None:
                    config = self.release.config
                    reranker = Reranker(self.store.fetch(KIND, VERSION), native_precision(config.precision), os.cpu_count())
                started = time.perf_counter()
                values = reranker.likelihoods(query.text, [tools[t] for t in missing])
                if len(missing) == self.depth:
                    self.seconds, self.queries_scored = self.seconds + time.perf_counter() - started, self.queries_scored + 1
                self.likelihoods.update({_key(query, t): value for t, value in zip(missing, values, strict=True)})
            progress(done + 1, len(queries))
        if reranker is not None:
            write_json(kept, self.likelihoods)
        return [
            [self.likelihoods[_key(q, t)] for t, _ in ranking[: self.depth]] for q, ranking in zip(queries, rankings, strict=True)
        ]


def _key(query: Query, tool_id: str) -> str:
    return f"{query.query_id} {tool_id}"


@app.command()
def rerank(
    runs: Annotated[list[str], typer.Argument(metavar="RUN_DIR...", help="Finished runs, a seed each.")],
    rows: Annotated[int, typer.Option(help="Rows that the reranker trains on.", min=1)] = 2400,
    depth: Annotated[int, typer.Option(help="First tools of a query that are reranked.", min=2, max=100)] = 16,
    per_tier: Annotated[int | None, typer.Option(help="Dev and test queries of each tier; default the run's.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("runs/benchmark/rerank"),
) -> None:
    """Train a reranker for each run and measure rankings with and without it."""
    with progress_bars() as watch:
        benches = [Bench(name, depth, per_tier, watch) for name in runs]
        for bench in benches:
            bench.train(rows)
        seeds = [bench.figures() for bench in benches]
    queries = {q.query_id: q for bench in benches for q in bench.corpus.select("test")}
    cells = aggregate.cells(seeds, list(queries.values()))
    grids = [tables.quality(cells), tables.differences(cells)]
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for grid in grids:
        console.print(compare.draw(grid), "")
    facts = _facts(benches)
    for fact in facts:
        console.print(fact, highlight=False)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "rerank.json", {"cells": [asdict(cell) for cell in cells], "facts": facts})
    write_whole(out / "rerank.md", lambda path: _text(path, [*(compare.markdown_grid(grid) for grid in grids), *facts]))
    console.print(f"Files: {out}/rerank.json, rerank.md", highlight=False, soft_wrap=True)


def _facts(benches: Sequence[Bench]) -> list[str]:
    facts = [f"{b.name}: weight of the likelihood, fitted on dev: {_listed(b.weights)}" for b in benches]
    asked = sum(b.queries_scored for b in benches)
    if asked:
        seconds = sum(b.seconds for b in benches) / asked
        facts.append(f"Reading {benches[0].depth} tools took {1000 * seconds:.0f} ms a query on {os.cpu_count()} cores.")
    return facts


def _text(path: Path, parts: Sequence[str]) -> None:
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _listed(weights: Mapping[str, float]) -> str:
    return "; ".join(f"{name} {weight:g}" for name, weight in weights.items())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.benchmark.rerank", arguments)


if __name__ == "__main__":
    sys.exit(main())
