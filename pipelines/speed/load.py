"""The one load client of all servers: ``python -m pipelines.speed.load URL``; prints one line of JSON.

Written on bare streams: on a small machine client and server share the cores, and an HTTP library costs more than a search.

Invariants: only servers of this machine are asked, for a bounded time; a client asks its next query as soon as the last was
answered, from a slice of the queries that is its own; a request that fails is counted by its reason and never repeated.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

import typer

from configs.errors import InputError
from pipelines.command_line import run_app

MARK = "QUERY"
"""Stands in a body's template for the query."""
K = 10
"""Tools in an answer."""
REQUEST_TIMEOUT_S = 30.0
PAUSE_S = 0.05
"""After a failure: a server that refuses at once is not to be flooded."""
FAILURES = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)
"""Connection refused, lost or silent; cut short; not HTTP."""
OURS = ("127.0.0.1", "localhost")

Use = Callable[[bytes], Awaitable[None]]
"""What the client does with an answer's body before the request counts as answered."""


@dataclass(frozen=True)
class Side:
    """A server and how it is asked."""

    name: str
    url: str
    body: str
    vectors: Path | None = None
    """What the client searches, where the server only embeds."""


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that ``percent`` of the values do not exceed; ``ordered`` is ascending and not empty."""
    return ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]


@dataclass
class Tally:
    """What became of all requests of one load."""

    seconds: float
    """How long requests were sent."""
    within: int = 0
    """Answers that came in that time."""
    latencies: list[float] = field(default_factory=list)
    """Seconds of every answer, of those that came later too: without them slow answers would be left out."""
    errors: Counter[str] = field(default_factory=Counter)
    cpu_share: float = 0.0
    """CPU time of this client, as a share of one core."""

    def report(self) -> dict[str, Any]:
        """As JSON; the percentiles are null where nothing was answered."""
        ordered = sorted(self.latencies)
        percentiles = {f"p{each}_ms": 1000 * percentile(ordered, each) if ordered else None for each in (50, 95, 99)}
        return {
            "answers": len(ordered),
            "requests_per_s": self.within / self.seconds,
            **percentiles,
            "errors": dict(self.errors),
            "cpu_share": self.cpu_share,
        }


class Connection:
    """One connection, kept alive; opened when it is needed."""

    def __init__(self, host: str, port: int) -> None:
        """Opens nothing yet."""
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The streams, after opening them if they are not. Raises OSError where nobody listens."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises one of ``FAILURES``; ``close`` then."""
        reader, writer = await self.open()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status, body = int(head[9:12]), await _body(head, reader)
        if b"\r\nconnection: close" in head:
            self.close()
        return status, body

    def close(self) -> None:
        """The next request opens a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """The body that belongs to a head in small letters."""
    length = re.search(rb"\r\ncontent-length:\s*(\d+)", head)
    if length:
        return await reader.readexactly(int(length[1]))
    if not re.search(rb"\r\ntransfer-encoding:\s*chunked", head):
        raise ValueError("an answer with neither length nor chunks")
    parts = []
    while size := int((await reader.readline()).partition(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


class Searcher:
    """Searches what an embedding server answers: whatever waits, together, in one thread beside the event loop."""

    def __init__(self, vectors: Path) -> None:
        """``vectors``: a .npy file of unit rows."""
        import faiss
        import numpy as np

        found = np.load(vectors)
        self._index: Any = faiss.IndexFlatIP(found.shape[1])
        self._index.add(found)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[Any, asyncio.Future[None]]] = []
        self._work: asyncio.Task[None] | None = None

    async def __call__(self, body: bytes) -> None:
        """Search the vector in an answer; ValueError where there is none that fits."""
        vector = embedding(body)
        if len(vector) != self._index.d:
            raise ValueError(f"an embedding of {len(vector)} numbers among vectors of {self._index.d}")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((vector, done))
        if self._work is None:
            self._work = asyncio.create_task(self._search())
        await done

    async def _search(self) -> None:
        import numpy as np

        loop = asyncio.get_running_loop()
        while self._waiting:
            taken, self._waiting = self._waiting, []
            await loop.run_in_executor(self._thread, self._index.search, np.stack([vector for vector, _ in taken]), K)
            for _, done in taken:
                if not done.done():
                    done.set_result(None)
        self._work = None


def embedding(body: bytes) -> Any:
    """The vector in an answer of an embedding server. Raises ValueError where there is none."""
    import numpy as np

    try:
        return np.frombuffer(base64.b64decode(json.loads(body)["data"][0]["embedding"]), dtype=np.float32)
    except (LookupError, TypeError) as error:
        raise ValueError("an answer without embedding") from error


def make_requests(url: str, template: str, queries: Sequence[str], clients: int) -> list[list[bytes]]:
    """Whole requests by client. Raises InputError for a server elsewhere, a template without its mark, too few queries."""
    target, mark = _target(url), json.dumps(MARK)
    if mark not in template:
        raise InputError(f"--body {template}: the query's place, {mark}, is missing")
    if len(queries) < clients:
        raise InputError(f"--queries: {len(queries)} are too few for {clients} clients")
    found: list[list[bytes]] = [[] for _ in range(clients)]
    for number, query in enumerate(queries):
        body = template.replace(mark, json.dumps(query)).encode()
        lines = (f"POST {target.path} HTTP/1.1", f"Host: {target.netloc}", "Content-Type: application/json")
        head = "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode()
        found[number % clients].append(head + body)
    return found


def _target(url: str) -> SplitResult:
    target = urlsplit(url)
    if target.scheme != "http" or target.hostname not in OURS or not target.port:
        raise InputError(f"{url}: only a server of this machine is put under load; give http://127.0.0.1:PORT/PATH")
    return target


async def load(url: str, requests: Sequence[Sequence[bytes]], seconds: float, use: Use | None = None) -> Tally:
    """Ask for ``seconds`` with as many clients as ``requests`` has rows; what is under way then is waited for."""
    target = _target(url)
    connections = [Connection(target.hostname or "", target.port or 0) for _ in requests]
    # Whoever cannot be opened is tried again, and counted, by its first request.
    await asyncio.gather(*(asyncio.wait_for(each.open(), REQUEST_TIMEOUT_S) for each in connections), return_exceptions=True)
    tally = Tally(seconds)
    gc.collect()
    gc.freeze()
    begun, worked = time.perf_counter(), time.process_time()
    clients = zip(connections, requests, strict=True)
    await asyncio.gather(*(_client(each, own, begun + seconds, tally, use) for each, own in clients))
    tally.cpu_share = (time.process_time() - worked) / (time.perf_counter() - begun)
    for connection in connections:
        connection.close()
    return tally


async def _client(connection: Connection, requests: Sequence[bytes], ends: float, tally: Tally, use: Use | None) -> None:
    turns = itertools.cycle(requests)
    while (started := time.perf_counter()) < ends:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                status, body = await connection.ask(next(turns))
                if use is not None and status == 200:
                    await use(body)
            failure = None if status == 200 else f"status {status}"
        except FAILURES as error:
            failure = type(error).__name__
            connection.close()
        if failure is not None:
            tally.errors[failure] += 1
            await asyncio.sleep(PAUSE_S)
            continue
        ended = time.perf_counter()
        tally.latencies.append(ended - started)
        tally.within += ended <= ends


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def command(
    url: Annotated[str, typer.Argument(help="What is asked by POST, as http://127.0.0.1:8000/v1/search.")],
    queries: Annotated[Path, typer.Option(help="JSON file: a list of texts.")],
    body: Annotated[str, typer.Option(help=f'The JSON body, with "{MARK}" where the query goes.')],
    clients: Annotated[int, typer.Option(help="How many ask at once.", min=1, max=1_000)] = 1,
    seconds: Annotated[float, typer.Option(help="How long.", min=0.1, max=600)] = 5.0,
    vectors: Annotated[Path | None, typer.Option(help="The answers are embeddings: search them here, in this .npy file.")] = None,
) -> None:
    """Put a server of this machine under load; prints one JSON object."""
    try:
        texts = json.loads(queries.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--queries {queries}: cannot be read ({error})") from error
    requests = make_requests(url, body, texts, clients)
    use = Searcher(vectors) if vectors is not None else None
    print(json.dumps(asyncio.run(load(url, requests, seconds, use)).report()))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_app(app, "pipelines.speed.load", arguments)


if __name__ == "__main__":
    sys.exit(main())
