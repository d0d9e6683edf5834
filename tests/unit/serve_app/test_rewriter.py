from __future__ import annotations

import asyncio
from collections.abc import Sequence

from serve_app.rewriter import RewriteClient, RewriteServer
from serve_app.time_box import ModelGoneError


class Host:
    """Writes the query in capitals; notes what was generated together."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[str]]] = []
        self.prepared: list[int] = []

    def serving_rewrites(self, version: int, queries: list[str], contexts: list[Sequence[str]], seed: int) -> list[list[str]]:
        self.batches.append((version, queries))
        return [[f"{version} {query.upper()} {len(titles)}"] for query, titles in zip(queries, contexts, strict=True)]

    def prepare(self, version: int) -> float:
        self.prepared.append(version)
        return 0.0


def test_queries_of_one_version_are_generated_together_and_versions_never_mix() -> None:
    host = Host()

    async def run() -> list[list[str]]:
        server = RewriteServer(host)  # type: ignore[arg-type]
        await server.prepare(3)
        return list(await asyncio.gather(*(server.rewrite(v, q, ["t"]) for v, q in ((1, "a"), (2, "b"), (1, "c")))))

    assert asyncio.run(run()) == [["1 A 1"], ["2 B 1"], ["1 C 1"]]
    assert host.prepared == [3]
    assert sorted(host.batches) == [(1, ["a", "c"]), (2, ["b"])]


def test_a_rewrite_is_made_once_for_a_rewriter_and_a_retriever() -> None:
    asked: list[tuple[int, str]] = []

    async def call(version: int, query: str, titles: Sequence[str]) -> list[str]:
        asked.append((version, query))
        return ["text", " "]

    async def run() -> None:
        client = RewriteClient(call, 1.0, 2)
        both = await asyncio.gather(client.rewrite(1, 1, "q", []), client.rewrite(1, 1, "q", []))
        assert both == [["text"], ["text"]]
        assert await client.rewrite(1, 1, "q", []) == ["text"]
        assert len(asked) == 1
        await client.rewrite(1, 2, "q", [])
        await client.rewrite(2, 2, "q", [])
        assert client.known(1, 1, "q") is None
        assert client.known(2, 2, "q") == ["text"]

    asyncio.run(run())
    assert len(asked) == 3


def test_a_late_rewrite_answers_the_next_search() -> None:
    async def call(version: int, query: str, titles: Sequence[str]) -> list[str]:
        await asyncio.sleep(0.1)
        return ["late"]

    async def run() -> None:
        client = RewriteClient(call, 0.02, 10)
        assert await client.rewrite(1, 1, "q", []) == "the rewriter took longer than 0.02 s"
        await asyncio.sleep(0.15)
        assert await client.rewrite(1, 1, "q", []) == ["late"]

    asyncio.run(run())


def test_why_there_is_no_rewrite_is_said() -> None:
    async def gone(version: int, query: str, titles: Sequence[str]) -> list[str]:
        raise ModelGoneError("the rewriter is away (ActorDiedError)")

    async def nothing(version: int, query: str, titles: Sequence[str]) -> list[str]:
        return [" "]

    async def run() -> None:
        client = RewriteClient(gone, 1.0, 10)
        assert await client.rewrite(1, 1, "q", []) == "the rewriter is away (ActorDiedError)"
        assert client.state == "the rewriter is away (ActorDiedError)"
        assert client.known(1, 1, "q") is None
        client = RewriteClient(nothing, 1.0, 10)
        assert await client.rewrite(1, 1, "q", []) == "the rewriter wrote nothing usable"
        assert await client.rewrite(1, 1, "q", []) == "the rewriter wrote nothing usable"
        client = RewriteClient(None, 1.0, 10)
        assert (client.state, await client.rewrite(1, 1, "q", [])) == ("off", "there is no rewriter")

    asyncio.run(run())
