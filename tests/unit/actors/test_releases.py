"""What is served: promoted, rolled back, pinned; every decision is kept."""

from pathlib import Path

import pytest

from actors.core.snapshots import SnapshotStore
from actors.core.types import InputError
from actors.releases import Release, Releases


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    store = SnapshotStore(str(tmp_path / "snapshots"))
    for kind in ("rewriter", "retriever"):
        for version in range(4):
            store.publish(kind, version, lambda directory: (directory / "weights").touch() or None, {})
    return store


@pytest.fixture
def releases(store: SnapshotStore, tmp_path: Path) -> Releases:
    releases = Releases(store, str(tmp_path / "releases"))
    for number in range(4):
        releases.add(Release(number, number, number, "hash", 0.2, {"standard": 0.7}))
    return releases


def served(releases: Releases) -> int | None:
    found = releases.served()
    return found.number if found else None


def test_nothing_is_served_before_the_first_promotion(releases: Releases) -> None:
    assert releases.served() is None
    with pytest.raises(InputError, match="nothing is served yet"):
        releases.pin("ann", True)
    with pytest.raises(InputError, match="nothing was served before"):
        releases.rollback("ann", "")


def test_a_release_is_kept_as_it_was_added(releases: Releases) -> None:
    releases.add(Release(2, 9, 9, "other", 0.9, {}))
    assert releases.get(2) == Release(2, 2, 2, "hash", 0.2, {"standard": 0.7})
    assert releases.numbers() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="release 7: there is none of that number; there are: 0, 1, 2, 3"):
        releases.promote(7, "ann", "")
    assert releases.audit() == []


def test_promotions_and_rollbacks_are_a_stack(releases: Releases) -> None:
    for number in (0, 2, 3):
        releases.promote(number, "gate", f"better {number}")
    assert served(releases) == 3
    assert [releases.rollback("ann", "bad"), releases.rollback("ann", "worse")] == [2, 0]
    releases.promote(1, "gate", "good")
    assert releases.rollback("ann", "no") == 0
    with pytest.raises(InputError):
        releases.rollback("ann", "further")
    assert served(releases) == 0
    assert [entry["action"] for entry in releases.audit()] == [*["promoted"] * 3, *["rolled back"] * 2, "promoted", "rolled back"]


def test_a_pin_holds_against_promotions_but_not_against_a_rollback(releases: Releases) -> None:
    releases.promote(0, "gate", "")
    releases.promote(1, "gate", "")
    releases.pin("ann", True)
    with pytest.raises(InputError, match="release 1 is pinned"):
        releases.promote(2, "gate", "")
    assert releases.rollback("ann", "bad") == 0
    assert releases.served() is not None
    releases.pin("ann", False)
    releases.promote(2, "gate", "")
    assert served(releases) == 2


def test_a_refusal_is_kept_with_its_reason(releases: Releases) -> None:
    releases.keep(1, "gate", "vague falls")
    assert [(e["action"], e["number"], e["by"], e["reason"]) for e in releases.audit()] == [("kept", 1, "gate", "vague falls")]


def test_snapshots_of_promoted_releases_are_never_collected(store: SnapshotStore, releases: Releases) -> None:
    releases.promote(1, "gate", "")
    store.collect("rewriter", keep=1)
    store.collect("retriever", keep=1)
    assert store.versions("rewriter") == store.versions("retriever") == [1, 3]
