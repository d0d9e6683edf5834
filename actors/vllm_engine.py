"""vLLM in this process: continuous batching, LoRA adapters by version, full weights replaced in place.

Invariants: a name and an id of an adapter are never used for other weights, and every change of weights drops the cached prefixes
(vLLM would answer with the old ones); each request has a seed of its own, so what a prompt gives does not depend on which other
prompts are under way (up to rounding); no request outlives ``generate``. Import this module only where vLLM is installed.

The engine lives in this process: with an engine process of its own vLLM keeps one core for itself, which is half of a machine with
two.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import torch
from transformers import AutoConfig
from vllm import LLM, SamplingParams, TokensPrompt, ir
from vllm.config.lora import MaxLoRARanks
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from actors.core.types import Completion, InputError
from actors.interfaces import Progress
from configs.schema import RewriterConfig

Precision = Literal["float32", "bfloat16"]
Runs = Sequence[tuple[int, slice]]

MAX_SEQUENCES = 256
"""Sequences decoded together: enough rows to keep matrix products at their full rate on two cores."""
TOKENS_PER_STEP = 2048
"""Tokens computed in one step of the engine."""
BLOCK_TOKENS = 32
"""Tokens in a block of the cache, the smallest that vLLM's CPU attention takes: samples of one query share its whole blocks."""


NORMS = "cohyde_cpu"
"""vLLM's own C kernels for RMS norms: it takes them on GPUs only, and without them a quarter of the time on a CPU goes to norms."""


def _kernel_takes(x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None) -> bool:
    return variance_size is None and weight is not None and weight.dtype == x.dtype


def _sum_kernel_takes(
    x: torch.Tensor, x_residual: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None
) -> bool:
    return _kernel_takes(x, weight, epsilon, variance_size)


@ir.ops.rms_norm.register_impl(NORMS, supported=current_platform.is_cpu(), supports_args=_kernel_takes)
def _rms_norm(x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None) -> torch.Tensor:
    output = torch.empty_like(x)
    torch.ops._C.rms_norm(output, x, weight, epsilon)
    return output


