"""One search from question to answer, over the view of the moment.

Invariants: a search uses the one view that it began with; the raw result comes first and is what is answered where anything else
fails or is late; the log is written before the answer is returned. Belongs to one event loop; no ray here.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from actors.catalog_file import Entry
from actors.core.answers import explore, put_first, within_budget
from actors.core.fusion import reranked
from actors.core.limits import DEPTH, UNFITTED, Limits, adaptive_count, rewriting_pays
from actors.core.named import followed
from configs.serving import ServingConfig
from serve_app.batcher import Batcher
from serve_app.keys import Client
from serve_app.problems import ProblemError
from serve_app.query_log import QueryLog
from serve_app.reranker import RerankClient
from serve_app.rewriter import RewriteClient
from serve_app.schema.search import Explanation, FoundTool, SearchAnswer, SearchRequest, Timings, UsedMode
from serve_app.view import Ask, Ranked, View, plain_name

CHARACTERS_PER_TOKEN = 4
FURTHER = 10
"""Tools below an answer from which exploring draws."""
SHARED_WORDS = 8


@dataclass(frozen=True)
class Outcome:
    """How a search was ranked in the end."""

    ranked: Ranked
    mode: UsedMode
    rewrites: tuple[str, ...]
    degraded: str | None
    rewrite_ms: float | None = None
    rerank_ms: float | None = None
    likelihoods: dict[str, float] = field(default_factory=dict)
    """Of the query given a tool, where they were read."""


class Engine:
    """Answers searches; ``view`` is replaced by whoever watches the run."""

    def __init__(self, settings: ServingConfig, view: View, rewriter: RewriteClient, reranker: RerankClient, log: QueryLog) -> None:
        """``view`` is what answers until another takes its place."""
        self.view, self.rewriter, self.reranker, self.log = view, rewriter, reranker, log
        self._settings = settings
        # Half of a thread's fair part: in more the first wait for the last, in less scans are not shared.
        parts = 2 * settings.threads
        self._batcher: Batcher[tuple[View, Ask], Ranked] = Batcher(_rank, settings.batch_queries, "search", settings.threads, parts)
        self._rng = random.Random()

    async def search(self, request: SearchRequest, client: Client) -> SearchAnswer:
        """Answer one search. Raises ``ProblemError`` for what the client may not ask."""
        started, view = time.perf_counter(), self.view
        namespaces = self.visible(request, client)
        self._check(request, view, namespaces)
        read = view.release.config.retrieval.rerank_depth if self._to_read(request, view) else 0
        depth = min(max((request.k or DEPTH) + FURTHER, read), len(view.entries))
        remember = bool(view.release.memory_weight) and request.mode in ("auto", "remembered")
        raw = await self._batcher.submit((view, Ask(request.query, max(depth, 1), namespaces=namespaces, remember=remember)))
        outcome = _followed(view, await self._rank(request, view, raw, depth, namespaces), namespaces)
        search_ms = 1000 * (time.perf_counter() - started) - (outcome.rewrite_ms or 0.0) - (outcome.rerank_ms or 0.0)
        answer = self._answer(request, client, view, raw, outcome, namespaces)
        answer.timings = Timings(
            total_ms=round(1000 * (time.perf_counter() - started), 3),
            search_ms=round(search_ms, 3),
            rewrite_ms=None if outcome.rewrite_ms is None else round(outcome.rewrite_ms, 3),
            rerank_ms=None if outcome.rerank_ms is None else round(outcome.rerank_ms, 3),
        )
        return answer

    async def ranking(self, view: View, query: str, k: int, namespaces: tuple[str, ...] | None) -> list[str]:
        """The first tools of a raw ranking by any view."""
        found = await self._batcher.submit((view, Ask(query, k, namespaces=namespaces)))
        return [tool_id for tool_id, _ in found.ranking]

    def visible(self, request: SearchRequest, client: Client) -> tuple[str, ...] | None:
        """Namespaces that a search may see; None: all."""
        if client.namespaces is None:
            return None if request.namespaces is None else tuple(dict.fromkeys(request.namespaces))
        wanted = client.namespaces if request.namespaces is None else request.namespaces
        return tuple(n for n in dict.fromkeys(wanted) if n in client.namespaces)

    def _check(self, request: SearchRequest, view: View, namespaces: tuple[str, ...] | None) -> None:
        for tool_id in request.pinned:
            entry = view.entries.get(tool_id)
            if entry is None or not _sees(namespaces, entry):
                raise ProblemError(404, f"pinned: there is no tool {tool_id!r}; leave it out")

    async def _rank(
        self, request: SearchRequest, view: View, raw: Ranked, depth: int, namespaces: tuple[str, ...] | None
    ) -> Outcome:
        mode = self._mode(request, view, raw)
        if mode == "reranked":
            return await self._reranked(request, view, raw)
        if mode == "remembered":
            return _remembered(view, raw)
        weight = 1.0 if mode == "rewrite" else view.release.fusion_weight
        if mode == "raw" or (mode == "fused" and weight == 0):
            return Outcome(raw, mode, (), None)
        if weight == 0:
            ask = Ask(request.query, max(depth, 1), hybrid=True, namespaces=namespaces)
            return Outcome(await self._batcher.submit((view, ask)), mode, (), None)
        started = time.perf_counter()
        titles = [view.entries[t].tool.title for t, _ in raw.ranking[: view.release.config.rewriter.context_tools]]
        made = await self.rewriter.rewrite(view.release.rewriter, view.release.retriever, request.query, titles)
        rewrite_ms = 1000 * (time.perf_counter() - started)
        rewrites, degraded = ((), f"no rewrite: {made}") if isinstance(made, str) else (tuple(made), None)
        if not rewrites and mode != "hybrid":
            return Outcome(raw, "raw", (), degraded, rewrite_ms)
        ask = Ask(request.query, max(depth, 1), rewrites, weight, mode == "hybrid", namespaces)
        return Outcome(await self._batcher.submit((view, ask)), mode, rewrites, degraded, rewrite_ms)

    async def _reranked(self, request: SearchRequest, view: View, raw: Ranked) -> Outcome:
        """The first tools by cosine and how likely each makes the query; as they were found where that is not known in time."""
        weight = view.release.rerank_weight
        if not weight:
            return Outcome(raw, "raw", (), "not reranked: the release has no reranker that its dev queries gave a weight")
        started = time.perf_counter()
        first = [t for t, _ in raw.ranking[: view.release.config.retrieval.rerank_depth]]
        found = await self.reranker.likelihoods(request.query, [view.entries[t].tool for t in first])
        rerank_ms = 1000 * (time.perf_counter() - started)
        if isinstance(found, str):
            return Outcome(raw, "raw", (), f"not reranked: {found}", rerank_ms=rerank_ms)
        ordered = replace(raw, ranking=reranked(raw.ranking, found, weight))
        return Outcome(ordered, "reranked", (), None, rerank_ms=rerank_ms, likelihoods=dict(zip(first, found, strict=True)))

    def _to_read(self, request: SearchRequest, view: View) -> bool:
        """Whether the first tools are to be read: where that is asked for, or stands for ``auto`` and can be done."""
        by_itself = self._settings.auto_reranks and bool(view.release.rerank_weight) and self.reranker.state != "off"
        return request.mode == "reranked" or (request.mode == "auto" and by_itself)

    def _mode(self, request: SearchRequest, view: View, raw: Ranked) -> UsedMode:
        if self._to_read(request, view):
            return "reranked"
        if request.mode != "auto":
            return request.mode
        if view.release.memory_weight and not raw.frozen:
            return "remembered"
        pays = view.release.fusion_weight > 0 and rewriting_pays(raw.ranking, _limits(view, raw))
        return "fused" if pays else "raw"

    def _answer(
        self,
        request: SearchRequest,
        client: Client,
        view: View,
        raw: Ranked,
        outcome: Outcome,
        namespaces: tuple[str, ...] | None,
    ) -> SearchAnswer:
        limits = _limits(view, raw)
        exact = [t for t in view.by_name.get(plain_name(request.query), ()) if _sees(namespaces, view.entries[t])]
        least = limits.abstain_below if request.min_score is None else request.min_score
        top = raw.ranking[0][1] if raw.ranking else -1.0
        abstained = not exact and top < least
        found = [] if abstained else self._above(request, outcome, view)
        # How many are worth showing was fitted on cosines.
        scored = raw if outcome.mode in ("reranked", "remembered") else outcome.ranked
        count = request.k if request.k is not None else max(adaptive_count([s for _, s in scored.ranking], limits), len(exact))
        if request.k is None and outcome.mode == "reranked" and view.release.named_follow:
            # What the last of them names has its score, and is of no use without it: it comes along.
            while 0 < count < len(found) and found[count][1] == found[count - 1][1]:
                count += 1
        fixed = list(dict.fromkeys([*request.pinned, *exact]))
        ordered = put_first(found, exact, request.pinned, lambda t: view.cosines(raw.query, [t])[0])
        shown, further = ordered[: max(count, len(fixed))], ordered[max(count, len(fixed)) :]
        if request.max_tokens is not None:
            shown = shown[: within_budget([_tokens(view.entries[t]) for t, _ in shown], request.max_tokens)]
        first_free = max(1, len(fixed))
        shown, propensities, tried = explore(shown, further[:FURTHER], first_free, self._settings.explore_share, self._rng)
        request_id = uuid.uuid4().hex
        rows = [(t, score, p) for (t, score), p in zip(shown, propensities, strict=True)]
        self.log.search(request_id, client, request.query, request.train_on and client.train_on, view.name, rows)
        whole = request.detail == "full"
        tools = [_tool(view.entries[t], rank, score, whole) for rank, (t, score) in enumerate(shown, start=1)]
        if request.explain:
            self._explain(tools, request, view, outcome, exact, tried)
        return SearchAnswer(
            request_id=request_id,
            release=view.name,
            mode=outcome.mode,
            tools=tools,
            rewrites=list(outcome.rewrites),
            abstained=abstained,
            degraded=outcome.degraded,
            timings=Timings(total_ms=0.0, search_ms=0.0),
        )

    def _above(self, request: SearchRequest, outcome: Outcome, view: View) -> list[tuple[str, float]]:
        """Tools of the ranking with the cosine that was asked for; where scores are no cosines, the query's own count."""
        ranking = list(outcome.ranked.ranking)
        if request.min_score is None or request.min_score <= -1:
            return ranking
        scores = [s for _, s in ranking]
        if outcome.mode in ("hybrid", "reranked", "remembered") or view.release.named_follow:
            scores = view.cosines(outcome.ranked.query, [t for t, _ in ranking])
        return [found for found, score in zip(ranking, scores, strict=True) if score >= request.min_score]

    def _explain(
        self,
        tools: Sequence[FoundTool],
        request: SearchRequest,
        view: View,
        outcome: Outcome,
        exact: Sequence[str],
        tried: int | None,
    ) -> None:
        ids = [tool.tool_id for tool in tools]
        by_query = view.cosines(outcome.ranked.query, ids)
        rewrite = outcome.ranked.rewrite
        by_rewrite: Sequence[float | None] = [None] * len(ids) if rewrite is None else view.cosines(rewrite, ids)
        asked = _words(" ".join([request.query, *outcome.rewrites]))
        near = recalled.near if (recalled := outcome.ranked.recalled) and outcome.mode == "remembered" else {}
        for place, tool in enumerate(tools):
            tool.explanation = Explanation(
                query_cosine=round(by_query[place], 6),
                rewrite_cosine=None if (cosine := by_rewrite[place]) is None else round(cosine, 6),
                likelihood=outcome.likelihoods.get(tool.tool_id),
                nearness=near.get(tool.tool_id),
                named_by=_namer(tool, tools[:place], view) if view.release.named_follow else None,
                words=outcome.ranked.words.get(tool.tool_id),
                moved=tool.tool_id in view.moved,
                frozen=outcome.ranked.frozen,
                exact_name=tool.tool_id in exact,
                pinned=tool.tool_id in request.pinned,
                explored=place == tried,
                shared_words=sorted(asked & _words(view.entries[tool.tool_id].tool.document))[:SHARED_WORDS],
            )


