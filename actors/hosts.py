"""The long-lived owners of models: they take versions from the snapshot store and do one batch at a time. No ray here.

Invariants: every call names the version it wants, and a host that has another one loaded (also: one that was just restarted)
fetches it first, so what a host answers never depends on what it was asked before. A host makes its model at the first call, so
that ``health`` answers while weights load. Hosts are called from one thread for work and another for ``health``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from actors.core.fusion import Vectors
from actors.core.limits import Limits
from actors.core.snapshots import SnapshotStore
from actors.core.types import BASE_VERSION, Completion, Query, Score, Tool
from actors.interfaces import PairReader, Progress
from actors.lexical import Ranking
from actors.processes import give_back_memory
from actors.run_dir import RERANKER
from configs.schema import RewriterConfig

Report = Callable[[str], Progress]
"""From a stage's name to where its progress is told."""


class RewriterModel(Protocol):
    """What a host needs of ``actors.rewriter.Rewriter``."""

    def load_base(self, model_dir: Path) -> None:
        """Replace the base weights; no adapter is on."""

    def load_adapter(self, version: int, adapter_dir: Path) -> None:
        """Make an adapter the one that generates."""

    def rewrite(
        self,
        queries: Sequence[str],
        contexts: Sequence[Sequence[str]],
        samples: int,
        temperature: float,
        seed: int,
        progress: Progress,
    ) -> tuple[list[str], list[list[Completion]]]:
        """Prompts, and ``samples`` completions for each."""


class ScorerModel(Protocol):
    """What a host needs of ``actors.scorer.Scorer``."""

    def load(self, retriever_dir: Path, version: int) -> None:
        """Take another retriever."""

    def contexts(self, queries: Sequence[str], k: int) -> list[list[str]]:
        """Titles of the first ``k`` tools of each query."""

    def score(
        self, queries: Sequence[Query], rewrites: Sequence[Sequence[Completion]], progress: Progress | None = None
    ) -> list[list[Score]]:
        """One score for each rewrite."""

    def mine_negatives(self, queries: Sequence[Query], k: int) -> list[list[str]]:
        """Ids of hard wrong tools of each query."""

    def fit_weight(self, queries: Sequence[Query], rewrites: Sequence[Sequence[str]]) -> float:
        """The rewrites' weight that these queries show to gain."""

    def figures(self, queries: Sequence[Query], rewrites: Sequence[Sequence[str]] | None, weight: float) -> list[float]:
        """nDCG@5 of each query as it would be served."""

    def limits(self, queries: Sequence[Query], rewrites: Sequence[Sequence[str]] | None, weight: float) -> Limits:
        """How much serving should answer."""

    def rankings(self, queries: Sequence[str], depth: int) -> list[Ranking]:
        """The first tools of each query by its own vector."""

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Query vectors."""


Build = Callable[[Path, Path, Progress], dict[str, Any]]
"""Writes the retriever of an encoder's directory into an empty directory; returns metrics."""


class Host:
    """What all hosts share: the store, and being asked how they are."""

    def __init__(self, store_root: str, report: Report) -> None:
        """Open the store; no model is made yet."""
        self.store = SnapshotStore(store_root)
        self.report = report
        self.version: int | None = None

    def health(self) -> dict[str, Any]:
        """Process id and the loaded version (None before the first call)."""
        return {"pid": os.getpid(), "version": self.version}


