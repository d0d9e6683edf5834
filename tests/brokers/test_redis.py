"""The Redis source against a real server, started here."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from actors.core.types import InputError
from pipelines.streams import SourceLost
from pipelines.streams.redis import RedisSource

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


class Server:
    """A server without persistence on a free port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "redis-server did not start"
                time.sleep(0.05)

    def write(self, first: int, last: int) -> None:
        for number in range(first, last):
            self.client.xadd("log", {"event": f"event {number}"})

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    yield started
    started.end()


def source(server: Server, **position: str) -> RedisSource:
    opened = RedisSource(server.url, "log", "group")
    opened.seek(position)
    return opened


def test_reading_goes_on_from_the_position_and_commits_acknowledge(server: Server) -> None:
    server.write(0, 7)
    first = source(server)
    assert [r.data for r in first.poll(5, 1.0)] == [f"event {n}".encode() for n in range(5)]
    position = first.position()
    assert first.depth() == 2
    # Taken, but not part of what is committed: a crash here must not lose them.
    assert len(first.poll(5, 1.0)) == 2
    assert server.client.xpending("log", "group")["pending"] == 7
    first.commit(position)
    assert server.client.xpending("log", "group")["pending"] == 2
    first.close()
    again = source(server, **position)
    assert [r.data for r in again.poll(5, 1.0)] == [b"event 5", b"event 6"]
    assert again.poll(5, 0.1) == []
    again.close()


def test_entries_without_an_event_are_given_as_empty_for_the_dead_letters(server: Server) -> None:
    server.client.xadd("log", {"other": "x"})
    opened = source(server)
    records = opened.poll(5, 1.0)
    assert [r.data for r in records] == [b""]
    assert records[0].place.startswith("log entry ")
    opened.close()


def test_a_server_that_comes_back_empty_is_read_anew(server: Server) -> None:
    server.write(0, 2)
    opened = source(server)
    assert len(opened.poll(5, 1.0)) == 2
    server.client.flushall()
    assert opened.poll(5, 0.1) == []
    server.write(0, 1)
    assert len(opened.poll(5, 1.0)) == 1
    opened.close()


def test_a_lost_server_is_named_and_nothing_else_happens(server: Server) -> None:
    opened = source(server)
    server.end()
    with pytest.raises(SourceLost, match=str(server.port)):
        opened.poll(5, 0.1)
    assert opened.depth() is None
    with pytest.raises(SourceLost):
        RedisSource(server.url, "log", "group")


def test_a_key_of_another_type_and_an_address_of_none_are_one_line(server: Server) -> None:
    server.client.set("log", "text")
    with pytest.raises(InputError, match=r"stream\.topic=log: .* name a key that holds a stream"):
        RedisSource(server.url, "log", "group")
    with pytest.raises(InputError, match=r"stream\.address=nowhere: .* redis://host"):
        RedisSource("nowhere", "log", "group")