def _limits(view: View, raw: Ranked) -> Limits:
    """The release's, which were fitted on its own encoder's cosines."""
    return UNFITTED if raw.frozen else view.release.limits


def _remembered(view: View, raw: Ranked) -> Outcome:
    """By cosine and the nearness of labelled queries."""
    if raw.recalled is None:
        return Outcome(raw, "raw", (), "nothing remembered: the release has no labelled queries that its dev queries gave a weight")
    return Outcome(replace(raw, ranking=raw.recalled.ranked(view.release.memory_weight)), "remembered", (), None)


def _followed(view: View, outcome: Outcome, namespaces: tuple[str, ...] | None) -> Outcome:
    """With the tools that descriptions name as to be called, where dev queries gain by them, among those that the search sees."""
    if not view.release.named_follow or outcome.mode in ("hybrid", "remembered"):
        return outcome

    def named(tool_id: str) -> list[str]:
        return [t for t in view.names.of(view.entries[tool_id].tool) if _sees(namespaces, view.entries[t])]

    return replace(outcome, ranked=replace(outcome.ranked, ranking=followed(outcome.ranked.ranking, named)))


def _namer(tool: FoundTool, above: Sequence[FoundTool], view: View) -> str | None:
    """The tool whose place and score this one shares, for it names it."""
    found = (one.tool_id for one in above if one.score == tool.score)
    return next((t for t in found if tool.tool_id in view.names.of(view.entries[t].tool)), None)


