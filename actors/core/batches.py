"""What goes into a training step: InfoNCE batches, rows of like length for SFT and DPO, the pairs DPO takes. Pure.

Invariants: a batch never holds two rows of which one's tool is a gold tool, or an equivalent of one, of the other; no document of a
batch (positive or negative) is right for a row that meets it as wrong. Equal input and seed give equal output.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from actors.core.types import Catalog, InputError

BATCHES_PER_SORT = 8
REHEARSED = 16
"""Texts of any kind that the encoder rehearses in a step: twice as many, of thrice the weight, keep no more (experiments, 26)."""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """An anchor text and the tool it must find.

    ``gold`` are all tools that answer it, ``negatives`` ids of hard wrong ones, hardest first; shares are given by ``group``.
    """

    anchor: str
    tool_id: str
    gold: tuple[str, ...]
    group: str
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchRow:
    """An anchor text and the ids of its documents: the positive first, then as many negatives as every row of the batch has.

    ``gold`` are all tools that answer it.
    """

    anchor: str
    tool_ids: tuple[str, ...]
    gold: tuple[str, ...]


class _Stream:
    """The rows of one group, shuffled anew each time all were taken."""

    def __init__(self, rows: Sequence[EncoderRow], rng: random.Random) -> None:
        self._rows, self._rng = rows, rng
        self._queue: deque[EncoderRow] = deque()

    def take(self, fits: Callable[[EncoderRow], bool]) -> EncoderRow | None:
        """The next row that fits; those that do not keep their place. None where a whole epoch holds none."""
        skipped: list[EncoderRow] = []
        found = None
        for _ in range(2 * len(self._rows)):
            if not self._queue:
                self._queue.extend(self._rng.sample(self._rows, len(self._rows)))
            row = self._queue.popleft()
            if fits(row):
                found = row
                break
            skipped.append(row)
        # What was skipped twice stands in the queue once.
        self._queue.extendleft(reversed(list(dict.fromkeys(skipped))))
        return found


class _Batch:
    """A batch being filled."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._documents: set[str] = set()
        self._never: set[str] = set()
        self.rows: list[EncoderRow] = []

    def fits(self, row: EncoderRow) -> bool:
        return row.tool_id not in self._never and self._documents.isdisjoint(self._catalog.never_negative(list(row.gold)))

    def add(self, row: EncoderRow) -> None:
        self.rows.append(row)
        self._documents.add(row.tool_id)
        self._never |= self._catalog.never_negative([*row.gold, row.tool_id])

    def with_negatives(self, count: int, rng: random.Random) -> list[BatchRow]:
        """``count`` negatives for each row: its own where they are wrong for all rows, else any tool that is."""
        taken = set(self._documents)
        chosen: list[list[str]] = []
        for row in self.rows:
            chosen.append([t for t in dict.fromkeys(row.negatives) if t not in self._never and t not in taken][:count])
            taken.update(chosen[-1])
        for negatives in chosen:
            while len(negatives) < count:
                negatives.append(self._any_wrong(taken, rng))
                taken.add(negatives[-1])
        return [BatchRow(row.anchor, (row.tool_id, *negatives), row.gold) for row, negatives in zip(self.rows, chosen, strict=True)]

    def _any_wrong(self, taken: set[str], rng: random.Random) -> str:
        tools = self._catalog.tools
        for _ in range(100):
            tool_id = tools[rng.randrange(len(tools))].tool_id
            if tool_id not in self._never and tool_id not in taken:
                return tool_id
        wrong = [t.tool_id for t in tools if t.tool_id not in self._never]
        if not wrong:
            raise InputError("encoder.mined_negatives: every tool is right for some row of a batch; set it to 0 for this catalog")
        return rng.choice(wrong)


def make_batches(
    rows: Sequence[EncoderRow],
    shares: Mapping[str, float],
    catalog: Catalog,
    steps: int,
    pairs_per_step: int,
    negatives: int,
    seed: int,
) -> list[list[BatchRow]]:
    """``steps`` batches of ``pairs_per_step`` rows (fewer where the rows belong to fewer tools), groups mixed by ``shares``.

    Shares need not sum to 1; groups without rows give theirs to the others. A group repeats only after all its rows were taken.
    ``negatives`` applies where any row has mined ones, else there are none. Raises ``InputError`` where rows of two different tools
    cannot be found.
    """
    rng = random.Random(seed)
    groups = {g: [r for r in rows if r.group == g] for g in shares}
    streams = {g: _Stream(members, rng) for g, members in groups.items() if members and shares[g] > 0}
    total = sum(shares[g] for g in streams)
    count = negatives if any(row.negatives for row in rows) else 0
    owed = dict.fromkeys(streams, 0.0)
    batches = []
    for _ in range(steps):
        for group in owed:
            owed[group] += pairs_per_step * shares[group] / total
        batch = _Batch(catalog)
        _fill(batch, streams, owed, pairs_per_step)
        if len(batch.rows) < 2:
            raise InputError("encoder training: the rows belong to fewer than two different tools; give more training queries")
        batches.append(batch.with_negatives(count, rng))
    return batches


def _fill(batch: _Batch, streams: Mapping[str, _Stream], owed: dict[str, float], size: int) -> None:
    """Take rows from the group that is owed most, until the batch is full or no group has one that fits."""
    empty: set[str] = set()
    while len(batch.rows) < size and len(empty) < len(streams):
        group = max((g for g in streams if g not in empty), key=lambda g: owed[g])
        row = streams[group].take(batch.fits)
        if row is None:
            empty.add(group)
            continue
        owed[group] -= 1.0
        batch.add(row)


def by_length(rows: Sequence[Row], size: int, length: Callable[[Row], int], seed: int) -> list[Row]:
    """The rows in batches of ``size`` of like length: sorted within ``BATCHES_PER_SORT`` batches, those then shuffled."""
    rng = random.Random(seed)
    result: list[Row] = []
    for start in range(0, len(rows), size * BATCHES_PER_SORT):
        part = sorted(rows[start : start + size * BATCHES_PER_SORT], key=length)
        batches = [part[i : i + size] for i in range(0, len(part), size)]
        # A batch that is not full may only stand at the very end.
        last = batches.pop() if len(batches[-1]) < size else []
        rng.shuffle(batches)
        result += [row for batch in batches for row in batch] + last
    return result


def most_telling(pairs: Sequence[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` pairs of the widest reward gaps, ties by lot, in random order."""
    rng = random.Random(seed)
    shuffled = rng.sample(list(pairs), len(pairs))
    taken = sorted(shuffled, key=lambda p: p["rejected_reward"] - p["chosen_reward"])[:count]
    return rng.sample(taken, len(taken))
