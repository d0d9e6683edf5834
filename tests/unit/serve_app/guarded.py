"""A guard with its keys and clock, asked as a server would ask it: over ASGI, from chosen addresses, with chosen headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from configs.serving import LimitsConfig
from serve_app import keys
from serve_app.guard import Guard
from serve_app.keys import Client, KeyRing

ELSEWHERE = ("10.0.0.1", 1)
SAFE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "cache-control": "no-store",
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Echo:
    """Answers with the body it was sent, and notes who asked."""

    def __init__(self, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.headers = headers or []
        self.asked_by: list[Client | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked_by.append(scope.get("state", {}).get("client"))
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": body})


class Keyed:
    """A guarded application with a key file."""

    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "keys.json"
        keys.add(self.file, "first", ["search"], None)
        self.clock = Clock()
        self.echo = Echo()

    def key(self, *scopes: str, tenant: str = "acme", **more: Any) -> str:
        return keys.add(self.file, tenant, scopes or ("search",), more.pop("namespaces", None), **more)[1]

    def guard(self, app: Any = None, **limits: int) -> Guard:
        return Guard(app or self.echo, KeyRing(self.file, self.clock), LimitsConfig(**limits), self.clock)


def open_guard(app: Any = None, **limits: int) -> Guard:
    return Guard(app or Echo(), None, LimitsConfig(**limits))


async def sent(
    app: Any,
    method: str,
    path: str,
    *,
    client: Any = ELSEWHERE,
    host: str = "localhost",
    secret: str = "",
    root: str = "",
    **more: Any,
) -> httpx.Response:
    headers = {"host": host, **({"authorization": f"Bearer {secret}"} if secret else {}), **more.pop("headers", {})}
    transport = httpx.ASGITransport(app=app, client=client, root_path=root, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.request(method, path, headers=headers, **more)


def ask(app: Any, method: str, path: str, **more: Any) -> httpx.Response:
    return asyncio.run(sent(app, method, path, **more))


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
