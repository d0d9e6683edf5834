"""The reranker: a tiny random Llama; what it says of a query is what a plain forward pass says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.core.prompts import query_prompt, query_target
from actors.core.types import Tool
from actors.reranker import Reranker
from actors.rewriter_trainer import RewriterTrainer
from configs.schema import RewriterConfig
from tests.tiny_models import make_rewriter

pytestmark = pytest.mark.ray

WORDS = ("red", "green", "cup", "door", "make", "one", "Entry", "Request", ":", ".", "please")
TOOLS = [Tool("a", "a", "make red cup", ""), Tool("b", "b", "make green door please one", "")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rewriter(tmp_path_factory.mktemp("models") / "rewriter", WORDS)


def test_likelihoods_are_those_of_a_plain_forward_pass_whatever_is_read_beside(base: Path) -> None:
    reranker = Reranker(base, "float32", 1)
    pairs = [(query, tool) for tool in TOOLS for query in ("please  make one", "please")]
    both = reranker.likelihoods(pairs)[::2]
    alone = [Reranker(base, "float32", 1).likelihoods([("please make one", tool)])[0] for tool in TOOLS]
    assert both == pytest.approx(alone, abs=1e-5)
    assert reranker.likelihoods(pairs) == pytest.approx([reranker.likelihoods([pair])[0] for pair in pairs], abs=1e-5)
    assert reranker.likelihoods([]) == []
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    for tool, value in zip(TOOLS, both, strict=True):
        prompt, target = (
            tokenizer.encode(t, add_special_tokens=False) for t in (query_prompt(tool), query_target("please make one"))
        )
        target = [*target, tokenizer.eos_token_id]
        with torch.no_grad():
            told = model(torch.tensor([prompt + target])).logits[0].log_softmax(-1)
        expected = [float(told[len(prompt) + i - 1, token]) for i, token in enumerate(target)]
        assert value == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_trained_from_entry_to_query_it_tells_the_right_tool(base: Path, tmp_path: Path) -> None:
    asked = {"please red": TOOLS[0], "one green": TOOLS[1]}
    rows = [(query_prompt(tool), query_target(query)) for query, tool in asked.items()] * 40
    settings = RewriterConfig(sft_rows_per_step=8, sft_learning_rate=3e-3)
    RewriterTrainer(settings, "float32", 1).sft(base, rows, tmp_path / "reranker", 0)
    reranker = Reranker(tmp_path / "reranker", "float32", 1)
    for query, tool in asked.items():
        red, green = reranker.likelihoods([(query, each) for each in TOOLS])
        assert (red > green) == (tool is TOOLS[0])
