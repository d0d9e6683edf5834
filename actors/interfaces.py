"""The seams between the loop and what does the work: Protocols, so that the loop runs the same against Ray actors and fakes.

Invariants: no implementation here; stages hand each other directories and versions, never models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from actors.core.types import Completion, Tool, Unit

Progress = Callable[[int, int], None]
"""Called with (done, total) in the unit the stage counts in; cheap enough to call for every step."""


class Engine(Protocol):
    """Text generation by a causal LLM with LoRA adapters that are known by (name, id, directory)."""

    def load_base(self, model_dir: Path) -> None:
        """Replace the base weights (after the warm start); drops every cached prefix."""

    def load_adapter(self, version: int, adapter_dir: Path) -> None:
        """Make adapter ``version`` the one that generates; a version is loaded once and never overwritten."""

    def generate(
        self, prompts: Sequence[str], samples: int, temperature: float, max_new_tokens: int, seed: int, progress: Progress
    ) -> list[list[Completion]]:
        """``samples`` completions for each prompt."""

    def close(self) -> None:
        """End the engine and its child processes."""


class PairReader(Protocol):
    """What reads queries against tools' entries (``actors.reranker.Reranker``)."""

    def likelihoods(self, pairs: Sequence[tuple[str, Tool]], progress: Progress | None = None) -> list[float]:
        """Mean log-likelihood of a token of each query given its tool's entry, in nats."""


class UnitSource(Protocol):
    """Where the loop's units come from. ``count`` is how many there will be; None: as long as the run lasts."""

    count: int | None

    async def take(self, index: int) -> Unit:
        """Unit ``index``, which was cut before or is cut now; waits, without a deadline, until there is enough for it."""


class Stages(Protocol):
    """What the co-training loop asks for; each call returns when its output is published, and raises with its own traceback.

    Every call is idempotent: where the output is already published, it returns at once (a restarted run).
    """

    async def generate(self, unit: Unit, rewriter_version: int) -> dict[str, Any]:
        """Publish ``rewrites(u)`` made by exactly ``rewriter_version``."""

    async def train_encoder(self, unit: Unit) -> dict[str, Any]:
        """Consume ``rewrites(u)``; publish encoder ``u + 1``."""

    async def build_index(self, unit: Unit) -> dict[str, Any]:
        """Consume encoder ``u + 1``; publish retriever ``u + 1`` (encoder and index as one)."""

    async def score(self, unit: Unit, retriever_version: int) -> dict[str, Any]:
        """Consume ``rewrites(u)``; publish ``scored(u)`` and ``pairs(u)`` made by exactly ``retriever_version``."""

    async def train_rewriter(self, unit: Unit) -> dict[str, Any]:
        """Consume ``pairs(u)``; publish rewriter ``u + 1``."""

    async def judge(self, version: int) -> dict[str, Any]:
        """Make a candidate release of rewriter and retriever ``version``; promote it, or keep it with the reason."""

    async def latest(self) -> tuple[int, int]:
        """(rewriter version, retriever version) newest published: where a restarted run goes on."""

    async def progress(self) -> int:
        """A number that changes whenever any stage got on with its work; the watchdog looks at it."""
