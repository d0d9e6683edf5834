"""What a run's reranker says of the first tools of queries, and the weight that this deserves beside the cosine.

Invariants: a pair of query and tool is read once in a run, whoever found the tool, and kept beside the run's results with the
reranker that said it; the weight is fitted on dev.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from actors.core.fusion import fit_rerank_weight, reranked
from actors.core.snapshots import SnapshotStore
from actors.core.types import Query, Tool
from actors.interfaces import Progress
from actors.lexical import Ranking
from actors.models import native_precision
from actors.run_dir import RERANKER, OpenedRelease
from configs.schema import Config
from pipelines.files import write_json

if TYPE_CHECKING:
    from actors.reranker import Reranker

KEPT = Path("results") / "likelihoods.json"
DEV_QUERIES = 96
"""Dev queries that the weight is fitted on: reading a query's tools takes a second or two on a CPU."""


@dataclass
class Likelihoods:
    """The reranker of ``store`` over ``tools`` (by id); ``run_dir`` None keeps nothing."""

    config: Config
    store: SnapshotStore
    tools: Mapping[str, Tool]
    run_dir: Path | None
    known: dict[str, float] = field(default_factory=dict, init=False)
    model: Reranker | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Take what this very reranker said before."""
        self._stamp = str(self.store.manifest(RERANKER, 0)["published"])
        if self.run_dir and (self.run_dir / KEPT).is_file():
            kept = json.loads((self.run_dir / KEPT).read_text(encoding="utf-8"))
            self.known = kept["likelihoods"] if kept["reranker"] == self._stamp else {}

    @property
    def depth(self) -> int:
        """First tools of a query that are read."""
        return self.config.retrieval.rerank_depth

    def of(self, queries: Sequence[Query], rankings: Sequence[Ranking], progress: Progress) -> list[list[float]]:
        """Mean log-likelihood of a token of each query given each of its first tools, in nats (``actors.reranker``)."""
        asked = {_key(q, t): (q.text, self.tools[t]) for q, r in zip(queries, rankings, strict=True) for t, _ in r[: self.depth]}
        missing = [key for key in asked if key not in self.known]
        if missing:
            values = self.reranker().likelihoods([asked[key] for key in missing], progress)
            self.known.update(zip(missing, values, strict=True))
            if self.run_dir:
                write_json(self.run_dir / KEPT, {"reranker": self._stamp, "likelihoods": self.known})
        return [[self.known[_key(q, t)] for t, _ in ranking[: self.depth]] for q, ranking in zip(queries, rankings, strict=True)]

    def rerank(self, queries: Sequence[Query], rankings: Sequence[Ranking], weight: float, progress: Progress) -> list[Ranking]:
        """The rankings with their first tools ordered anew; nothing is read where the weight is 0."""
        if not weight:
            return list(rankings)
        own = self.of(queries, rankings, progress)
        return [reranked(ranking, values, weight) for ranking, values in zip(rankings, own, strict=True)]

    def fit(self, dev: Sequence[Query], rankings: Sequence[Ranking], progress: Progress) -> float:
        """The weight that dev queries give the likelihood; 0 where they show no gain."""
        ranking_of = {query.query_id: ranking for query, ranking in zip(dev, rankings, strict=True)}
        chosen = self.read_of(dev)
        found = [ranking_of[query.query_id] for query in chosen]
        weight, _ = fit_rerank_weight(found, self.of(chosen, found, progress), chosen)
        return weight

    def read_of(self, dev: Sequence[Query]) -> list[Query]:
        """Those of the dev queries that weights are fitted on."""
        return [dev[i] for i in sorted(random.Random(self.config.seed).sample(range(len(dev)), min(DEV_QUERIES, len(dev))))]

    def reranker(self) -> Reranker:
        """The model, loaded at its first use."""
        if self.model is None:
            from actors.reranker import Reranker

            self.model = Reranker(self.store.fetch(RERANKER, 0), native_precision(self.config.precision), os.cpu_count())
        return self.model


def likelihoods_of(release: OpenedRelease, tools: Mapping[str, Tool]) -> Likelihoods | None:
    """Of a release, over any catalog; None where it has no reranker or dev gave that no weight."""
    if release.store is None or not release.rerank_weight:
        return None
    return Likelihoods(release.config, release.store, tools, None)


def _key(query: Query, tool_id: str) -> str:
    return f"{query.query_id} {tool_id}"