def _rank(asks: Sequence[tuple[View, Ask]]) -> list[Ranked]:
    """Asks of one view together; at a swap a batch may hold two."""
    found: dict[int, Ranked] = {}
    for view in {id(view): view for view, _ in asks}.values():
        mine = [i for i, (other, _) in enumerate(asks) if other is view]
        found |= dict(zip(mine, view.rank([asks[i][1] for i in mine]), strict=True))
    return [found[i] for i in range(len(asks))]


def _tool(entry: Entry, rank: int, score: float, whole: bool) -> FoundTool:
    tool = entry.tool
    # Every field is given, and ours: checking ten tools would be a good part of what an answer takes.
    return FoundTool.model_construct(
        tool_id=tool.tool_id,
        rank=rank,
        score=round(score, 6),
        name=tool.name,
        title=tool.title,
        namespace=tool.namespace,
        description=tool.description if whole else None,
        input_schema=dict(entry.input_schema) if whole else None,
        explanation=None,
    )


def _sees(namespaces: tuple[str, ...] | None, entry: Entry) -> bool:
    return namespaces is None or entry.tool.namespace in namespaces


def _tokens(entry: Entry) -> int:
    """About what a tool takes of a model's context."""
    schema = json.dumps(dict(entry.input_schema))
    return (len(entry.tool.name) + len(entry.tool.description) + len(schema)) // CHARACTERS_PER_TOKEN


_SMALL = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "i", "in", "is", "it", "its", "my", "of", "on", "or"}
)
_SMALL |= {"that", "the", "this", "to", "with", "you", "your"}
"""Words that say nothing of a tool."""


def _words(text: str) -> set[str]:
    return {word for word in ("".join(c if c.isalnum() else " " for c in text.lower())).split() if word not in _SMALL}
