"""From what users did to what is trained: interactions in, examples of a unit out.

Invariants: pure, and equal input and seed give equal units; an example is new in one unit only; a query whose hash holds it out is
never trained; no tenant gives more than its share of a unit's new examples, and no (query, tool) more than its cap. The whole state
goes through ``state`` and ``Replay.restore`` unchanged.

Signals: a call that succeeded makes its tool right, a failed one weakly wrong; a tool that was shown above and not called is wrong
only where another shown tool succeeded (Joachims et al., SIGIR 2005, skip-above). Position bias: an example weighs
1 / propensity of the best placed right tool, clipped (Joachims et al., WSDM 2017).
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from actors.core.joining import Interaction
from actors.core.types import LOG_KIND, Found, Query

HELD_OUT_BUCKETS = 10
HELD_OUT_SIZE = 500
"""Held-out examples that are kept, the newest: they tell what users ask now, and each candidate is judged by all of them."""


@dataclass(frozen=True, slots=True)
class Example:
    """A query with the tools that users found right and wrong; ``weight`` >= 1 corrects position bias."""

    example_id: str
    tenant: str
    query: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    weight: float
    time: float


@dataclass(frozen=True)
class ReplayLimits:
    """How a unit is mixed and what one client may do to it; shares are of a unit's examples from the log."""

    reservoir_share: float
    reservoir_size: int
    tenant_share: float
    per_query_tool: int
    weight_clip: float
    waiting: int


def normalised(query: str) -> str:
    """The text by which two queries are the same."""
    return " ".join(query.lower().split())


def is_held_out(query: str) -> bool:
    """Whether the query is the gate's: a tenth of all, by a hash of its text that never changes."""
    return int.from_bytes(hashlib.sha256(f"gate {normalised(query)}".encode()).digest()[:8], "big") % HELD_OUT_BUCKETS == 0


def example_of(interaction: Interaction, weight_clip: float) -> Example | None:
    """What an interaction teaches; None where nothing succeeded and nobody labelled it."""
    wrong: tuple[str, ...] = ()
    if interaction.label:
        right, weight = interaction.label, 1.0
    else:
        right = tuple(tool_id for tool_id, result in interaction.results.items() if result == "succeeded")
        if not right:
            return None
        shown = [t for t in interaction.tools if t.tool_id in right]
        last = max((t.rank for t in shown), default=0)
        skipped = [t.tool_id for t in interaction.tools if t.rank < last and t.tool_id not in interaction.results]
        failed = [t.tool_id for t in interaction.tools if interaction.results.get(t.tool_id) == "failed"]
        # Negatives are taken in this order as far as a batch needs them: what was passed over says more than a call that failed,
        # which may have had a right tool and wrong arguments.
        wrong = tuple(dict.fromkeys([*skipped, *failed])) if not interaction.late else ()
        # A tool that the agent found elsewhere weighs 1: no place in the answer favoured it.
        weight = min(weight_clip, min((1.0 / t.propensity for t in shown), default=1.0))
    digest = hashlib.sha256(interaction.interaction_id.encode()).hexdigest()[:24]
    return Example(f"log-{digest}", interaction.tenant, interaction.query, right, wrong, weight, interaction.time)


