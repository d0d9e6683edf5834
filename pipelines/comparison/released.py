"""A release's own ways to order a raw ranking anew, over any catalog: with the weights that the release was given.

Invariants: nothing is fitted here; a release that lacks what a mode needs is refused in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from actors import found
from actors.core.named import NamedTools, followed
from actors.core.types import Catalog, InputError, Query, Weighed
from actors.interfaces import Progress
from actors.lexical import Ranking
from actors.memory import Memory, recall_all
from actors.retriever import Retriever
from actors.run_dir import OpenedRelease, root_of
from pipelines.comparison.likelihoods import likelihoods_of


def reordered(
    mode: Weighed,
    name: str,
    release: OpenedRelease,
    catalog: Catalog,
    retriever: Retriever,
    queries: Sequence[Query],
    depth: int,
    watch: Callable[[str], Progress],
) -> list[Ranking]:
    """The first ``depth`` tools of each query. Raises InputError where dev gave the release (opened by ``name``) no such mode."""
    texts = [query.text for query in queries]
    if mode == "remembered":
        if not release.memory_weight:
            raise InputError(f"--mode remembered: {name} has no labelled queries that dev gave a weight; use --mode raw")
        labels = found.read_labels(root_of(name, release))
        memory = Memory(labels, partial(retriever.vectors, progress=watch(f"Embedding {len(labels)} labelled queries")))
        return [one.ranked(release.memory_weight) for one in recall_all(retriever, memory, texts, depth)]
    rankings = retriever.rank(texts, None, "raw", 0.0, depth)
    reader = likelihoods_of(release, catalog.by_id)
    if reader is not None:
        rankings = reader.rerank(queries, rankings, release.rerank_weight, watch(f"Reading tools of {len(queries)} queries"))
    elif mode == "reranked":
        raise InputError(f"--mode reranked: {name} has no reranker that dev gave a weight; use --mode raw")
    if mode == "reranked":
        return rankings
    if not release.named_follow:
        raise InputError(f"--mode named: tools that others name showed no gain on the dev queries of {name}; use --mode raw")
    names = NamedTools(catalog.tools)
    return [followed(ranking, lambda tool_id: names.of(catalog.by_id[tool_id])) for ranking in rankings]