class RewriterHost(Host):
    """Owns the LLM: version -1 is ``base_dir``, 0 the warm start's full weights, later ones adapters on 0."""

    def __init__(
        self, config: RewriterConfig, make: Callable[[], RewriterModel], base_dir: str, store_root: str, report: Report
    ) -> None:
        """``make`` makes the model without weights."""
        super().__init__(store_root, report)
        self._config, self._make, self._base_dir = config, make, Path(base_dir)
        self._model: RewriterModel | None = None
        self._base: int | None = None

    def prepare(self, version: int) -> float:
        """Load ``version`` ahead of its use, so that what is wrong with it shows here; return the seconds it took."""
        started = time.monotonic()
        self._ensure(version)
        return time.monotonic() - started

    def rewrite(
        self,
        version: int,
        queries: Sequence[str],
        contexts: Sequence[Sequence[str]],
        seed: int,
        stage: str = "generate",
        done: int = 0,
        total: int | None = None,
    ) -> tuple[list[str], list[list[Completion]]]:
        """Training rewrites by exactly ``version``: (prompts, ``samples_per_query`` sampled completions of each).

        ``done`` and ``total`` say where this batch stands in the stage, in queries.
        """
        model, config = self._ensure(version), self._config
        progress = part_of(self.report(stage), len(queries), done, len(queries) if total is None else total)
        return model.rewrite(queries, contexts, config.samples_per_query, config.temperature, seed, progress)

    def serving_rewrites(
        self,
        version: int,
        queries: Sequence[str],
        contexts: Sequence[Sequence[str]],
        seed: int,
        stage: str = "rewrite",
        done: int = 0,
        total: int | None = None,
    ) -> list[list[str]]:
        """Rewrites as evaluation and serving use them: ``eval_samples`` texts a query, the first greedy, the others sampled."""
        model, config = self._ensure(version), self._config
        progress = part_of(self.report(stage), len(queries), done, len(queries) if total is None else total)
        return serving_rewrites(model, queries, contexts, config.eval_samples, config.temperature, seed, progress)

    def _ensure(self, version: int) -> RewriterModel:
        if self._model is None:
            self._model = self._make()
        if version != self.version:
            base = min(version, 0)
            # Back from an adapter to version 0 the base is loaded anew, which also takes the adapter off.
            if base != self._base or version <= 0:
                self._model.load_base(self._base_dir if version == BASE_VERSION else self.store.fetch("rewriter", 0))
                self._base = base
            if version > 0:
                self._model.load_adapter(version, self.store.fetch("rewriter", version))
            self.version = version
            # The weights before these are free now.
            give_back_memory()
        return self._model


class ScorerHost(Host):
    """Owns a retriever: prompt contexts, scores of rewrites, hard negatives."""

    def __init__(self, make: Callable[[], ScorerModel], store_root: str, report: Report) -> None:
        """``make`` makes the scorer without a retriever."""
        super().__init__(store_root, report)
        self._make = make
        self._model: ScorerModel | None = None

    def prepare(self, version: int) -> float:
        """As ``RewriterHost.prepare``."""
        started = time.monotonic()
        self._ensure(version)
        return time.monotonic() - started

    def contexts(self, version: int, queries: Sequence[str], k: int) -> list[list[str]]:
        """Titles of the first ``k`` tools of each query, by retriever ``version``."""
        return self._ensure(version).contexts(queries, k)

    def score(
        self, version: int, queries: Sequence[Query], rewrites: Sequence[Sequence[Completion]], done: int, total: int
    ) -> list[list[Score]]:
        """One score for each rewrite, by retriever ``version``; ``done`` and ``total`` in queries."""
        return self._ensure(version).score(queries, rewrites, part_of(self.report("score"), len(queries), done, total))

    def mine_negatives(self, version: int, queries: Sequence[Query], k: int) -> list[list[str]]:
        """Ids of ``k`` hard wrong tools of each query, by retriever ``version``."""
        return self._ensure(version).mine_negatives(queries, k)

    def fit_weight(self, version: int, queries: Sequence[Query], rewrites: Sequence[Sequence[str]]) -> float:
        """The weight of the rewrites beside retriever ``version`` that these queries show to gain."""
        return self._ensure(version).fit_weight(queries, rewrites)

    def figures(
        self, version: int, queries: Sequence[Query], rewrites: Sequence[Sequence[str]] | None, weight: float
    ) -> list[float]:
        """nDCG@5 of each query as retriever ``version`` would serve it."""
        return self._ensure(version).figures(queries, rewrites, weight)

    def limits(self, version: int, queries: Sequence[Query], rewrites: Sequence[Sequence[str]] | None, weight: float) -> Limits:
        """How much serving by retriever ``version`` should answer."""
        return self._ensure(version).limits(queries, rewrites, weight)

    def rankings(self, version: int, queries: Sequence[str], depth: int) -> list[Ranking]:
        """The first ``depth`` tools of each query by its own vector, with their cosines, by retriever ``version``."""
        return self._ensure(version).rankings(queries, depth)

    def vectors(self, version: int, texts: Sequence[str]) -> Vectors:
        """Query vectors by retriever ``version``, [n, d]."""
        return self._ensure(version).vectors(texts)

    def _ensure(self, version: int) -> ScorerModel:
        if self._model is None:
            self._model = self._make()
        if version != self.version:
            self._model.load(self.store.fetch("retriever", version), version)
            self.version = version
            # The retriever before this one is free now.
            give_back_memory()
        return self._model


class RerankerHost(Host):
    """Owns the rewriter turned round, of which a run has one version: 0."""

    def __init__(self, make: Callable[[Path], PairReader], store_root: str, report: Report) -> None:
        """``make`` loads the model of a directory."""
        super().__init__(store_root, report)
        self._make = make
        self._model: PairReader | None = None

    def likelihoods(self, pairs: Sequence[tuple[str, Tool]], stage: str) -> list[float]:
        """Of each query given its tool's entry (``actors.reranker.Reranker``); ``stage`` is told how far it is, in pairs."""
        if self._model is None:
            self._model = self._make(self.store.fetch(RERANKER, 0))
            self.version = 0
        return self._model.likelihoods(pairs, self.report(stage))


class IndexBuilderHost(Host):
    """Makes retrievers of encoders: version -1 from ``base_dir``, others from the encoder snapshot of the same version."""

    def __init__(self, make: Callable[[], Build], base_dir: str, store_root: str, report: Report) -> None:
        """``make`` makes the builder, which knows the catalog."""
        super().__init__(store_root, report)
        self._make, self._base_dir = make, Path(base_dir)
        self._build: Build | None = None

    def build(self, version: int) -> dict[str, Any]:
        """Publish retriever ``version`` (nothing to do where it is published); return the build's metrics."""
        started = time.monotonic()
        if not self.store.has("retriever", version):
            encoder_dir = self._base_dir if version == BASE_VERSION else self.store.fetch("encoder", version)
            build = self._build = self._build or self._make()
            metrics: dict[str, Any] = {}

            def write(directory: Path) -> None:
                metrics.update(build(encoder_dir, directory, self.report("index")))

            self.store.publish("retriever", version, write, {"parents": {"encoder": version}, "metrics": metrics})
            give_back_memory()
        self.version = version
        metrics = self.store.manifest("retriever", version)["metrics"]
        return {**metrics, "index_s": time.monotonic() - started}


def serving_rewrites(
    rewriter: RewriterModel,
    queries: Sequence[str],
    contexts: Sequence[Sequence[str]],
    samples: int,
    temperature: float,
    seed: int,
    progress: Progress,
) -> list[list[str]]:
    """The ``samples`` rewrites of each query that serving would make: the first greedy, the others sampled.

    ``progress`` counts rewrites, over both passes.
    """
    _, greedy = rewriter.rewrite(queries, contexts, 1, 0.0, seed, lambda done, total: progress(done, total * samples))
    if samples == 1:
        return [[c.text for c in found] for found in greedy]

    def after_greedy(done: int, total: int) -> None:
        progress(total + done * (samples - 1), total * samples)

    _, sampled = rewriter.rewrite(queries, contexts, samples - 1, temperature, seed, after_greedy)
    return [[c.text for c in (*first, *more)] for first, more in zip(greedy, sampled, strict=True)]


def part_of(progress: Progress, size: int, done: int, total: int) -> Progress:
    """The ``Progress`` of a batch of ``size`` that begins at ``done`` of ``total``, whatever unit the batch counts in."""

    def scaled(batch_done: int, batch_total: int) -> None:
        progress(done + (size * batch_done // batch_total if batch_total else 0), total)

    return scaled
