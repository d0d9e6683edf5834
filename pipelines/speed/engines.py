"""Text generation measured: vLLM against ``transformers.generate``, and against the arithmetic of the machine.

Invariants: same model, prompts, precision and threads for both, each after a warm-up; the rate of a plain matrix product is taken
beside the measurement, before and after it.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from actors.core.prompts import rewrite_prompt
from actors.core.types import Corpus
from actors.interfaces import Engine
from actors.rewriter import EngineName, Precision, choose_engine, make_engine
from configs.schema import Config
from pipelines.speed.device import parameters, product_gflops

PROMPTS = 64
WARM_UP_PROMPTS = 8

Figures = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What all parts measure with."""

    config: Config
    corpus: Corpus
    encoder_dir: Path
    rewriter_dir: Path
    precision: Precision
    threads: int
    scratch: Path


@dataclass(frozen=True)
class Generation:
    """What an engine did: ``tokens`` were generated for ``rewrites`` in ``seconds``."""

    rewrites: int
    tokens: int
    seconds: float

    @property
    def rewrites_per_s(self) -> float:
        """Rewrites a second."""
        return self.rewrites / self.seconds


def floor_share(parameters: int, tokens: int, gflops: float, seconds: float) -> float:
    """The arithmetic floor, ``2 * parameters * tokens`` operations at ``gflops`` (1e9 a second), as a share of ``seconds``."""
    return 2 * parameters * tokens / (gflops * 1e9) / seconds


def measure_engines(bench: Bench) -> Figures:
    """Rewrites per second of vLLM (with and without an adapter) against transformers, and vLLM's share of the floor."""
    prompts, prompt_tokens = _prompts(bench)
    transformers = _measure(bench, "transformers", prompts)[0]
    figures: Figures = {"transformers_rewrites_per_s": transformers.rewrites_per_s}
    if choose_engine("auto") != "vllm":
        return figures | {"vllm_over_transformers": None}
    plain, adapted, gflops = _measure(bench, "vllm", prompts, _fresh_adapter(bench))
    return figures | {
        "vllm_rewrites_per_s": plain.rewrites_per_s,
        "vllm_tokens_per_s": plain.tokens / plain.seconds,
        "vllm_over_transformers": plain.rewrites_per_s / transformers.rewrites_per_s,
        "vllm_adapter_rewrites_per_s": adapted.rewrites_per_s if adapted else None,
        "floor_share": floor_share(parameters(bench.rewriter_dir), prompt_tokens + plain.tokens, gflops, plain.seconds),
        "matrix_product_gflops": gflops,
    }


def _prompts(bench: Bench) -> tuple[list[str], int]:
    """Prompts of labelled queries with titles drawn from the catalog, and their tokens."""
    from transformers import AutoTokenizer

    settings, rng = bench.config.rewriter, random.Random(bench.config.seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(bench.rewriter_dir)
    queries = labelled_texts(bench.corpus)
    asked = rng.sample(queries, min(PROMPTS, len(queries)))
    contexts = drawn_contexts(bench, len(asked))
    prompts = [rewrite_prompt(q, titles, tokenizer, settings.prompt_tokens) for q, titles in zip(asked, contexts, strict=True)]
    return prompts, sum(len(tokenizer.encode(prompt, add_special_tokens=False)) for prompt in prompts)


def drawn_contexts(bench: Bench, count: int) -> list[list[str]]:
    """``count`` times the titles of tools drawn from the catalog, as many as a prompt carries: their length is what costs."""
    rng, tools = random.Random(bench.config.seed), bench.corpus.catalog.tools
    shown = min(bench.config.rewriter.context_tools, len(tools))
    return [[tool.title for tool in rng.sample(tools, shown)] for _ in range(count)]


def labelled_texts(corpus: Corpus) -> list[str]:
    """Texts of the labelled training queries; of all queries where none is labelled so."""
    texts = [query.text for query in corpus.select("train", ("vague", "standard"))]
    return texts or [query.text for query in corpus.queries]


def _measure(
    bench: Bench, name: EngineName, prompts: Sequence[str], adapter_dir: Path | None = None
) -> tuple[Generation, Generation | None, float]:
    """Generation by the base, by an adapter if one is given, and the matrix product's rate beside the first."""
    engine = make_engine(name, bench.config.rewriter, bench.precision, bench.threads)
    try:
        engine.load_base(bench.rewriter_dir)
        _generate(engine, bench, prompts[:WARM_UP_PROMPTS])
        before = product_gflops(bench.precision)
        plain = _generate(engine, bench, prompts)
        gflops = fmean([before, product_gflops(bench.precision)])
        adapted = None
        if adapter_dir is not None:
            engine.load_adapter(1, adapter_dir)
            adapted = _generate(engine, bench, prompts)
        return plain, adapted, gflops
    finally:
        engine.close()
        gc.collect()


def _generate(engine: Engine, bench: Bench, prompts: Sequence[str]) -> Generation:
    settings = bench.config.rewriter
    started = time.perf_counter()
    rows = engine.generate(
        prompts,
        settings.samples_per_query,
        settings.temperature,
        settings.max_new_tokens,
        bench.config.seed,
        lambda done, total: None,
    )
    seconds = time.perf_counter() - started
    return Generation(sum(map(len, rows)), sum(c.token_count for row in rows for c in row), seconds)


def _fresh_adapter(bench: Bench) -> Path:
    """An untrained adapter: it costs what a trained one costs."""
    from actors.rewriter_trainer import RewriterTrainer

    out = bench.scratch / "adapter"
    RewriterTrainer(bench.config.rewriter, bench.precision).dpo(bench.rewriter_dir, None, [], out, bench.config.seed)
    return out
