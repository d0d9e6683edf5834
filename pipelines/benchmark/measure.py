"""Figures of every seed on one part of a suite: by training on it, or by releases that were trained elsewhere.

Invariants: a seed that was run before with the same settings is not run again; what a part's test queries are is read here and
handed to nobody who trains or fits; a release is measured with the weight that its own dev queries gave it. Of a release that was
trained elsewhere, ``raw``, ``fused`` and ``hybrid`` show what its own encoder does whatever it finds, all else what serving does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from actors.core.limits import rewriting_pays
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, Corpus, InputError, Mode, Query
from actors.lexical import LexicalIndex
from actors.retriever import Retriever
from actors.run_dir import FROZEN, OpenedRelease, open_release, root_of
from configs.load import load as load_config
from configs.schema import CatalogConfig, Config
from pipelines import catalogs, evaluate
from pipelines.benchmark.aggregate import Figures, Line
from pipelines.benchmark.cost import Cost, costs
from pipelines.benchmark.suites import Part
from pipelines.comparison.likelihoods import likelihoods_of
from pipelines.comparison.released import reordered
from pipelines.evaluate import Watch
from pipelines.run_dirs import check_run_dir
from pipelines.units import ENCODER_ALONE

FIRST_SEED = 17
PER_QUERY = Path("results") / "per_query.parquet"


@dataclass(frozen=True)
class Measured:
    """What a part gave: figures of each seed, its queries, costs of each seed (none where nothing was trained)."""

    seeds: list[dict[Line, Figures]]
    queries: list[Query]
    costs: list[dict[str, Cost]]


def seed_range(count: int) -> range:
    """The seeds of ``count`` runs: the configurations' own first."""
    return range(FIRST_SEED, FIRST_SEED + count)


def trainable(part: Part, config: Config) -> bool:
    """Whether the part has queries of all three splits."""
    corpus = catalogs.load(config.catalog.model_copy(update={"source": part.source}), config.seed)
    return all(corpus.select(split) for split in catalogs.NEEDED_SPLITS)


def train(part: Part, config_file: str, overrides: Sequence[str], seeds: Sequence[int], out: Path) -> Measured:
    """Run the whole comparison once a seed, each in a process of its own. Raises InputError where one of them ends badly."""
    found: list[dict[Line, Figures]] = []
    spent: list[dict[str, Cost]] = []
    queries: dict[str, Query] = {}
    for seed in seeds:
        run_dir = out / f"seed-{seed}"
        given = [*overrides, f"run_dir={run_dir}", f"seed={seed}", f"catalog.source={part.source}"]
        config = load_config(config_file, given)
        if not (check_run_dir(run_dir, config) and (run_dir / PER_QUERY).is_file()):
            done = subprocess.run([sys.executable, "-m", "pipelines.cotrain", "--config", config_file, *given])
            if done.returncode:
                raise InputError(
                    f"--suite {part.name}: seed {seed} ended with exit code {done.returncode}; the same command goes on"
                )
        found.append(_per_query(run_dir / PER_QUERY))
        lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        spent.append(costs((json.loads(line) for line in lines if line), config))
        queries |= {q.query_id: q for q in catalogs.load(config.catalog, seed).select("test")}
    return Measured(found, list(queries.values()), spent)


def transfer(part: Part, releases: Sequence[str], watch: Watch) -> Measured:
    """Measure released models (a seed each), and what nobody trained, on a part that they never met."""
    opened = [open_release(name) for name in releases]
    corpus = catalogs.load(CatalogConfig(source=part.source), 0)
    queries = evaluate.select(corpus, "test", part.source)
    plain = {**_bm25(corpus, queries), **_raw("frozen", open_release(FROZEN), corpus, queries, watch)}
    seeds = [{**plain, **_release(name, release, corpus, queries, watch)} for name, release in zip(releases, opened, strict=True)]
    return Measured(seeds or [plain], queries, [])