@ir.ops.fused_add_rms_norm.register_impl(NORMS, supported=current_platform.is_cpu(), supports_args=_sum_kernel_takes, inplace=True)
def _fused_add_rms_norm(
    x: torch.Tensor, x_residual: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
    return x, x_residual


class DenseLora(PunicaWrapperCPU):
    """LoRA as two dense products for each run of rows with one adapter, in place; rows without an adapter cost nothing.

    vLLM's own CPU code gathers a copy of the adapter's weights for every token. x is [rows, in], y [rows, out],
    A [slots, 1, rank, in] and B [slots, 1, out, rank].
    """

    _token_runs: Runs = ()
    _sampled_runs: Runs = ()

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Take which adapter each row of the coming step has."""
        super().update_metadata(*args, **kwargs)
        self._token_runs, self._sampled_runs = _runs(self.token_lora_indices), _runs(self.sampler_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """``y += scale * x A^T B^T`` for several linear layers that stand side by side in y, ``output_slices`` wide."""
        x, y, offset = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1]), 0
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            _add(y[:, offset : offset + width], x, a, b, scale, self._token_runs)
            offset += width

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """The same for the output layer, whose rows are the sampled positions alone."""
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        _add(y, x, lora_a_stacked, lora_b_stacked, scale, self._sampled_runs)


def _runs(slots: torch.Tensor) -> Runs:
    """Neighbouring rows of one slot: (slot, rows); rows without an adapter (-1) are left out."""
    runs, start = [], 0
    for slot, run in itertools.groupby(slots.tolist()):
        rows = slice(start, start + sum(1 for _ in run))
        start = rows.stop
        if slot >= 0:
            runs.append((slot, rows))
    return runs


def _add(y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float, runs: Runs) -> None:
    for slot, rows in runs:
        # Logits are padded beyond the vocabulary.
        y[rows, : b.shape[-2]].addmm_(x[rows] @ a[slot, 0].T, b[slot, 0].T, alpha=scale)


class VllmEngine:
    """Text generation by vLLM. The engine starts at the first ``load_base`` and is kept: later ones replace its weights."""

    def __init__(self, config: RewriterConfig, precision: Precision, threads: int) -> None:
        """``precision`` "float32" or "bfloat16"; ``threads`` are used on a CPU."""
        self._config, self._precision, self._threads = config, precision, threads
        self._llm: LLM | None = None
        self._adapters: dict[int, LoRARequest] = {}
        self._adapter: LoRARequest | None = None
        self._adapters_made = 0

    def load_base(self, model_dir: Path) -> None:
        """Full weights of ``model_dir`` (Hugging Face layout, one architecture for the engine's life); no adapter is on."""
        if self._llm is None:
            self._llm = self._start(model_dir)
        else:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(model_dir)})
        # Adapters belong to the base that they were trained on.
        self._adapters.clear()
        self._use(None)

    def load_adapter(self, version: int, adapter_dir: Path) -> None:
        """Let adapter ``version`` generate; loaded when the base has not seen the version yet.

        Raises ValueError where the version is known with another directory, RuntimeError before ``load_base``.
        """
        adapter = self._adapters.get(version)
        if adapter is None:
            self._adapters_made += 1
            number = self._adapters_made
            adapter = LoRARequest(f"rewriter-v{version}-{number}", number, str(adapter_dir))
            self._engine().add_lora(adapter)
            self._adapters[version] = adapter
        elif adapter.lora_path != str(adapter_dir):
            raise ValueError(
                f"adapter {version} is loaded from {adapter.lora_path}; a version is never overwritten ({adapter_dir})"
            )
        self._use(adapter)

    def generate(
        self, prompts: Sequence[str], samples: int, temperature: float, max_new_tokens: int, seed: int, progress: Progress
    ) -> list[list[Completion]]:
        """``samples`` completions of each prompt, in order; temperature 0 is greedy. ``progress`` counts prompts."""
        if temperature == 0 and samples > 1:
            return [row * samples for row in self.generate(prompts, 1, 0.0, max_new_tokens, seed, progress)]
        engine = self._engine()
        assert self._llm is not None
        tokenizer = self._llm.get_tokenizer()
        names = [f"{seed}-{i}" for i in range(len(prompts))]
        results: dict[str, list[Completion]] = {}
        try:
            for i, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
                # The chat template has put the special tokens there already.
                token_ids = tokenizer.encode(prompt, add_special_tokens=False)
                params = _sampling(samples, temperature, max_new_tokens, _request_seed(seed, i, samples))
                engine.add_request(name, TokensPrompt(prompt_token_ids=token_ids), params, lora_request=self._adapter)
            while engine.has_unfinished_requests():
                for output in engine.step():
                    results[output.request_id] = [_completion(o) for o in sorted(output.outputs, key=lambda o: o.index)]
                progress(len(results), len(prompts))
        finally:
            if engine.has_unfinished_requests():
                engine.abort_request([name for name in names if name not in results])
        return [results[name] for name in names]

    def close(self) -> None:
        """Free weights and cache; the engine has no process of its own."""
        if self._llm is None:
            return
        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        gc.collect()
        cleanup_dist_env_and_memory()

    def _start(self, model_dir: Path) -> LLM:
        _let_vllm_look_at_numba()
        on_cpu = current_platform.is_cpu()
        if on_cpu:
            # vLLM has no setting for it.
            wrapper = f"{DenseLora.__module__}.{DenseLora.__qualname__}"
            setattr(current_platform, "get_punica_wrapper", lambda: wrapper)  # noqa: B010
        config = self._config
        tokens = config.prompt_tokens + config.max_new_tokens
        norms = {"rms_norm": [NORMS, "native"], "fused_add_rms_norm": [NORMS, "native"]} if on_cpu else {}
        with _threads(self._threads if on_cpu else None):
            return LLM(
                model=str(model_dir),
                dtype=self._precision,
                max_model_len=tokens,
                max_num_seqs=MAX_SEQUENCES,
                max_num_batched_tokens=max(TOKENS_PER_STEP, tokens),
                # A prompt in parts with a seed of its own fails on a CPU ("CPU Generator does not use offset").
                enable_chunked_prefill=False,
                enable_prefix_caching=True,
                block_size=BLOCK_TOKENS,
                kv_cache_memory_bytes=_cache_bytes(model_dir, config, self._precision),
                enforce_eager=on_cpu,
                enable_lora=True,
                max_loras=1,
                max_cpu_loras=2,
                max_lora_rank=_slot_rank(config.lora_rank),
                disable_log_stats=True,
                ir_op_priority=norms,
            )

    def _engine(self) -> Any:
        if self._llm is None:
            raise RuntimeError("VllmEngine: load_base comes first")
        return self._llm.llm_engine

    def _use(self, adapter: LoRARequest | None) -> None:
        self._adapter = adapter
        if not self._engine().reset_prefix_cache():
            raise RuntimeError("vLLM kept its prefix cache: a request is still under way")


