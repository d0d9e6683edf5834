"""Searches without a pause, from several threads, with everything that came back."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType

import httpx


@dataclass(frozen=True)
class Seen:
    """One request: when it began and how long it took (seconds), its status (0: no answer), release, tools, what was degraded."""

    at: float
    seconds: float
    status: int
    release: str = ""
    tools: tuple[str, ...] = ()
    degraded: str = ""


class Load:
    """A context in which ``clients`` threads ask one query after the other."""

    def __init__(self, url: str, query: str, clients: int, mode: str = "raw") -> None:
        self._url, self._clients = url, clients
        self._body = {"query": query, "k": 10, "mode": mode, "min_score": -1, "detail": "brief"}
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.seen: list[Seen] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)

    def failed(self) -> list[Seen]:
        return [one for one in self.seen if one.status != 200]

    def p99_ms(self, since: float, until: float) -> float:
        times = sorted(one.seconds for one in self.seen if since <= one.at < until)
        assert len(times) >= 100, f"{len(times)} requests are too few for a 99th percentile"
        return 1000 * times[int(0.99 * len(times))]

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._ended.is_set():
                at = time.monotonic()
                try:
                    answer = client.post(f"{self._url}/v1/search", json=self._body)
                except httpx.HTTPError:
                    self.seen.append(Seen(at, time.monotonic() - at, 0))
                    time.sleep(0.05)
                    continue
                seconds = time.monotonic() - at
                if answer.status_code != 200:
                    self.seen.append(Seen(at, seconds, answer.status_code))
                    continue
                found = answer.json()
                tools = tuple(tool["tool_id"] for tool in found["tools"])
                self.seen.append(Seen(at, seconds, 200, found["release"], tools, found["degraded"] or ""))
