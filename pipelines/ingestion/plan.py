"""What a sync will do to a catalog, before it does anything.

Invariants: pure; a listing that is empty or was not read to its end removes nothing; two sources never share an id; the order of a
schema's keys is no change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.catalog_file import Entry
from actors.core.types import InputError
from pipelines.ingestion.store import Record, record_of


@dataclass(frozen=True)
class Read:
    """A source as it was just read: its tools by id."""

    records: Mapping[str, Record]
    whole: bool = True


@dataclass(frozen=True)
class Change:
    """One tool, and why it changes."""

    tool_id: str
    why: str


@dataclass(frozen=True)
class Plan:
    """``refusals`` are lines that say what is left as it was though a listing lacks it."""

    added: tuple[Change, ...]
    changed: tuple[Change, ...]
    removed: tuple[Change, ...]
    unchanged: int
    refusals: tuple[str, ...]
    upserts: tuple[Record, ...]
    """What ``added`` and ``changed`` write."""

    @property
    def touched(self) -> set[str]:
        """Tools that the catalog will not hold as it does now."""
        return {change.tool_id for change in self.removed} | {record.tool_id for record in self.upserts}


def read_of(name: str, entries: Sequence[Entry], whole: bool) -> Read:
    """The listing of the source ``name``. Raises InputError where it names one id twice."""
    records: dict[str, Record] = {}
    for entry in entries:
        if entry.tool.tool_id in records:
            raise InputError(f"{name}: lists {entry.tool.tool_id} twice; the tools of a source need names that differ")
        records[entry.tool.tool_id] = record_of(entry, name)
    return Read(records, whole)


def make_plan(stored: Mapping[str, Record], read: Mapping[str, Read]) -> Plan:
    """From the catalog and what its sources say now (name -> listing) to what is to be done.

    Raises InputError where two sources claim one id.
    """
    removed, refusals = _missing(stored, read)
    gone = {change.tool_id for change in removed}
    owners = {tool_id: record.source for tool_id, record in stored.items() if tool_id not in gone}
    added, changed, upserts, unchanged = [], [], [], 0
    for name, listing in read.items():
        for tool_id, record in listing.records.items():
            if (owner := owners.setdefault(tool_id, name)) != name:
                raise InputError(
                    f"{tool_id}: both {owner} and {name} list it; give one of them another name, as in NAME={name}-2 KIND:LOCATION"
                )
            before = stored.get(tool_id)
            if before is None:
                added.append(Change(tool_id, f"new in {name}"))
            elif why := _difference(before, record):
                changed.append(Change(tool_id, why))
            else:
                unchanged += 1
                continue
            upserts.append(record)
    taken_over = {record.tool_id for record in upserts}
    stays = tuple(change for change in removed if change.tool_id not in taken_over)
    return Plan(tuple(added), tuple(changed), stays, unchanged, refusals, tuple(upserts))


def _difference(before: Record, now: Record) -> str:
    """What of a tool is new, in words; empty where nothing is."""
    words = [f"{part} changed" for part, digest in now.parts.items() if before.parts.get(part) != digest]
    if before.source != now.source:
        words.append(f"listed by {now.source}, no longer by {before.source}")
    return ", ".join(words)


def _missing(stored: Mapping[str, Record], read: Mapping[str, Read]) -> tuple[list[Change], tuple[str, ...]]:
    removed: list[Change] = []
    refusals: list[str] = []
    for name, listing in read.items():
        missing = [t for t, record in stored.items() if record.source == name and t not in listing.records]
        if not listing.records:
            refusals.append(f"{name}: lists no tools; what the catalog has of it stays ({len(missing)})")
        elif listing.whole:
            removed += [Change(tool_id, f"no longer listed by {name}") for tool_id in missing]
        elif missing:
            refusals.append(f"{name}: was not read to its end; what it did not list stays ({len(missing)})")
    return removed, tuple(refusals)