def _cache_bytes(model_dir: Path, config: RewriterConfig, precision: Precision) -> int:
    """Keys and values of ``MAX_SEQUENCES`` sequences whose samples share their prompt, all but its last block."""
    model = AutoConfig.from_pretrained(model_dir).get_text_config()
    heads = getattr(model, "num_key_value_heads", None) or model.num_attention_heads
    width = getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads
    token_bytes = 2 * model.num_hidden_layers * heads * width * getattr(torch, precision).itemsize
    own = BLOCK_TOKENS + _whole_blocks(config.max_new_tokens)
    shared = _whole_blocks(config.prompt_tokens) / config.samples_per_query
    return int(MAX_SEQUENCES * (own + shared) * token_bytes)


def _whole_blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS


def _slot_rank(rank: int) -> MaxLoRARanks:
    """The least rank that vLLM has slots for and that holds adapters of ``rank``."""
    fitting: list[MaxLoRARanks] = [r for r in sorted(get_args(MaxLoRARanks)) if r >= rank]
    if not fitting:
        raise InputError(f"rewriter.lora_rank={rank} exceeds what vLLM takes; set it to {max(get_args(MaxLoRARanks))} or less")
    return fitting[0]


def _sampling(samples: int, temperature: float, max_new_tokens: int, seed: int) -> SamplingParams:
    return SamplingParams(
        n=samples,
        temperature=temperature,
        top_p=1.0,
        top_k=0,
        max_tokens=max_new_tokens,
        seed=None if temperature == 0 else seed,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _request_seed(seed: int, index: int, samples: int) -> int:
    # vLLM seeds the samples of a request with seed, seed + 1, ...
    return (seed * 1_000_003 + index * samples) % 2**31


def _completion(output: Any) -> Completion:
    return Completion(output.text, len(output.token_ids), output.finish_reason == "stop")


@contextlib.contextmanager
def _threads(count: int | None) -> Any:
    """Start vLLM's arithmetic with ``count`` threads and give ``torch.set_num_threads`` back, which vLLM replaces by a no-op."""
    set_num_threads = torch.set_num_threads
    if count is not None:
        set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads


def _let_vllm_look_at_numba() -> None:
    """Keep vLLM's start from dying in a process that has imported numba (bm25s does).

    vLLM 0.32 looks at ``vars()`` of everything in ``sys.modules``; llvmlite 0.47's handle of its library answers that with a C
    function ("'_lib_fn_wrapper' object has no attribute 'get'").
    """
    ffi = sys.modules.get("llvmlite.binding.ffi")
    if ffi is not None:
        ffi.lib._fntab.setdefault("__dict__", {})
