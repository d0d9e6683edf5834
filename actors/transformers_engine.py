"""Text generation by transformers and PEFT, for machines without vLLM; the measure that vLLM is held against.

Invariants: an adapter's name is never used for other weights; the global random state is left as it was; equal seeds and prompts
give equal texts.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from actors.core.types import Completion
from actors.interfaces import Progress

SEQUENCES_PER_BATCH = 64
"""Sequences decoded together (prompts times samples)."""


class TransformersEngine:
    """``generate`` in batches of prompts of about equal length, padded on the left."""

    def __init__(self, precision: Literal["float32", "bfloat16"], threads: int) -> None:
        """``threads`` are used on a CPU."""
        self._precision = precision
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: Any = None
        self._tokenizer: Any = None
        self._adapters: dict[int, Path] = {}
        if self._device == "cpu":
            torch.set_num_threads(threads)

    def load_base(self, model_dir: Path) -> None:
        """Full weights of ``model_dir`` (Hugging Face layout); no adapter is on."""
        self._tokenizer = AutoTokenizer.from_pretrained(model_dir, padding_side="left")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=getattr(torch, self._precision))
        self._model.to(self._device).eval()
        self._adapters.clear()

    def load_adapter(self, version: int, adapter_dir: Path) -> None:
        """Let adapter ``version`` generate; loaded when the base has not seen the version yet.

        Raises ValueError where the version is known with another directory, RuntimeError before ``load_base``.
        """
        from peft import PeftModel

        if self._model is None:
            raise RuntimeError("TransformersEngine: load_base comes first")
        name = f"rewriter-v{version}"
        known = self._adapters.get(version)
        if known is None:
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(str(adapter_dir), adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(self._model, str(adapter_dir), adapter_name=name).eval()
            self._adapters[version] = adapter_dir
        elif known != adapter_dir:
            raise ValueError(f"adapter {version} is loaded from {known}, not {adapter_dir}; versions stay as they are")
        self._model.set_adapter(name)

    def generate(
        self, prompts: Sequence[str], samples: int, temperature: float, max_new_tokens: int, seed: int, progress: Progress
    ) -> list[list[Completion]]:
        """``samples`` completions of each prompt, in order; temperature 0 is greedy. ``progress`` counts prompts."""
        if temperature == 0 and samples > 1:
            return [row * samples for row in self.generate(prompts, 1, 0.0, max_new_tokens, seed, progress)]
        if self._model is None:
            raise RuntimeError("TransformersEngine: load_base comes first")
        token_ids = [self._tokenizer.encode(p, add_special_tokens=False) for p in prompts]
        by_length = sorted(range(len(prompts)), key=lambda i: len(token_ids[i]), reverse=True)
        rows: list[list[Completion]] = [[] for _ in prompts]
        size = max(1, SEQUENCES_PER_BATCH // samples)
        generation = self._generation(samples, temperature, max_new_tokens)
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            for first in range(0, len(prompts), size):
                chosen = by_length[first : first + size]
                for i, completions in zip(chosen, self._batch([token_ids[i] for i in chosen], generation), strict=True):
                    rows[i] = completions
                progress(min(first + size, len(prompts)), len(prompts))
        return rows

    def close(self) -> None:
        """Free the weights."""
        self._model = None
        gc.collect()

    def _generation(self, samples: int, temperature: float, max_new_tokens: int) -> GenerationConfig:
        return GenerationConfig(
            do_sample=temperature > 0,
            temperature=temperature or 1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=samples,
            max_new_tokens=max_new_tokens,
            eos_token_id=self._ends(),
            pad_token_id=self._tokenizer.pad_token_id,
        )

    def _ends(self) -> list[int]:
        """Tokens that end a text: those of the model's own generation settings, else the tokenizer's."""
        ends = self._model.generation_config.eos_token_id
        if ends is None:
            ends = self._tokenizer.eos_token_id
        return list(ends) if isinstance(ends, list) else [ends]

    def _batch(self, token_ids: Sequence[list[int]], generation: GenerationConfig) -> list[list[Completion]]:
        inputs = self._tokenizer.pad({"input_ids": list(token_ids)}, return_tensors="pt").to(self._device)
        output = self._model.generate(**inputs, generation_config=generation)
        texts = output[:, inputs["input_ids"].shape[1] :].tolist()
        ends = set(generation.eos_token_id)
        completions = [self._completion(ids, ends) for ids in texts]
        samples = generation.num_return_sequences
        return [completions[i : i + samples] for i in range(0, len(completions), samples)]

    def _completion(self, token_ids: list[int], ends: set[int]) -> Completion:
        length = next((i + 1 for i, token in enumerate(token_ids) if token in ends), None)
        text = self._tokenizer.decode(token_ids[:length], skip_special_tokens=True)
        # A character cut in its middle decodes to the replacement character; vLLM leaves it out too.
        return Completion(text.rstrip("\ufffd"), length or len(token_ids), length is not None)