def _per_query(path: Path) -> dict[Line, Figures]:
    found: dict[Line, dict[str, Mapping[str, float]]] = {}
    for row in pq.read_table(path).to_pylist():
        line = Line(row.pop("arm"), -1 if (number := row.pop("round")) is None else int(number), row.pop("mode"))
        found.setdefault(line, {})[row.pop("query_id")] = row
    return dict(found)


def _bm25(corpus: Corpus, queries: Sequence[Query]) -> dict[Line, Figures]:
    tools = corpus.catalog.tools
    index = LexicalIndex([t.tool_id for t in tools], [t.document for t in tools])
    return {Line("bm25", -1, "bm25"): evaluate.measure(queries, index.search([q.text for q in queries], evaluate.DEPTH))}


def _raw(arm: str, release: OpenedRelease, corpus: Corpus, queries: Sequence[Query], watch: Watch) -> dict[Line, Figures]:
    """A retriever alone."""
    retriever = evaluate.load_retriever(release, corpus.catalog, watch).trained()
    modes: tuple[Mode, ...] = ("raw", "hybrid")
    return {Line(arm, -1, mode): evaluate.evaluate_mode(retriever, queries, None, mode, 0.0) for mode in modes}


def _release(name: str, release: OpenedRelease, corpus: Corpus, queries: Sequence[Query], watch: Watch) -> dict[Line, Figures]:
    """CoHyDE as it was released, and the encoder alone of the same run where it has one."""
    retriever = evaluate.load_retriever(release, corpus.catalog, watch)
    trained = retriever.trained()
    found: dict[Line, Figures] = {Line("cohyde", -1, "raw"): evaluate.evaluate_mode(trained, queries, None, "raw", 0.0)}
    rewrites = None
    if release.fusion_weight > 0:
        rewrites = evaluate.make_rewrites(release, trained, corpus.catalog, [q.text for q in queries], watch)
    for mode in ("fused", "hybrid"):
        plain: Mode = "raw" if mode == "fused" else "hybrid"
        chosen: Mode = mode if rewrites else plain
        found[Line("cohyde", -1, mode)] = evaluate.evaluate_mode(trained, queries, rewrites, chosen, release.fusion_weight)
    found[Line("cohyde", -1, "auto")] = _auto(release, retriever, queries, found)
    if reader := likelihoods_of(release, corpus.catalog.by_id):
        rankings = retriever.rank([q.text for q in queries], None, "raw", 0.0, evaluate.DEPTH)
        ranked = reader.rerank(queries, rankings, release.rerank_weight, watch(f"Reading what {name} finds"))
        found[Line("cohyde", -1, "reranked")] = evaluate.measure(queries, ranked)
    if release.named_follow:
        ranked = reordered("named", name, release, corpus.catalog, retriever, queries, evaluate.DEPTH, watch)
        found[Line("cohyde", -1, "named")] = evaluate.measure(queries, ranked)
    store = SnapshotStore(f"{root_of(name, release)}/arms/{ENCODER_ALONE.name}/snapshots")
    if (newest := store.latest("retriever")) is not None:
        alone = OpenedRelease(ENCODER_ALONE.name, release.config, store, BASE_VERSION, newest, 0.0)
        found |= _raw(ENCODER_ALONE.name, alone, corpus, queries, watch)
    return found


def _auto(
    release: OpenedRelease, retriever: Retriever, queries: Sequence[Query], found: Mapping[Line, Figures]
) -> dict[str, Mapping[str, float]]:
    """Of each query the figures of the mode that serving would choose: what it finds unfamiliar is never rewritten."""
    texts = [q.text for q in queries]
    rankings = retriever.rank(texts, None, "raw", 0.0, evaluate.DEPTH)
    raw, fused = evaluate.measure(queries, rankings), found[Line("cohyde", -1, "fused")]
    paying = {
        query.query_id
        for query, ranking, frozen in zip(queries, rankings, retriever.asked(texts)[1], strict=True)
        if not frozen and rewriting_pays(ranking, release.limits)
    }
    return {q.query_id: (fused if q.query_id in paying else raw)[q.query_id] for q in queries}
