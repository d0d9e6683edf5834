"""An HTTP server that answers by a script: what a client does when things go wrong, without a network."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG_S = 5.0


@dataclass(frozen=True)
class Reply:
    """One answer; status 0 drops the connection without one, -1 keeps the client waiting."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(status: int, detail: str, **headers: str) -> Reply:
    """A problem document; ``headers`` with "_" for "-"."""
    body = {"type": "about:blank", "title": "Wrong", "status": status, "detail": detail}
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class Scripted:
    """Where it listens, and what it was asked: (seconds, method and path, headers, body)."""

    url: str
    asked: list[tuple[float, str, dict[str, str], Any]] = field(default_factory=list)

    @property
    def pauses(self) -> list[float]:
        """Seconds between one request and the next."""
        times = [at for at, *_ in self.asked]
        return [after - before for before, after in itertools.pairwise(times)]


@contextlib.contextmanager
def scripted(*replies: Reply) -> Iterator[Scripted]:
    """Gives the replies one after the other, the last for ever."""
    left = list(replies)
    lock = threading.Lock()
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's own output is enough."""

        def _answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            with lock:
                made.asked.append((time.monotonic(), f"{self.command} {self.path}", dict(self.headers), content))
                reply = left.pop(0) if len(left) > 1 else left[0]
            if reply.status <= 0:
                if reply.status < 0:
                    ended.wait(HANG_S)
                self.close_connection = True
                return
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Scripted(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        ended.set()
        server.shutdown()
        thread.join(HANG_S)
        server.server_close()
