"""Providers that training never meets: the namespaces of tools, a share of them kept out by hash.

Invariants: the same share keeps out the same providers, whatever the seed, and a larger share keeps out those of a smaller one too;
no dev or test query is called seen whose tools training does not have.
"""

from __future__ import annotations

from dataclasses import replace

from actors.core.types import Catalog, Corpus, InputError, Query
from pipelines.catalogs.aws_queries import by_hash, seen_only


def hold_out(corpus: Corpus, share: float) -> Corpus:
    """Without the training queries, of any kind, that have a gold tool of a provider held out.

    Dev and test queries whose gold tools all belong to such providers get the novelty "new provider"; a query called seen goes
    where none of its tools is left to training. ``share``: of all providers (0..1). Raises ``InputError`` where the catalog has
    fewer than two providers.
    """
    if not share:
        return corpus
    out = held_out(corpus.catalog, share)
    provider = {tool.tool_id: tool.namespace for tool in corpus.catalog.tools}
    queries: list[Query] = []
    for query in corpus.queries:
        among = [provider[tool_id] in out for tool_id in query.gold]
        if query.split != "train":
            queries.append(replace(query, novelty="new provider") if all(among) else query)
        elif not any(among):
            queries.append(query)
    return replace(corpus, queries=tuple(seen_only(queries)))


def held_out(catalog: Catalog, share: float) -> set[str]:
    """The providers that are held out: the first ``share`` of all in the order of their hashes, one at least."""
    providers = sorted({tool.namespace for tool in catalog.tools})
    if len(providers) < 2:
        raise InputError(
            f"catalog.unseen_providers={share}: the tools have {len(providers)} namespace, so none can be held out; set it to 0"
        )
    return set(sorted(providers, key=lambda name: by_hash(f"provider {name}"))[: max(1, round(share * len(providers)))])
