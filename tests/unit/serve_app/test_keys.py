"""The key file, the ring that follows it, and the commands that change it."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from pipelines import keys as command
from pipelines.command_line import run_app
from serve_app import keys
from serve_app.keys import Client, KeyRing


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def run(*arguments: str) -> int:
    return run_app(command.keys_app, "cohyde keys", list(arguments))


def test_a_key_stands_for_its_client(file: Path) -> None:
    id, secret = keys.add(file, "acme", ["feedback", "search"], ["s3", "ec2", "s3"], train_on=False)
    _, other = keys.add(file, "else", ["catalog"], None)
    ring = KeyRing(file)
    assert ring.client_of(secret) == Client("acme", frozenset({"search", "feedback"}), ("s3", "ec2"), False, id)
    stranger = ring.client_of(other)
    assert stranger is not None
    assert (stranger.tenant, stranger.scopes, stranger.namespaces, stranger.train_on) == ("else", {"catalog"}, None, True)


def test_only_the_very_secret_is_known(file: Path) -> None:
    _, secret = keys.add(file, "acme", ["search"], None)
    ring = KeyRing(file)
    bare = secret.removeprefix(keys.PREFIX)
    wrong = (secret[:-1], secret + "x", secret.upper(), " " + secret, bare, keys.PREFIX, "", keys.PREFIX + "é")
    assert [ring.client_of(text) for text in wrong] == [None] * len(wrong)
    digest = json.loads(file.read_text())["keys"][0]["sha256"]
    assert ring.client_of(digest) is None


def test_digests_that_begin_alike_are_told_apart(file: Path) -> None:
    _, secret = keys.add(file, "acme", ["search"], None)
    content = json.loads(file.read_text())
    twin = {**content["keys"][0], "id": "twin", "tenant": "twin"}
    twin["sha256"] = twin["sha256"][:-1] + ("0" if twin["sha256"][-1] != "0" else "1")
    file.write_text(json.dumps({"keys": [twin, *content["keys"]]}))
    client = KeyRing(file).client_of(secret)
    assert client is not None and client.tenant == "acme"
    file.write_text(json.dumps({"keys": [twin]}))
    assert KeyRing(file).client_of(secret) is None


def test_admin_has_every_scope(file: Path) -> None:
    _, secret = keys.add(file, "acme", ["admin"], None)
    client = KeyRing(file).client_of(secret)
    assert client is not None and client.scopes == {"search", "feedback", "catalog", "admin"}


def test_the_file_is_private_and_holds_no_secret(file: Path) -> None:
    before = os.umask(0)
    try:
        secrets = [keys.add(file, "acme", ["search"], None)[1] for _ in range(2)]
        keys.revoke(file, keys.listed(file)[0].id)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {0o600}
    for path in file.parent.iterdir():
        for secret in secrets:
            assert secret.removeprefix(keys.PREFIX).encode() not in path.read_bytes()
    assert len(secrets[0]) == len(keys.PREFIX) + 43 and secrets[0] != secrets[1]
    assert len(file.read_text().split('"sha256"')) == 2


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"tenant": ""}, "tenant"),
        ({"tenant": "  "}, "tenant"),
        ({"tenant": "a\nb"}, "tenant"),
        ({"tenant": "\udcff"}, "tenant"),
        ({"tenant": "x" * 257}, "tenant"),
        ({"scopes": ["search", "root"]}, "scope=root"),
        ({"scopes": []}, "scope"),
        ({"namespaces": []}, "namespace"),
        ({"namespaces": ["s3", ""]}, "namespace"),
    ],
)
def test_wrong_input_changes_nothing(file: Path, wrong: dict[str, Any], field: str) -> None:
    keys.add(file, "acme", ["search"], None)
    before = file.read_bytes()
    with pytest.raises(InputError, match=f"^{field}"):
        keys.add(file, **{"tenant": "acme", "scopes": ["search"], "namespaces": None, **wrong})
    with pytest.raises(InputError, match="id=nobody"):
        keys.revoke(file, "nobody")
    assert file.read_bytes() == before


def test_a_file_that_cannot_be_used_is_the_users_to_mend(file: Path) -> None:
    for use in (KeyRing, keys.listed, lambda path: keys.revoke(path, "x")):
        with pytest.raises(InputError, match="cohyde keys add"):
            use(file)
    assert list(file.parent.iterdir()) == []
    with pytest.raises(InputError, match="directory"):
        keys.add(file.parent / "missing" / "keys.json", "acme", ["search"], None)
    secret = keys.PREFIX + "x" * 43
    for content in ("", "{", "[]", '{"keys": 1}', f'{{"keys": [{{"sha256": "{secret}"}}]}}', "\udcff"):
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(InputError, match=str(file)) as caught:
            KeyRing(file)
        assert "x" * 43 not in str(caught.value)
        with pytest.raises(InputError):
            keys.add(file, "acme", ["search"], None)
        assert file.read_bytes() == content.encode("utf-8", "surrogateescape")


def test_writers_at_the_same_time_lose_no_key(file: Path) -> None:
    def write(tenant: str) -> None:
        for _ in range(5):
            keys.add(file, tenant, ["search"], None)

    threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = keys.listed(file)
    assert len(found) == len({key.id for key in found}) == 20
    assert sorted(path.name for path in file.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_the_ring_follows_its_file_but_looks_once_a_second(file: Path) -> None:
    id, secret = keys.add(file, "acme", ["search"], None)
    clock = Clock()
    ring = KeyRing(file, clock)
    keys.revoke(file, id)
    clock.now = 0.9
    assert ring.client_of(secret) is not None
    clock.now = 1.0
    assert ring.client_of(secret) is None
    _, late = keys.add(file, "late", ["search"], None)
    clock.now = 1.9
    assert ring.client_of(late) is None
    clock.now = 2.0
    assert ring.client_of(late) is not None


def test_a_broken_file_keeps_the_keys_and_is_told_of_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    _, secret = keys.add(file, "acme", ["search"], None)
    whole = file.read_bytes()
    clock = Clock()
    ring = KeyRing(file, clock)

    def known() -> bool:
        clock.now += 1
        return ring.client_of(secret) is not None

    file.write_bytes(whole[:-9])
    assert [known(), known()] == [True, True]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    file.unlink()
    assert [known(), known()] == [True, True]
    assert len(caplog.records) == 2
    file.write_text('{"keys": []}')
    assert not known()
    file.write_bytes(whole)
    assert known()
    file.unlink()
    assert known()
    assert len(caplog.records) == 3


def test_the_secret_is_all_that_add_prints_on_stdout(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("add", str(file), "--tenant", "acme") == 0
    out, told = capsys.readouterr()
    client = KeyRing(file).client_of(out.removesuffix("\n"))
    assert client is not None and client.key_id in told
    assert (client.tenant, client.scopes, client.namespaces, client.train_on) == ("acme", {"search", "feedback"}, None, True)
    arguments = ("--scope", "catalog", "--scope", "search", "--namespace", "s3", "--namespace", "ec2", "--no-training")
    assert run("add", str(file), "--tenant", "else", *arguments) == 0
    client = KeyRing(file).client_of(capsys.readouterr().out.removesuffix("\n"))
    assert client is not None
    assert (client.tenant, client.scopes, client.namespaces, client.train_on) == (
        "else",
        {"catalog", "search"},
        ("s3", "ec2"),
        False,
    )


def test_list_shows_keys_and_revoke_ends_one(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("add", str(file), "--tenant", "[bold]acme", "--namespace", "s3", "--no-training")
    secret = capsys.readouterr().out.strip()
    run("add", str(file), "--tenant", "else", "--scope", "admin")
    capsys.readouterr()
    first, second = keys.listed(file)
    assert run("list", str(file)) == 0
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert [text in lines[first.id] for text in ("[bold]acme", "search, feedback", "s3", " no ")] == [True] * 4
    assert [text in lines[second.id] for text in ("admin", " all ", " yes ")] == [True] * 3
    assert secret not in shown and first.sha256 not in shown
    assert run("revoke", str(file), first.id) == 0
    assert [key.id for key in keys.listed(file)] == [second.id]


def test_what_the_user_got_wrong_is_one_line_and_2(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = (
        ("add", str(file), "--tenant", "acme", "--scope", "root"),
        ("add", str(file), "--tenant", ""),
        ("list", str(file)),
        ("revoke", str(file), "nobody"),
    )
    for arguments in wrong:
        assert run(*arguments) == 2
        out, told = capsys.readouterr()
        assert out == "" and told.startswith("cohyde keys: ") and told.count("\n") == 1
    assert not file.exists()
