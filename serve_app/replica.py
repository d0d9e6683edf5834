"""What one replica does: searches, feedback, changes of the catalog, and what it tells of itself. No ray, no HTTP.

Invariants: a client sees and changes tools of its namespaces alone; what blocks runs in a thread; what a client did wrong is a
``ProblemError``.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Mapping, Sequence

from actors.catalog_file import Entry, new_entry
from actors.run_dir import releases_of
from configs.serving import ServingConfig
from serve_app import plan
from serve_app.engine import Engine
from serve_app.keys import Client
from serve_app.problems import ProblemError
from serve_app.query_log import QueryLog
from serve_app.reranker import RerankCall, RerankClient
from serve_app.rewriter import Call, RewriteClient
from serve_app.schema.catalog import BulkRequest, ChangeAnswer, ToolAnswer, ToolBody
from serve_app.schema.operation import ReadyAnswer, ReleaseEntry, ReleasesAnswer
from serve_app.schema.search import (
    BatchAnswer,
    BatchRequest,
    FeedbackAnswer,
    FeedbackRequest,
    OutcomeFeedback,
    SearchAnswer,
    SearchRequest,
)
from serve_app.shadow import DEPTH, Shadow
from serve_app.view import View
from serve_app.watcher import Watcher

SOURCE = "api"
"""Where a tool comes from that a client added."""
RELEASES_SHOWN = 200

Observe = Callable[[str, float, Mapping[str, str]], None]
"""Takes a measurement: its name, its value, its labels."""


class Replica:
    """Everything that the routes call."""

    def __init__(
        self,
        settings: ServingConfig,
        call: Call | None,
        prepare: Callable[[int, Callable[[], None]], None],
        observe: Observe,
        rerank: RerankCall | None = None,
    ) -> None:
        """Load the served release. ``call`` asks the rewriter (None: there is none), ``prepare`` has it load a version ahead and
        tells when it has; ``rerank`` asks the reranker.

        Raises InputError where the run has no release that can be loaded.
        """
        self._settings, self._observe = settings, observe
        self._log = QueryLog(plan.query_log(settings), settings.log_file_bytes)
        self.rewriter = RewriteClient(call, settings.rewrite_timeout_s, settings.rewrites_kept)
        self._watcher = Watcher(settings, self._take, lambda version: prepare(version, self.rewriter.ready))
        reranker = RerankClient(rerank, settings.rerank_timeout_s, settings.rewrites_kept)
        self.engine = Engine(settings, self._watcher.view, self.rewriter, reranker, self._log)
        self._told_lost = 0
        self._shadow: Shadow | None = None
        if settings.shadow is not None:
            candidate = self._watcher.candidate(settings.shadow.release)
            self._shadow = Shadow(candidate.name, settings.shadow.share, functools.partial(self._by, candidate))
        self._watcher.start()

    def close(self) -> None:
        """Stop looking for news."""
        self._watcher.stop()
        self._log.close()

    async def search(self, request: SearchRequest, client: Client) -> SearchAnswer:
        """Answer a search."""
        answer = await self.engine.search(request, client)
        labels = {"mode": answer.mode, "release": answer.release}
        self._observe("cohyde_search_seconds", answer.timings.total_ms / 1000, labels)
        if answer.degraded:
            self._observe("cohyde_searches_degraded", 1, {"release": answer.release})
        if answer.abstained:
            self._observe("cohyde_searches_abstained", 1, {"release": answer.release})
        if self._log.lost != self._told_lost:
            self._told_lost = self._log.lost
            self._observe("cohyde_query_log_lost", self._log.lost, {})
        if self._shadow is not None:
            shown, visible = [tool.tool_id for tool in answer.tools], self.engine.visible(request, client)
            self._shadow.saw(_request(client, answer.request_id), request.query, visible, shown)
        return answer

    async def batch(self, request: BatchRequest, client: Client) -> BatchAnswer:
        """Answer several searches."""
        return BatchAnswer(answers=list(await asyncio.gather(*(self.search(one, client) for one in request.searches))))

    def feedback(self, request: FeedbackRequest, client: Client) -> FeedbackAnswer:
        """Write feedback to the query log. Raises ``ProblemError`` 503 where it cannot be written."""
        if not self._log.feedback(client, request.events):
            raise ProblemError(503, f"{self._log.broken}; send the feedback again later", headers={"Retry-After": "30"})
        if self._shadow is not None:
            for event in request.events:
                if isinstance(event, OutcomeFeedback) and event.result == "succeeded":
                    self._shadow.succeeded(_request(client, event.request_id), event.tool_id)
        return FeedbackAnswer(written=len(request.events))

    async def put(self, tool_id: str, body: ToolBody, client: Client) -> ChangeAnswer:
        """Add or replace a tool."""
        return await self._change([self._entry(tool_id, body, client)], [], client)

    async def delete(self, tool_id: str, client: Client) -> ChangeAnswer:
        """Take a tool out of the catalog. Raises ``ProblemError`` 404 where there is none that the client sees."""
        self._seen(tool_id, client)
        return await self._change([], [tool_id], client)

    async def bulk(self, request: BulkRequest, client: Client) -> ChangeAnswer:
        """Several changes at once; one that is not allowed refuses all."""
        for tool_id in request.deletes:
            self._seen(tool_id, client)
        entries = [self._entry(tool.tool_id, tool, client) for tool in request.upserts]
        return await self._change(entries, request.deletes, client)

    def tool(self, tool_id: str, client: Client) -> ToolAnswer:
        """One tool. Raises ``ProblemError`` 404."""
        entry = self._seen(tool_id, client)
        tool = entry.tool
        return ToolAnswer(
            tool_id=tool_id,
            name=tool.name,
            title=tool.title,
            namespace=tool.namespace,
            description=tool.description,
            input_schema=dict(entry.input_schema),
            content_hash=entry.content_hash,
            source=tool.source,
        )

    async def releases(self) -> ReleasesAnswer:
        """Releases of the run with what was decided of them."""
        entries = await asyncio.to_thread(self._release_entries)
        shadow = self._shadow.report() if self._shadow else None
        return ReleasesAnswer(served=self.engine.view.name, releases=entries, shadow=shadow)

    def ready(self) -> ReadyAnswer:
        """What answers now, and what is not as it should be."""
        view = self.engine.view
        degraded = [text for text in (self._watcher.refused, self._log.broken) if text]
        return ReadyAnswer(
            status="ready",
            release=view.name,
            tools=len(view.entries),
            rewriter=self.rewriter.state,
            reranker=self.engine.reranker.state,
            degraded=degraded,
        )

    def _take(self, view: View) -> None:
        self.engine.view = view
        self._observe("cohyde_release_changes", 1, {"release": view.name})

    async def _by(self, candidate: View, query: str, namespaces: tuple[str, ...] | None) -> list[str]:
        return await self.engine.ranking(candidate, query, DEPTH, namespaces)

    def _entry(self, tool_id: str, body: ToolBody, client: Client) -> Entry:
        if client.namespaces is not None and body.namespace not in client.namespaces:
            allowed = ", ".join(client.namespaces)
            raise ProblemError(403, f"namespace={body.namespace!r}: this key may change tools of {allowed} alone")
        known = self.engine.view.entries.get(tool_id)
        if known is not None and client.namespaces is not None and known.tool.namespace not in client.namespaces:
            raise ProblemError(409, f"tool_id={tool_id!r}: the name is taken; choose another")
        return new_entry(tool_id, body.name, body.title, body.description, body.namespace, body.input_schema.given(), SOURCE)

    def _seen(self, tool_id: str, client: Client) -> Entry:
        entry = self.engine.view.entries.get(tool_id)
        if entry is None or (client.namespaces is not None and entry.tool.namespace not in client.namespaces):
            raise ProblemError(404, f"there is no tool {tool_id!r}")
        return entry

    async def _change(self, upserts: Sequence[Entry], deletes: Sequence[str], client: Client) -> ChangeAnswer:
        if clash := {entry.tool.tool_id for entry in upserts} & set(deletes):
            raise ProblemError(409, f"deletes: {sorted(clash)[0]!r} is also among the upserts; leave it out of one of them")
        done = await asyncio.to_thread(self._watcher.change, upserts, deletes)
        self._observe("cohyde_catalog_changes", done.changed + done.deleted, {"tenant": client.tenant})
        return ChangeAnswer(
            changed=done.changed,
            deleted=done.deleted,
            unchanged=done.unchanged,
            embedded=done.embedded,
            tools=len(self.engine.view.entries),
        )

    def _release_entries(self) -> list[ReleaseEntry]:
        releases = releases_of(self._settings.run)
        served = releases.served()
        last = {entry["number"]: entry for entry in releases.audit()}
        found = []
        for number in releases.numbers()[: -RELEASES_SHOWN - 1 : -1]:
            release, decision = releases.get(number), last.get(number, {})
            found.append(
                ReleaseEntry(
                    number=number,
                    served=served is not None and served.number == number,
                    rewriter=release.rewriter,
                    retriever=release.retriever,
                    fusion_weight=release.fusion_weight,
                    figures=release.figures,
                    decision=decision.get("action", ""),
                    reason=decision.get("reason", ""),
                    time=decision.get("time"),
                )
            )
        return found


def _request(client: Client, request_id: str) -> str:
    """Request ids are each tenant's own."""
    return json.dumps([client.tenant, request_id])
