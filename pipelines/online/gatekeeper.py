"""From a trained pair to a release that is served, or kept with the reason.

Invariants: what judges was never trained on; the weight of the rewrites is fitted on one half of the dev queries and judged on the
other, both ways round; a version is judged once, also over restarts; figures of the rivals (the served release, the best that was
served, the frozen base) are for the very queries that the candidate is judged by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from actors.core.gate import Verdict, judge
from actors.core.replay import Example, query_of
from actors.core.types import BASE_VERSION, LABELLED_KINDS, LOG_KIND, Corpus, Query
from actors.releases import Release, Releases
from actors.run_dir import OpenedRelease
from configs.schema import Config
from pipelines.online.rereading import SLICE, Rereading

Ask = Callable[[Any, str], Awaitable[Any]]

BY = "gate"
FROZEN = Release(-1, BASE_VERSION, BASE_VERSION, "", 0.0, {})
LEAST_OF_LOG = 20
"""Held-out queries of users that make a slice: fewer would let single queries decide."""


class Gatekeeper:
    """Judges versions of one run."""

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        releases: Releases,
        rewriter: Any,
        scorer: Any,
        ask: Ask,
        held_out: Callable[[], Sequence[Example]],
        start: OpenedRelease | None = None,
        rereading: Rereading | None = None,
    ) -> None:
        """``rewriter`` and ``scorer`` are handles to hosts, the scorer the gate's own; ``ask`` waits for an answer of one, under
        its deadline, and names whom it waits for; ``held_out`` gives the users' queries that the gate keeps. ``start`` is
        the release the run started from, whose reranker and labelled queries it took over with their weights; where there is a
        reranker, ``rereading`` measures with it. Labelled queries help all that are compared alike, so they are left out.
        """
        self._config, self._releases, self._rewriter, self._scorer = config, releases, rewriter, scorer
        self._ask, self._held_out = ask, held_out
        self._start = start
        self._rereading = rereading
        self._catalog = corpus.catalog.catalog_hash
        self._dev = corpus.select("dev", LABELLED_KINDS)
        self._known: dict[int, dict[str, float]] = {}
        self._written: tuple[tuple[int, int] | None, dict[str, list[str]]] = (None, {})

    async def judge(self, version: int) -> dict[str, Any]:
        """Make release ``version`` of the pair of that version, and promote it or keep it; figures and reason for the metrics."""
        decided = next((e for e in self._releases.audit() if e["by"] == BY and e["number"] == version), None)
        if decided is not None:
            return {"promoted": decided["action"] == "promoted", "reason": decided["reason"]}
        log = [query_of(example) for example in self._held_out()]
        log = log if len(log) >= LEAST_OF_LOG else []
        candidate = Release(version, version, version, self._catalog, 0.0, {})
        if (start := self._start) is not None:
            candidate = replace(candidate, rerank_weight=start.rerank_weight, memory_weight=start.memory_weight)
            candidate = replace(candidate, named_follow=start.named_follow)
        candidate = replace(candidate, fusion_weight=await self._weight(candidate, self._dev))
        candidate = replace(candidate, limits=await self._limits(candidate))
        served = self._releases.served()
        rivals = {"frozen": FROZEN}
        if served is not None:
            rivals["served"] = self._releases.get(served.number)
            best = self._best()
            if best.number != served.number:
                rivals["best"] = best
        theirs = {name: await self._figures(rival, log) for name, rival in rivals.items()}
        figures = await self._figures(candidate, log)
        verdict = judge(figures, theirs, _slices([*self._dev, *log]), self._config.gate.tolerance)
        if verdict.promote and self._rereading is not None:
            verdict = await self._read_too(candidate, rivals, verdict, self._rereading)
        return self._decide(candidate, verdict, pinned=served is not None and served.pinned)

    async def _read_too(self, candidate: Release, rivals: Mapping[str, Release], verdict: Verdict, rereading: Rereading) -> Verdict:
        """The verdict with what reranking makes of it; apart from the others, for its queries are some of theirs."""
        theirs = {name: await rereading.figures(rival) for name, rival in rivals.items()}
        slices = {SLICE: [q.query_id for q in rereading.queries]}
        own = judge(await rereading.figures(candidate), theirs, slices, self._config.gate.tolerance)
        reason = f"{verdict.reason}, {own.reason.partition(': ')[2]}" if own.promote else own.reason
        return Verdict(own.promote, reason, (*verdict.comparisons, *own.comparisons))

    def _best(self) -> Release:
        """Of all that were ever served, the one with the best mean of dev's slices when it was judged."""
        numbers = {entry["number"] for entry in self._releases.audit() if entry["action"] == "promoted"}
        served = [self._releases.get(number) for number in sorted(numbers)]
        return max(served, key=lambda release: sum(release.figures.get(kind, 0.0) for kind in LABELLED_KINDS))

    def _decide(self, candidate: Release, verdict: Verdict, pinned: bool) -> dict[str, Any]:
        figures = {c.slice: c.candidate for c in verdict.comparisons}
        self._releases.add(replace(candidate, figures=figures))
        promote, reason = verdict.promote, verdict.reason
        if promote and pinned:
            promote, reason = False, f"a pin holds the served release ({reason})"
        if promote:
            self._releases.promote(candidate.number, BY, reason)
        else:
            self._releases.keep(candidate.number, BY, reason)
        gains = {f"{c.against}_{c.slice}_delta": c.difference for c in verdict.comparisons}
        return {"promoted": promote, "reason": reason, "fusion_weight": candidate.fusion_weight, **gains}

    async def _weight(self, release: Release, queries: Sequence[Query]) -> float:
        if not queries:
            return 0.0
        rewrites = await self._rewrites(release, queries)
        asked = self._scorer.fit_weight.remote(release.retriever, list(queries), rewrites)
        return float(await self._ask(asked, "the gate's scorer, which fits the weight of the rewrites"))

    async def _limits(self, release: Release) -> dict[str, float]:
        """How much serving should answer, fitted on dev."""
        rewrites = await self._rewrites(release, self._dev) if release.fusion_weight else None
        asked = self._scorer.limits.remote(release.retriever, list(self._dev), rewrites, release.fusion_weight)
        return asdict(await self._ask(asked, "the gate's scorer, which fits the limits of serving"))

    async def _figures(self, release: Release, log: Sequence[Query]) -> dict[str, float]:
        """nDCG@5 of each dev query, at the weight that the other half asks for, and of each of ``log`` at the release's own.

        What is known of a release is not computed again.
        """
        known = self._known.setdefault(release.number, {})
        if not known:
            for even in (True, False):
                judged = [q for q in self._dev if _even(q) == even]
                weight = 0.0 if release is FROZEN else await self._weight(release, [q for q in self._dev if _even(q) != even])
                known |= await self._measure(release, judged, weight)
        missing = [q for q in log if q.query_id not in known]
        known |= await self._measure(release, missing, release.fusion_weight)
        return {q.query_id: known[q.query_id] for q in (*self._dev, *log)}

    async def _measure(self, release: Release, queries: Sequence[Query], weight: float) -> dict[str, float]:
        if not queries:
            return {}
        rewrites = await self._rewrites(release, queries) if weight else None
        asked = self._scorer.figures.remote(release.retriever, list(queries), rewrites, weight)
        found = await self._ask(asked, "the gate's scorer, which measures a release")
        return dict(zip((q.query_id for q in queries), found, strict=True))

    async def _rewrites(self, release: Release, queries: Sequence[Query]) -> list[list[str]]:
        """The release's rewrites; those of dev are made once for the release that was asked for last."""
        key = (release.rewriter, release.retriever)
        if self._written[0] != key:
            self._written = (key, {})
        written = self._written[1]
        missing = [q for q in queries if q.query_id not in written]
        if missing:
            texts = [q.text for q in missing]
            asked = self._scorer.contexts.remote(release.retriever, texts, self._config.rewriter.context_tools)
            contexts = await self._ask(asked, "the gate's scorer, which gives prompts their context")
            asked = self._rewriter.serving_rewrites.remote(release.rewriter, texts, contexts, self._config.seed, "gate")
            made = await self._ask(asked, "the rewriter, which rewrites the gate's queries")
            written.update(zip((q.query_id for q in missing), made, strict=True))
        return [written[q.query_id] for q in queries]


def _even(query: Query) -> bool:
    """One half of the queries, by a hash of the need, so that wordings of one need stay together."""
    return hashlib.sha256(f"fit {query.need or query.query_id}".encode()).digest()[0] % 2 == 0


def _slices(queries: Sequence[Query]) -> dict[str, list[str]]:
    slices: dict[str, list[str]] = {"standard": [], "vague": [], LOG_KIND: []}
    for query in queries:
        slices[query.kind].append(query.query_id)
    return slices
