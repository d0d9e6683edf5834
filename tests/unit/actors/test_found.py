"""The list of what users found."""

from pathlib import Path

from actors import found
from actors.core.types import Found

ANN, BOB = Found("ann", "pictures are slow", ("cdn.create", "cdn.list")), Found("bob", "schön", ("a",))


def test_what_was_published_is_read_and_every_change_shows(tmp_path: Path) -> None:
    root = str(tmp_path / "run")
    assert (found.stamp(root), found.read(root)) == ("", [])
    found.forget(root, "ann")
    assert found.stamp(root) == ""
    found.publish(root, [ANN, BOB])
    first = found.stamp(root)
    assert found.read(root) == [ANN, BOB]
    found.forget(root, "ann")
    assert found.read(root) == [BOB]
    assert found.stamp(root) != first
