"""The rewriter turned round as reranker: how likely a query is, given a tool's entry.

A query's likelihood under a tool's text is a ranking by itself (Ponte and Croft, SIGIR 1998; by a language model: UPR, 2204.07496).
It is exact where sampled rewrites are noisy, reads query and entry together as an encoder never does, and needs no correction for
entries that are likely anyway: the query is the same for all of them.

Invariants: nothing here samples; the same weights, query and tool give the same figure, whatever else is asked with them (but for
rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.core.prompts import query_prompt, query_target
from actors.core.types import Tool

QUERY_TOKENS = 64
"""A query is cut here."""


class Reranker:
    """A causal LLM that was trained from entries to queries (``query_prompt``, ``query_target``)."""

    def __init__(self, model_dir: Path, precision: Literal["float32", "bfloat16"], threads: int | None = None) -> None:
        """Load the model of a Hugging Face directory."""
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if threads and self._device == "cpu":
            torch.set_num_threads(threads)
        self._tokenizer = AutoTokenizer.from_pretrained(model_dir)
        model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=getattr(torch, precision))
        self._model = model.to(self._device).eval()

    def likelihoods(self, query: str, tools: Sequence[Tool]) -> list[float]:
        """Mean log-likelihood of a token of the query (its end among them) given each tool's entry, in nats; at most 0."""
        if not tools:
            return []
        wanted = [*self._encode(query_target(query))[:QUERY_TOKENS], int(self._tokenizer.eos_token_id)]
        prompts = [self._encode(query_prompt(tool)) for tool in tools]
        longest = max(map(len, prompts)) + len(wanted)
        ids = torch.full((len(tools), longest), int(self._tokenizer.eos_token_id))
        mask = torch.zeros_like(ids)
        # The states that tell of the query's tokens: from the prompt's last to the query's last but one.
        places = torch.tensor([len(p) - 1 for p in prompts])[:, None] + torch.arange(len(wanted))
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt) + len(wanted)] = torch.tensor(prompt + wanted)
            mask[row, : len(prompt) + len(wanted)] = 1
        with torch.inference_mode():
            states = self._model.base_model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device)).last_hidden_state
            states = states.gather(1, places.to(self._device)[..., None].expand(-1, -1, states.shape[-1]))
            logits = self._model.get_output_embeddings()(states).float()
            targets = torch.tensor(wanted, device=self._device).expand(len(tools), -1)
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        return [float(-row.mean()) for row in losses.cpu()]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids
