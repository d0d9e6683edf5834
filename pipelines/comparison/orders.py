"""Rankings that order a raw one anew, each by a weight that dev gives it: ``reranked``, ``remembered``, and ``named``, in which
tools that another's description names follow it, in the reranked order where the run has a reranker.

Invariants: weights are fitted on dev, by the rules of ``fusion.fit_weight``; a weight of 0 leaves the ranking as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from actors import memory
from actors.core import fusion
from actors.core.named import NamedTools, followed
from actors.core.snapshots import SnapshotStore
from actors.core.types import LABELLED_KINDS, Corpus, Query, Weighed
from actors.lexical import Ranking
from actors.memory import Memory, recall_all
from actors.retriever import Retriever
from actors.run_dir import storage_root
from configs.schema import Config
from pipelines.comparison.likelihoods import Likelihoods
from pipelines.comparison.told import Told
from pipelines.evaluate import DEPTH


@dataclass
class Orders:
    """Of a run's dev and training queries; ``likelihoods``: what its reranker says, None where it trains none."""

    config: Config
    run_dir: Path
    corpus: Corpus
    likelihoods: Likelihoods | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """No model is loaded yet."""
        self._names = NamedTools(self.corpus.catalog.tools)
        if self.config.rewriter.rerank_rows:
            store = SnapshotStore(f"{storage_root(self.config, self.run_dir)}/snapshots")
            self.likelihoods = Likelihoods(self.config, store, self.corpus.catalog.by_id, self.run_dir)

    def of(self, mode: Weighed, retriever: Retriever, queries: Sequence[Query], told: Told) -> tuple[list[Ranking], float]:
        """The rankings of a mode, and the weight that it was given."""
        if mode == "remembered":
            weight, kept = self.memory_weight(retriever, told), self._memory(retriever, told)
            return [one.ranked(weight) for one in recall_all(retriever, kept, [q.text for q in queries], DEPTH)], weight
        weight = self.rerank_weight(retriever, told)
        found = self._reranked(retriever, queries, weight, told)
        if mode == "named":
            weight = self.named_weight(retriever, told)
            return [followed(ranking, self._named) if weight else ranking for ranking in found], weight
        return found, weight

    def rerank_weight(self, retriever: Retriever, told: Told) -> float:
        """Of the likelihood beside the cosine; 0 without a reranker."""
        if self.likelihoods is None:
            return 0.0
        dev = self.corpus.select("dev")
        return self.likelihoods.fit(dev, _raw(retriever, dev), told.of("reading tools of dev queries"))

    def memory_weight(self, retriever: Retriever, told: Told) -> float:
        """Of the nearness of labelled queries."""
        dev = self.corpus.select("dev")
        own = recall_all(retriever, self._memory(retriever, told), [q.text for q in dev], DEPTH)
        return fusion.fit_order(dev, fusion.MEMORY_WEIGHTS, lambda i, weight: own[i].ranked(weight))[0]

    def named_weight(self, retriever: Retriever, told: Told) -> float:
        """1 where named tools shall follow, else 0; by the dev queries that the reranker reads, by all where there is none."""
        dev = self.corpus.select("dev")
        if self.likelihoods is not None:
            dev = self.likelihoods.read_of(dev)
        found = self._reranked(retriever, dev, self.rerank_weight(retriever, told), told)
        return fusion.fit_order(dev, (1.0,), lambda i, weight: followed(found[i], self._named) if weight else found[i])[0]

    def _reranked(self, retriever: Retriever, queries: Sequence[Query], weight: float, told: Told) -> list[Ranking]:
        found = _raw(retriever, queries)
        if self.likelihoods is None:
            return found
        return self.likelihoods.rerank(queries, found, weight, told.of(f"reading tools of {len(queries)} queries"))

    def _named(self, tool_id: str) -> tuple[str, ...]:
        return self._names.of(self.corpus.catalog.by_id[tool_id])

    def _memory(self, retriever: Retriever, told: Told) -> Memory:
        labels = memory.labelled(self.corpus.select("train", LABELLED_KINDS))
        return Memory(labels, partial(retriever.vectors, progress=told.of("embedding labelled queries")))


def _raw(retriever: Retriever, queries: Sequence[Query]) -> list[Ranking]:
    return retriever.rank([q.text for q in queries], None, "raw", 0.0, DEPTH)