class Replay:
    """Examples that wait for their unit, a uniform sample of those that had theirs, and those that the gate keeps."""

    def __init__(self, limits: ReplayLimits) -> None:
        """Start empty."""
        self._limits = limits
        self._waiting: list[Example] = []
        self._reservoir: list[Example] = []
        self._trained = 0
        self._pairs: Counter[str] = Counter()
        self.held_out: list[Example] = []
        self.refused: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Examples that no unit has taken yet."""
        return len(self._waiting)

    def add(self, interaction: Interaction) -> None:
        """Keep what an interaction teaches: for the gate, for a unit, or not at all (``refused`` counts why)."""
        example = example_of(interaction, self._limits.weight_clip)
        if example is None:
            self.refused["nothing succeeded"] += 1
        elif is_held_out(example.query):
            self.held_out = [*self.held_out, example][-HELD_OUT_SIZE:]
        else:
            self._admit(example)

    def enough(self, count: int) -> bool:
        """Whether a unit of ``count`` examples could be cut now."""
        new = count - self._old(count)
        return self.new_available(new) >= new

    def new_available(self, count: int) -> int:
        """How many of ``count`` new examples a unit would get now, with every tenant at its share at most."""
        return len(self._choose(count))

    def cut(self, count: int, seed: int) -> list[Example]:
        """The examples of the next unit: new ones, oldest first, and the configured share of old ones from the reservoir.

        ``count`` is of both together; what the reservoir cannot give yet, new ones fill. The new ones enter the reservoir.
        """
        rng = random.Random(seed)
        old = rng.sample(self._reservoir, self._old(count))
        chosen = self._choose(count - len(old))
        taken = {example.example_id for example in chosen}
        self._waiting = [example for example in self._waiting if example.example_id not in taken]
        for example in chosen:
            self._keep(example, rng)
        return [*chosen, *old]

    @property
    def reservoir(self) -> list[Example]:
        """A uniform sample of what was trained; all of it while it fits."""
        return list(self._reservoir)

    def found(self) -> list[Found]:
        """What users found: by the reservoir, by as many of the newest that wait as it may hold, and by what the gate keeps.

        It is for serving: nothing is trained on it, and the gate judges models without it.
        """
        examples = [*self._reservoir, *self._waiting[-self._limits.reservoir_size :], *self.held_out]
        return [Found(example.tenant, example.query, example.right) for example in examples]

    def forget(self, tenant: str) -> int:
        """Drop all examples of a tenant; return how many there were."""
        before = len(self._waiting) + len(self._reservoir) + len(self.held_out)
        self._waiting, self._reservoir, self.held_out = (
            [e for e in examples if e.tenant != tenant] for examples in (self._waiting, self._reservoir, self.held_out)
        )
        return before - len(self._waiting) - len(self._reservoir) - len(self.held_out)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {
            "waiting": [asdict(e) for e in self._waiting],
            "reservoir": [asdict(e) for e in self._reservoir],
            "held_out": [asdict(e) for e in self.held_out],
            "trained": self._trained,
            "pairs": dict(self._pairs),
            "refused": dict(self.refused),
        }

    @classmethod
    def restore(cls, limits: ReplayLimits, state: dict[str, Any]) -> Replay:
        """The replay that gave ``state``."""
        replay = cls(limits)
        replay._waiting, replay._reservoir, replay.held_out = (
            [example_from(record) for record in state[name]] for name in ("waiting", "reservoir", "held_out")
        )
        replay._trained, replay._pairs, replay.refused = state["trained"], Counter(state["pairs"]), Counter(state["refused"])
        return replay

    def _old(self, count: int) -> int:
        return min(len(self._reservoir), round(count * self._limits.reservoir_share))

    def _admit(self, example: Example) -> None:
        fresh = tuple(t for t in example.right if self._pairs[_pair(example.query, t)] < self._limits.per_query_tool)
        if not fresh:
            self.refused["query and tool at their cap"] += 1
            return
        tenants = Counter([example.tenant, *(e.tenant for e in self._waiting)])
        if tenants[example.tenant] > self._cap(self._limits.waiting, len(tenants)):
            self.refused["tenant at its cap"] += 1
            return
        if len(self._waiting) >= self._limits.waiting:
            self.refused["too many waiting"] += 1
            return
        self._pairs.update(_pair(example.query, t) for t in fresh)
        self._waiting.append(replace(example, right=fresh))

    def _choose(self, count: int) -> list[Example]:
        cap = self._cap(count, len({e.tenant for e in self._waiting}))
        by_tenant: Counter[str] = Counter()
        chosen: list[Example] = []
        for example in self._waiting:
            if len(chosen) == count:
                break
            if by_tenant[example.tenant] < cap:
                by_tenant[example.tenant] += 1
                chosen.append(example)
        return chosen

    def _cap(self, count: int, tenants: int) -> int:
        """Of ``count`` examples, how many one of ``tenants`` may give: its share, but never less than an equal part."""
        return max(1, int(count * max(self._limits.tenant_share, 1 / max(1, tenants))))

    def _keep(self, example: Example, rng: random.Random) -> None:
        """Reservoir sampling (Vitter, algorithm R): every example that was trained is in it with equal probability."""
        self._trained += 1
        if len(self._reservoir) < self._limits.reservoir_size:
            self._reservoir.append(example)
            return
        place = rng.randrange(self._trained)
        if place < self._limits.reservoir_size:
            self._reservoir[place] = example


def query_of(example: Example) -> Query:
    """The query that the loop's stages meet: its gold are the tools that users found right."""
    return Query(example.example_id, example.query, LOG_KIND, "train", dict.fromkeys(example.right, 1), tier=LOG_KIND)


def copies(examples: Sequence[Example], seed: int) -> list[Example]:
    """Each example as often as its weight says; the fraction is decided by lot, so that the expectation is right."""
    rng = random.Random(seed)
    return [example for example in examples for _ in range(int(example.weight) + (rng.random() < example.weight % 1))]


def example_from(record: dict[str, Any]) -> Example:
    """An example from its JSON."""
    return Example(**{**record, "right": tuple(record["right"]), "wrong": tuple(record["wrong"])})


def _pair(query: str, tool_id: str) -> str:
    return hashlib.sha256(f"{normalised(query)}\0{tool_id}".encode()).hexdigest()[:16]
