"""Hand-written stand-ins at the Protocol seams: no model, no ray, results that show what they were made from."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any

from actors.core.types import Unit


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


@dataclass
class FakeDisk:
    """What outlives a run: published versions and datasets, and how often each learner trained each unit."""

    rewriter: dict[int, str] = field(default_factory=lambda: {0: "rewriter-warm"})
    retriever: dict[int, str] = field(default_factory=lambda: {-1: "retriever-frozen", 0: "retriever-warm"})
    encoder: dict[int, str] = field(default_factory=lambda: {0: "encoder-warm"})
    rewrites: dict[int, tuple[str, int]] = field(default_factory=dict)
    pairs: dict[int, tuple[str, int]] = field(default_factory=dict)
    judged: dict[int, str] = field(default_factory=dict)
    trained: dict[str, list[int]] = field(default_factory=lambda: {"encoder": [], "rewriter": []})


@dataclass
class FakeStages:
    """Stages whose models are hashes of all that trained them; ``seconds`` is how long each stage takes.

    ``fails`` maps (stage, unit) to the exception raised at the end of the stage's work, before anything is published.
    """

    disk: FakeDisk = field(default_factory=FakeDisk)
    seconds: dict[str, float] = field(default_factory=dict)
    fails: dict[tuple[str, int], BaseException] = field(default_factory=dict)
    fixed_retriever: int | None = None
    log: list[tuple[str, str, int]] = field(default_factory=list)
    at_work: set[str] = field(default_factory=set)
    overlaps: set[frozenset[str]] = field(default_factory=set)
    moves: int = 0

    async def generate(self, unit: Unit, rewriter_version: int) -> dict[str, Any]:
        if unit.index not in self.disk.rewrites:
            await self._work("generate", unit)
            text = digest(self.disk.rewriter[rewriter_version], unit)
            self.disk.rewrites[unit.index] = (text, rewriter_version)
        return {"rewriter_version": self.disk.rewrites[unit.index][1]}

    async def train_encoder(self, unit: Unit) -> dict[str, Any]:
        if unit.index + 1 not in self.disk.encoder:
            await self._work("train_encoder", unit)
            self.disk.trained["encoder"].append(unit.index)
            rewrites = self.disk.rewrites.get(unit.index, ("no rewrites", 0))[0]
            self.disk.encoder[unit.index + 1] = digest(self.disk.encoder[unit.index], rewrites, unit)
        return {"loss": 0.5}

    async def build_index(self, unit: Unit) -> dict[str, Any]:
        if unit.index + 1 not in self.disk.retriever:
            await self._work("build_index", unit)
            self.disk.retriever[unit.index + 1] = digest(self.disk.encoder[unit.index + 1])
        return {}

    async def score(self, unit: Unit, retriever_version: int) -> dict[str, Any]:
        if unit.index not in self.disk.pairs:
            await self._work("score", unit)
            scores = digest(self.disk.retriever[retriever_version], self.disk.rewrites[unit.index][0])
            self.disk.pairs[unit.index] = (scores, retriever_version)
        return {"retriever_version": self.disk.pairs[unit.index][1]}

    async def train_rewriter(self, unit: Unit) -> dict[str, Any]:
        if unit.index + 1 not in self.disk.rewriter:
            await self._work("train_rewriter", unit)
            self.disk.trained["rewriter"].append(unit.index)
            self.disk.rewriter[unit.index + 1] = digest(self.disk.rewriter[unit.index], self.disk.pairs[unit.index][0])
        return {}

    async def judge(self, version: int) -> dict[str, Any]:
        if version not in self.disk.judged:
            await self._work("judge", Unit(version - 1, 0, ()))
            self.disk.judged[version] = digest(self.disk.rewriter[version], self.disk.retriever[version])
        return {"promoted": True}

    async def latest(self) -> tuple[int, int]:
        retriever = max(self.disk.retriever) if self.fixed_retriever is None else self.fixed_retriever
        return max(self.disk.rewriter), retriever

    async def progress(self) -> int:
        return self.moves

    async def _work(self, stage: str, unit: Unit) -> None:
        self.log.append(("start", stage, unit.index))
        self.overlaps |= {frozenset({stage, other}) for other in self.at_work}
        self.at_work.add(stage)
        try:
            await asyncio.sleep(self.seconds.get(stage, 0.0))
        finally:
            self.at_work.remove(stage)
        if (stage, unit.index) in self.fails:
            raise self.fails[stage, unit.index]
        self.log.append(("end", stage, unit.index))
