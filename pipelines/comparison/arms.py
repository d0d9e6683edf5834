"""The comparison at the end of a run: every arm and round measured on test, the release chosen on dev, the files of the results.

Invariants: the fusion weight of each arm and round is fitted on dev, as is the choice of the release; test queries are read once,
for the table; files are written whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from actors import found, memory
from actors.core import fusion, ranking
from actors.core.limits import Limits
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, LABELLED_KINDS, Corpus, Mode, Query, Weighed
from actors.retriever import Retriever
from actors.run_dir import RELEASE_FILE, storage_root
from actors.scorer import Scorer
from configs.schema import Config
from pipelines import report
from pipelines.comparison import compare, grids
from pipelines.comparison.compare import REMEMBERED, RERANKED, ArmResult
from pipelines.comparison.orders import Orders
from pipelines.comparison.releasing import release_figures, told_release
from pipelines.comparison.rewrite_sets import RewriteSet
from pipelines.comparison.samples import Samples
from pipelines.comparison.told import Told
from pipelines.evaluate import PerQuery, evaluate_mode, measure
from pipelines.files import write_json, write_text, write_whole


@dataclass(frozen=True)
class Entry:
    """One line-up to measure: which retriever, whose rewrites, in which modes."""

    arm: str
    round: int | None
    retriever_arm: str
    retriever: int
    rewrites: RewriteSet | None
    modes: tuple[Mode | Weighed, ...]

    @property
    def name(self) -> str:
        """The arm, with its round where it has one."""
        return self.arm if self.round is None else f"{self.arm} {self.round}"


@dataclass
class Comparison:
    """Measures every arm of a finished run and writes what it found."""

    config: Config
    run_dir: Path
    corpus: Corpus
    precision: Literal["float32", "bfloat16"]
    dev_figures: list[dict[str, Any]] = field(default_factory=list, init=False)
    weights: dict[str, float] = field(default_factory=dict, init=False)
    orders: Orders = field(init=False)
    loaded: tuple[str, int, Retriever] | None = field(default=None, init=False)

    def finish(self, console: Console) -> Path:
        """Measure, write results.json, per_query.parquet, release.json, samples.json and report.html, print the table."""
        test = self.corpus.select("test")
        results: list[ArmResult] = []
        samples = Samples(self.corpus, self.config.seed)
        entries = list(self.entries())
        self.orders = Orders(self.config, self.run_dir, self.corpus)
        with console.status("Comparing the arms") as status:
            for done, entry in enumerate(entries):
                about = f"Comparing the arms: {entry.name} ({done + 1} of {len(entries)})"
                status.update(about)
                results += self._measure(entry, test, samples, Told(console, status, about))
            release = self._release(Told(console, status, "Choosing the release"))
        rows = compare.compare(results, test)
        directory = self.run_dir / "results"
        write_whole(directory / "per_query.parquet", lambda path: pq.write_table(_per_query(results), path))
        write_json(self.run_dir / "samples.json", samples.rows)
        write_json(self.run_dir / "results.json", rows)
        self._log_quality(rows)
        if release["memory_weight"]:
            labels = memory.labelled(self.corpus.select("train", LABELLED_KINDS))
            found.publish(storage_root(self.config, self.run_dir), labels, found.LABELS)
        write_json(self.run_dir / RELEASE_FILE, release)
        page = report.write(self.run_dir)
        grids.show(rows, console)
        console.print(told_release(release), highlight=False)
        if self.config.encoder.frozen:
            console.print("The encoder was frozen: what is called CoHyDE here is QTA.", highlight=False)
        return page

    def entries(self) -> Iterator[Entry]:
        """What is measured, arms in the order of the table."""
        units, baselines = self.config.loop.rounds, self.config.loop.baselines
        plain: tuple[Mode, ...] = ("raw", "hybrid")
        written: tuple[Mode, ...] = ("rewrite", "fused", "hybrid")
        # What names others is asked of the order that stands before: the reranked one where there is a reranker.
        second: tuple[Weighed, ...] = ("reranked", "named") if self.config.rewriter.rerank_rows else ()
        yield Entry("bm25", None, "cohyde", BASE_VERSION, None, ("bm25",))
        yield Entry("frozen", None, "cohyde", BASE_VERSION, None, (*plain, "remembered", *(() if second else ("named",))))
        for arm in ("zero_shot", "sft", *(["qta"] if "qta" in baselines else [])):
            modes = (*written, *(second if arm == "sft" else ()))
            yield Entry(arm, None, "cohyde", BASE_VERSION, RewriteSet(self.run_dir, arm, None), modes)
        if "encoder_alone" in baselines:
            yield Entry("encoder_alone", None, "encoder_alone", units, None, plain)
            if second:
                yield Entry(RERANKED, None, "encoder_alone", units, None, second)
            yield Entry(REMEMBERED, None, "encoder_alone", units, None, ("remembered",))
        for number in range(units + 1):
            rewrites = RewriteSet(self.run_dir, "cohyde", number)
            modes = ("raw", *written, *((*(second or ("named",)), "remembered") if number == units else ()))
            yield Entry("cohyde", number, "cohyde", self._retriever_of(number), rewrites, modes)

    def _retriever_of(self, number: int) -> int:
        return BASE_VERSION if self.config.encoder.frozen else number

    def _measure(self, entry: Entry, test: Sequence[Query], samples: Samples, told: Told) -> list[ArmResult]:
        retriever = self._retriever(entry)
        rewrites = entry.rewrites.read() if entry.rewrites else {}
        dev = self.corpus.select("dev")
        weight = self._fit(entry, retriever, dev, rewrites)
        results = []
        for mode in entry.modes:
            if mode == "reranked" or mode == "remembered" or mode == "named":
                ranked, weight_of_mode = self.orders.of(mode, retriever, test, told)
                results.append(ArmResult(entry.arm, entry.round, mode, measure(test, ranked), weight_of_mode))
                continue
            for split, queries in (("dev", dev), ("test", test)):
                texts = [rewrites[q.query_id] for q in queries] if rewrites and mode != "raw" else None
                per_query = evaluate_mode(retriever, queries, texts, mode, weight)
                if split == "dev":
                    self.dev_figures += _dev_figures(entry, mode, weight, queries, per_query)
                else:
                    results.append(ArmResult(entry.arm, entry.round, mode, per_query, weight if mode == "fused" else None))
        if entry.arm in ("frozen", "encoder_alone", "cohyde"):
            samples.add(entry.arm, entry.round, retriever, rewrites, weight)
        return results

    def _retriever(self, entry: Entry) -> Retriever:
        if self.loaded is None or self.loaded[:2] != (entry.retriever_arm, entry.retriever):
            base = storage_root(self.config, self.run_dir)
            if entry.retriever_arm != "cohyde":
                base += f"/arms/{entry.retriever_arm}"
            directory = SnapshotStore(f"{base}/snapshots").fetch("retriever", entry.retriever)
            retriever = Retriever.load(
                directory,
                self.config,
                self.corpus.catalog,
                version=entry.retriever,
                precision=self.precision,
                threads=os.cpu_count(),
            )
            self.loaded = (entry.retriever_arm, entry.retriever, retriever)
        return self.loaded[2]

    def _fit(self, entry: Entry, retriever: Retriever, dev: Sequence[Query], rewrites: dict[str, list[str]]) -> float:
        """The fusion weight of this arm and round, fitted on dev; 0 where it has no rewrites."""
        if not rewrites:
            return 0.0
        weight, _ = fusion.fit_weight(
            retriever.vectors([q.text for q in dev]),
            retriever.mean_vectors([rewrites[q.query_id] for q in dev]),
            retriever.dense.vectors,
            retriever.dense.tool_ids,
            dev,
        )
        self.weights[entry.name] = weight
        return weight

    def _release(self, told: Told) -> dict[str, Any]:
        """The record of the run's release: the round that is best on dev, or the frozen encoder where that is better."""
        figures = release_figures(self.dev_figures)
        best = max(figures, key=lambda number: (round(figures[number], 6), number))
        kept = None if best == BASE_VERSION else RewriteSet(self.run_dir, "cohyde", best)
        retriever = self._retriever(Entry("cohyde", best, "cohyde", self._retriever_of(best), kept, ()))
        weight = self.weights.get(f"cohyde {best}", 0.0)
        return {
            "rewriter": best,
            "retriever": self._retriever_of(best),
            "catalog": self.corpus.catalog.catalog_hash,
            "fusion_weight": weight,
            "rerank_weight": self.orders.rerank_weight(retriever, told),
            "memory_weight": self.orders.memory_weight(retriever, told),
            "named_follow": bool(self.orders.named_weight(retriever, told)),
            "limits": asdict(self._limits(retriever, kept.read() if kept else {}, weight)),
            "dev_ndcg5": figures,
        }

    def _limits(self, retriever: Retriever, rewrites: dict[str, list[str]], weight: float) -> Limits:
        """How much serving of a round should answer, fitted on dev."""
        scorer = Scorer(self.config, self.corpus.catalog, self.precision, os.cpu_count())
        scorer.use(retriever)
        dev = self.corpus.select("dev")
        return scorer.limits(dev, [rewrites[q.query_id] for q in dev] if rewrites else None, weight)

    def _log_quality(self, rows: Sequence[compare.Row]) -> None:
        """Replace the quality events of an earlier comparison of this run by those of this one."""
        path = self.run_dir / "metrics.jsonl"
        kept = [line for line in path.read_text().splitlines() if line and '"event": "quality"' not in line]
        now = path.stat().st_mtime
        events = [dict(row) | {"time": now, "event": "quality", "split": "test"} for row in rows if row["metric"] == "nDCG@5"]
        kept += [json.dumps(event) for event in [*events, *({"time": now, "event": "quality", **row} for row in self.dev_figures)]]
        write_text(path, "\n".join(kept) + "\n")


def _dev_figures(entry: Entry, mode: Mode, weight: float, queries: Sequence[Query], per_query: PerQuery) -> list[dict[str, Any]]:
    about = {"arm": entry.arm, "round": entry.round, "mode": mode, "split": "dev", "tools": "all", "metric": "nDCG@5"}
    figures = []
    for name in ("standard", "V1", "V2", "V3", "vague"):
        ids = [q.query_id for q in queries if name in (q.tier, q.kind)]
        if ids:
            figures.append(
                {**about, "slice": name, "n": len(ids), "weight": weight, "value": ranking.mean(per_query, ids)["nDCG@5"]}
            )
    return figures


def _per_query(results: Sequence[ArmResult]) -> pa.Table:
    rows = [
        {"arm": r.arm, "round": r.round, "mode": r.mode, "query_id": query_id, **values}
        for r in results
        for query_id, values in r.per_query.items()
    ]
    return pa.Table.from_pylist(rows)
