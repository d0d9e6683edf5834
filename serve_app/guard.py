"""The guard in front of the HTTP application: who may ask, for what, how much and how often; and the headers of every answer.

Invariants: it stands outermost, so that no answer leaves without its headers; a path means to it what it means to the router; the
application never takes the beginning of a body for the whole; a secret is neither logged nor passed on in an answer.
"""

from __future__ import annotations

import ipaddress
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache

# The router's own: a path that the two read differently would be a way around the scopes.
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from configs.serving import LimitsConfig
from serve_app.keys import SCOPES, Client, KeyRing, Scope
from serve_app.problems import ProblemError, problem_response, unexpected

LOCAL = Client(tenant="local", scopes=frozenset(SCOPES), namespaces=None, train_on=True, key_id="local")
"""Who asks where there are no keys."""
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
OPEN_FOLDER = "/web/"
MAX_TENANTS = 10_000
"""Whose use is remembered; a tenant that is forgotten starts with a full bucket."""

Headers = list[tuple[bytes, bytes]]

_SAFETY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
]
_API_HEADERS: Headers = [*_SAFETY, (b"cache-control", b"no-store")]
_WEB_HEADERS: Headers = [*_SAFETY, (b"cache-control", b"no-cache")]
_OWN = frozenset(name for name, _ in _API_HEADERS)
_CORS = b"access-control-"

_HOST = rb"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?"
_LOOPBACK_HOST = re.compile(_HOST, re.IGNORECASE)
_LOOPBACK_ORIGIN = re.compile(rb"https?://" + _HOST, re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_REMEDY = "without keys only clients of this machine are answered; make a key file with `cohyde keys add` and serve with keys=FILE"


class Guard:
    """ASGI middleware; see the module."""

    def __init__(
        self, app: ASGIApp, keys: KeyRing | None, limits: LimitsConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``keys`` None: no key is asked for, and only clients of this machine are answered."""
        self._app = app
        self._keys = keys
        self._body_bytes = limits.body_bytes
        self._buckets = _Buckets(limits.requests_per_minute, limits.concurrent_requests, clock)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one connection, or have the application answer it."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Connection, receive: Receive, send: Send) -> None:
        # "/metrics\n" is "/metrics" to the router, whose patterns end in "$".
        path = get_route_path(scope).removesuffix("\n")
        exchange = _Exchange(receive, send, self._body_bytes, _WEB_HEADERS if path.startswith(OPEN_FOLDER) else _API_HEADERS)
        try:
            bucket = self._admit(scope, path)
        except ProblemError as error:
            await exchange.refuse(error)
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.started:
                raise
            if not exchange.too_large:
                await exchange.refuse(unexpected(error, scope["method"], path))
        finally:
            if bucket is not None:
                bucket.under_way -= 1
        if exchange.too_large and not exchange.started:
            await exchange.refuse(_too_large(self._body_bytes))

    def _admit(self, scope: Connection, path: str) -> _Bucket | None:
        """Raises ``ProblemError`` where the request is refused; returns where it counts as under way."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self._keys is None:
            _check_local(scope, headers)
        method: str = scope["method"]
        is_open = method in ("GET", "HEAD") and (path in OPEN_PATHS or path.startswith(OPEN_FOLDER))
        client = None
        if self._keys is None:
            client = LOCAL
        elif not is_open:
            client = _client_of(self._keys, headers)
            needed = _scope_of(method, path)
            if needed is not None and needed not in client.scopes:
                raise ProblemError(403, f"the key lacks the scope '{needed}', which {method} {path} needs")
        if client is not None:
            scope.setdefault("state", {})["client"] = client
        if (length := headers.get(b"content-length")) is not None:
            if _LENGTH.fullmatch(length) is None:
                raise ProblemError(400, "Content-Length must be a number of bytes", headers={"Connection": "close"})
            if int(length) > self._body_bytes:
                raise _too_large(self._body_bytes)
        return None if is_open or client is None else self._buckets.enter(client.tenant)


class _Exchange:
    """One request and its answer: counts what comes in, adds the headers to what goes out."""

    __slots__ = ("_headers", "_left", "_receive", "_send", "started", "too_large")

    def __init__(self, receive: Receive, send: Send, body_bytes: int, headers: Headers) -> None:
        self._receive = receive
        self._send = send
        self._left = body_bytes
        self._headers = headers
        self.started = False
        self.too_large = False

    async def receive(self) -> Message:
        """What the client sends on; raises once that is too much, as often as it is asked."""
        if not self.too_large:
            message = await self._receive()
            self._left -= len(message.get("body", b""))
            if self._left >= 0:
                return message
            self.too_large = True
        # Frameworks pass this class on as it is; another exception would be logged as a failure of ours.
        raise HTTPException(413)

    async def send(self, message: Message) -> None:
        """What the application answers; nothing where its body was cut off, the guard answers that itself."""
        if not self.started:
            if self.too_large:
                return
            if message["type"] == "http.response.start":
                self.started = True
                theirs = [pair for pair in message.get("headers", ()) if _theirs(pair[0].lower())]
                message = {**message, "headers": theirs + self._headers}
        await self._send(message)

    async def refuse(self, error: ProblemError) -> None:
        """Answer with a problem document in the application's place."""
        response = problem_response(error)
        self.started = True
        headers = response.raw_headers + self._headers
        await self._send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await self._send({"type": "http.response.body", "body": response.body})


class _Bucket:
    """What one tenant has left, and has under way."""

    __slots__ = ("at", "tokens", "under_way")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at
        self.under_way = 0


class _Buckets:
    """The tenants' token buckets, the longest unused first."""

    def __init__(self, per_minute: int, concurrent: int, clock: Callable[[], float]) -> None:
        self._per_s = per_minute / 60
        self._burst = max(1.0, per_minute / 10)
        self._concurrent = concurrent
        self._clock = clock
        self._kept: OrderedDict[str, _Bucket] = OrderedDict()

    def enter(self, tenant: str) -> _Bucket:
        """Count one more request; whoever calls takes it off ``under_way`` in the end. Raises ``ProblemError`` (429)."""
        now = self._clock()
        bucket = self._kept.get(tenant)
        if bucket is None:
            self._make_room()
            bucket = self._kept[tenant] = _Bucket(self._burst, now)
        else:
            self._kept.move_to_end(tenant)
        if bucket.under_way >= self._concurrent:
            detail = f"{bucket.under_way} requests of this tenant are under way, which is as many as it may have"
            raise ProblemError(429, detail, headers={"Retry-After": "1"})
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._per_s)
        bucket.at = now
        if bucket.tokens < 1:
            wait = max(1, math.ceil((1 - bucket.tokens) / self._per_s))
            detail = f"this tenant may send {round(self._per_s * 60)} requests a minute; the next one in {wait} s"
            raise ProblemError(429, detail, headers={"Retry-After": str(wait)})
        bucket.tokens -= 1
        bucket.under_way += 1
        return bucket

    def _make_room(self) -> None:
        if len(self._kept) >= MAX_TENANTS:
            # The longest unused is the fullest, so least is lost with it. Who has requests under way must stay counted.
            oldest = next((tenant for tenant, bucket in self._kept.items() if not bucket.under_way), None)
            if oldest is not None:
                del self._kept[oldest]


def _theirs(name: bytes) -> bool:
    return name not in _OWN and not name.startswith(_CORS)


def _too_large(limit: int) -> ProblemError:
    # The connection cannot be used again without reading the rest of the body.
    return ProblemError(413, f"the body is larger than {limit} bytes", headers={"Connection": "close"})


def _client_of(keys: KeyRing, headers: Mapping[bytes, bytes]) -> Client:
    scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        secret = headers.get(b"x-api-key", b"")
    if not (secret := secret.strip()):
        detail = "no key was sent; send Authorization: Bearer SECRET, or X-API-Key: SECRET"
    elif (client := keys.client_of(secret.decode("latin-1"))) is not None:
        return client
    else:
        detail = "the key is unknown or was revoked; whoever runs this server makes one with `cohyde keys add`"
    raise ProblemError(401, detail, headers={"WWW-Authenticate": "Bearer"})


def _scope_of(method: str, path: str) -> Scope | None:
    """What a request needs; None for a path that nothing answers."""
    if path == "/metrics" or path.startswith("/metrics/"):
        return "admin"
    if path == "/mcp":
        # Its tools look at the scopes themselves; none of them is for a key that may not search.
        return "search"
    if not path.startswith("/v1/"):
        return None
    if (method in ("PUT", "DELETE") and path.startswith("/v1/tools/")) or (method == "POST" and path == "/v1/tools:bulk"):
        return "catalog"
    return "feedback" if method == "POST" and path == "/v1/feedback" else "search"


def _check_local(scope: Connection, headers: Mapping[bytes, bytes]) -> None:
    """Raises ``ProblemError`` for what may come from elsewhere, be it through a browser of this machine."""
    client = scope.get("client")
    if not client or not _is_loopback(client[0]):
        raise ProblemError(403, _REMEDY)
    # A name of somebody else's that was made to point here (DNS rebinding) stands in Host.
    if _LOOPBACK_HOST.fullmatch(headers.get(b"host", b"")) is None:
        raise ProblemError(403, f"Host is not localhost, 127.0.0.1 or [::1]: {_REMEDY}")
    origin = headers.get(b"origin")
    if origin is not None and _LOOPBACK_ORIGIN.fullmatch(origin) is None:
        raise ProblemError(403, f"Origin is a page of another machine: {_REMEDY}")


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback
