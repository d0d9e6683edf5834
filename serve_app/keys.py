"""API keys: a JSON file of digests, who each key stands for, and the ring that a running server looks keys up in.

Invariants: a secret is shown once and stored nowhere, the file holds its SHA-256 alone; the file is replaced whole, under a lock,
readable by its owner alone; a server that finds the file missing or broken keeps the keys it has and says so in its log.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.core.events import Name
from configs.errors import InputError

Scope = Literal["search", "feedback", "catalog", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_SCOPES: tuple[Scope, ...] = ("search", "feedback")
PREFIX = "cohyde_"
"""Of every secret, so that scanners (and our own answers) know one when they see it."""
MAX_SECRET_CHARACTERS = 128
MAX_NAME_CHARACTERS = 256
LOOK_EVERY_S = 1.0
FOUND_BY = 8
"""Bytes of a digest that its entry is found by; the whole digest is then compared in constant time."""

logger = logging.getLogger(__name__)


class Key(BaseModel):
    """One key as the file holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Name
    """What ``revoke`` and the log name it by."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Digest of the secret."""
    tenant: Name
    scopes: Annotated[list[Scope], Field(min_length=1)]
    namespaces: Annotated[list[Name], Field(min_length=1)] | None
    """The only namespaces that the key sees; null: all."""
    train_on: bool
    """Whether its queries may be stored and learned from."""
    created: float
    """In seconds since the epoch."""


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: list[Key]


@dataclass(frozen=True)
class Client:
    """Who asks, and what it may do."""

    tenant: str
    scopes: frozenset[Scope]
    """Written out: who has ``admin`` has them all here."""
    namespaces: tuple[str, ...] | None
    """The only namespaces that it sees; None: all."""
    train_on: bool
    key_id: str


class KeyRing:
    """The keys of a file, for a server that runs on while the file changes."""

    def __init__(self, path: Path | str, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file. Raises ``InputError`` where it is missing or broken: a server does not start without its keys."""
        self._path = Path(path)
        self._clock = clock
        self._stamp = self._stamped()
        self._clients = _by_digest(_read(self._path))
        self._looked = clock()
        self._complaint = ""

    def client_of(self, secret: str) -> Client | None:
        """Who the secret stands for; None where no key has it."""
        if (now := self._clock()) - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._look()
        if not secret.startswith(PREFIX) or len(secret) > MAX_SECRET_CHARACTERS or not secret.isascii():
            return None
        # A plain hash is enough: 256 random bits cannot be guessed however fast the hash is; slow, salted ones are for passwords.
        digest = hashlib.sha256(secret.encode()).digest()
        for known, client in self._clients.get(digest[:FOUND_BY], ()):
            if hmac.compare_digest(known, digest):
                return client
        return None

    def _look(self) -> None:
        try:
            stamp = self._stamped()
            if stamp == self._stamp:
                self._complaint = ""
                return
            clients = _by_digest(_read(self._path))
        except InputError as error:
            # Once for each thing that is wrong: requests may come by the thousand.
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.error("The keys that were read before stay in force: %s", error)
            return
        self._clients, self._stamp, self._complaint = clients, stamp, ""
        logger.info("%s was read again", self._path)

    def _stamped(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise _unusable(self._path, error) from error
        # The inode too: a file replaced twice within one tick of the clock may have the same time and size.
        return status.st_mtime_ns, status.st_size, status.st_ino


def add(
    path: Path, tenant: str, scopes: Collection[str], namespaces: Collection[str] | None, train_on: bool = True
) -> tuple[str, str]:
    """Write a new key to the file, which is made if missing; returns its id and its secret, which is not kept anywhere."""
    if not tenant.strip():
        raise InputError("tenant is empty; name whose key it is")
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise InputError(f"scope={unknown[0]}: unknown; choose from {', '.join(SCOPES)}")
    if not scopes:
        raise InputError(f"scope is empty; choose from {', '.join(SCOPES)}")
    if namespaces is not None and not namespaces:
        raise InputError("namespace is empty; such a key sees no tool: name one, or leave it out for all")
    for field, name in (("tenant", tenant), *(("namespace", name) for name in namespaces or ())):
        # What cannot be printed cannot be read in the log either, and may not even be text.
        if not name.strip() or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
            raise InputError(f"{field}={name!r}: must be 1 to {MAX_NAME_CHARACTERS} printable characters")
    secret = PREFIX + secrets.token_urlsafe(32)
    with _locked(path):
        keys = _read(path) if path.exists() else []
        key = Key(
            id=_new_id(keys),
            sha256=hashlib.sha256(secret.encode()).hexdigest(),
            tenant=tenant,
            scopes=[scope for scope in SCOPES if scope in scopes],
            namespaces=None if namespaces is None else list(dict.fromkeys(namespaces)),
            train_on=train_on,
            created=time.time(),
        )
        _write(path, [*keys, key])
    return key.id, secret


def revoke(path: Path, id: str) -> None:
    """Take a key out of the file; running servers refuse it about a second later."""
    # Before the lock, which would leave a file of its own beside one that is missing.
    _read(path)
    with _locked(path):
        keys = _read(path)
        left = [key for key in keys if key.id != id]
        if len(left) == len(keys):
            raise InputError(f"id={id}: no such key in {path}; see: cohyde keys list {path}")
        _write(path, left)


def listed(path: Path) -> list[Key]:
    """The file's keys, oldest first."""
    return _read(path)


def _by_digest(keys: list[Key]) -> dict[bytes, list[tuple[bytes, Client]]]:
    clients: dict[bytes, list[tuple[bytes, Client]]] = {}
    for key in keys:
        scopes = frozenset(SCOPES if "admin" in key.scopes else key.scopes)
        client = Client(key.tenant, scopes, None if key.namespaces is None else tuple(key.namespaces), key.train_on, key.id)
        digest = bytes.fromhex(key.sha256)
        clients.setdefault(digest[:FOUND_BY], []).append((digest, client))
    return clients


def _new_id(keys: list[Key]) -> str:
    taken = {key.id for key in keys}
    while (new := secrets.token_hex(4)) in taken:
        pass
    return new


def _read(path: Path) -> list[Key]:
    try:
        return _KeyFile.model_validate_json(path.read_bytes()).keys
    except OSError as error:
        raise _unusable(path, error) from error
    except ValidationError as error:
        # Place and message alone, not the input: somebody may have put a secret where its digest belongs.
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise InputError(f"keys={path}: {where}: {first['msg']}; mend it, or restore it from a backup") from None


def _write(path: Path, keys: list[Key]) -> None:
    content = _KeyFile(keys=keys).model_dump_json(indent=2).encode() + b"\n"
    try:
        # Made with mode 0600.
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                # An administrator's change must not take the file from the account that the server runs as.
                if path.exists() and (owner := path.stat()).st_uid != os.getuid():
                    os.fchown(handle, owner.st_uid, owner.st_gid)
                file.write(content)
                file.flush()
                os.fsync(handle)
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        raise _unusable(path, error) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one writer at a time. Not the file itself, which is replaced while it is held."""
    try:
        handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError) and path.parent.is_dir():
        return InputError(f"keys={path}: no such file; make it with: cohyde keys add {path} --tenant NAME")
    return InputError(f"keys={path}: {error.strerror}; name a file that this account may read, in a directory that exists")
