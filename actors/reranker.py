"""The rewriter turned round as reranker: how likely a query is, given a tool's entry.

A query's likelihood under a tool's text is a ranking by itself (Ponte and Croft, SIGIR 1998; by a language model: UPR, 2204.07496).
It is exact where sampled rewrites are noisy, reads query and entry together as an encoder never does, and needs no correction for
entries that are likely anyway: the query is the same for all of them.

Invariants: nothing here samples; the same weights, query and tool give the same figure, whatever else is asked with them (but for
rounding). An entry comes before the query, so what the model makes of it is the same for every query: it is kept for the next one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy, pad
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from actors.core.prompts import query_prompt, query_target
from actors.core.types import Tool
from actors.interfaces import Progress

IGNORED = -100
QUERY_TOKENS = 64
"""A query is cut here."""
PAIRS_AT_ONCE = 24
ENTRIES_KEPT = 512
"""Entries whose states are kept; at 80 tokens those of a model of 135 million parameters take a gigabyte."""


@dataclass(frozen=True)
class _Entry:
    """A prompt's last token, which is read with the query, and the attention's states of those before it."""

    last: int
    states: list[tuple[torch.Tensor, torch.Tensor]]
    """Keys and values of each layer, (heads, tokens, size) in two bytes a number."""


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
        # What is larger than 65,504 has no place in float16; a model that computes with two bytes keeps its own.
        self._kept = torch.float16 if precision == "float32" else getattr(torch, precision)
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def likelihoods(self, pairs: Sequence[tuple[str, Tool]], progress: Progress | None = None) -> list[float]:
        """Mean log-likelihood of a token of each query (its end among them) given its tool's entry, in nats; at most 0.

        ``progress`` is told of pairs.
        """
        found = [0.0] * len(pairs)
        # Ordered by tool, for what was made of the last entries is kept.
        order = sorted(range(len(pairs)), key=lambda i: pairs[i][1].tool_id)
        for start in range(0, len(order), PAIRS_AT_ONCE):
            part = order[start : start + PAIRS_AT_ONCE]
            for i, value in zip(part, self._together([pairs[i] for i in part]), strict=True):
                found[i] = value
            if progress:
                progress(start + len(part), len(order))
        return found

    def _together(self, pairs: Sequence[tuple[str, Tool]]) -> list[float]:
        """Of a few pairs, in one pass."""
        end = int(self._tokenizer.eos_token_id)
        wanted = [[*self._encode(query_target(query))[:QUERY_TOKENS], end] for query, _ in pairs]
        with torch.inference_mode():
            entries = self._read([query_prompt(tool) for _, tool in pairs])
            lengths = torch.tensor([entry.states[0][0].shape[1] for entry in entries])
            ids = torch.full((len(pairs), max(map(len, wanted))), end)
            targets = torch.full_like(ids, IGNORED)
            for row, (entry, own) in enumerate(zip(entries, wanted, strict=True)):
                ids[row, : len(own)] = torch.tensor([entry.last, *own[:-1]])
                targets[row, : len(own)] = torch.tensor(own)
            # Entries end together, so that a query follows each; what fills up the shorter ones is masked. What fills up a shorter
            # query comes after all that is looked at.
            mask = torch.arange(int(lengths.max()) + ids.shape[1]) >= (lengths.max() - lengths)[:, None]
            states = self._model.base_model(
                input_ids=ids.to(self._device),
                attention_mask=mask.long().to(self._device),
                position_ids=(lengths[:, None] + torch.arange(ids.shape[1])).to(self._device),
                past_key_values=DynamicCache([self._joined(entries, layer) for layer in range(len(entries[0].states))]),
            ).last_hidden_state
            # Words are told for the queries' own tokens alone: they cost as much as a fifth of the model does.
            told = (targets != IGNORED).to(self._device)
            logits = self._model.get_output_embeddings()(states[told]).float()
            losses = cross_entropy(logits, targets.to(self._device)[told], reduction="none").cpu()
        return [float(-own.mean()) for own in losses.split([len(own) for own in wanted])]

    def _read(self, prompts: Sequence[str]) -> list[_Entry]:
        """The states of each prompt, kept ones where there are; the model reads the others at once."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._entries]
        if missing:
            tokens = [self._encode(prompt) for prompt in missing]
            ids = torch.full((len(tokens), max(map(len, tokens))), int(self._tokenizer.eos_token_id))
            for row, own in enumerate(tokens):
                ids[row, : len(own)] = torch.tensor(own)
            # The states are of no use to whoever sees less: what fills a row up comes after all that is kept.
            layers = self._model.base_model(input_ids=ids.to(self._device), use_cache=True).past_key_values.layers
            for row, (prompt, own) in enumerate(zip(missing, tokens, strict=True)):
                states = [
                    tuple(x[row, :, : len(own) - 1].to(self._kept, copy=True) for x in (one.keys, one.values)) for one in layers
                ]
                self._entries[prompt] = _Entry(own[-1], states)
        for prompt in prompts:
            self._entries.move_to_end(prompt)
        found = [self._entries[prompt] for prompt in prompts]
        while len(self._entries) > ENTRIES_KEPT:
            self._entries.popitem(last=False)
        return found

    def _joined(self, entries: Sequence[_Entry], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer for all entries, (entries, heads, tokens, size), filled up in front."""
        longest = max(entry.states[layer][0].shape[1] for entry in entries)

        def of(part: int) -> torch.Tensor:
            own = [entry.states[layer][part] for entry in entries]
            return torch.stack([pad(x, (0, 0, longest - x.shape[1], 0)) for x in own]).to(self._model.dtype)

        return of(0), of(1)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids
