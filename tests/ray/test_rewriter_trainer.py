"""The rewriter learns from targets and from preferences; a tiny random Llama that knows forty words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, load_peft_weights
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.rewriter_trainer import RewriterTrainer, _scoring_completions_only
from actors.training import TrainingDiverged
from configs.schema import RewriterConfig
from tests.tiny_models import make_rewriter

pytestmark = pytest.mark.ray

COLORS, NOUNS = ("red", "green", "blue", "black"), ("cup", "door", "lamp", "book")
ROWS = [(f"request : {c} {n} entry :", f" {n} service {c} . makes a {n}") for c in COLORS for n in NOUNS]
PAIRS = [
    {
        "prompt": f"request : {c} {n} entry :",
        "chosen": f" {n} service {c}",
        "rejected": f" {c} thing",
        "chosen_reward": 1.0,
        "rejected_reward": 0.0,
    }
    for c in COLORS
    for n in NOUNS
]
SMALL = RewriterConfig(
    sft_rows_per_step=8, sft_learning_rate=3e-3, pairs_per_step=4, dpo_steps_per_unit=4, dpo_learning_rate=3e-3, lora_rank=4
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = " ".join(prompt + target for prompt, target in ROWS).split()
    return make_rewriter(tmp_path_factory.mktemp("models") / "rewriter", [*words, "thing"])


def trainer(**changes: Any) -> RewriterTrainer:
    return RewriterTrainer(SMALL.model_copy(update=changes), "float32", threads=1)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def adapter(directory: Path) -> dict[str, torch.Tensor]:
    return load_peft_weights(str(directory), device="cpu")


def test_sft_learns_the_targets_and_where_they_end(base: Path, tmp_path: Path) -> None:
    metrics = trainer(sft_learning_rate=5e-3).sft(base, ROWS * 40, tmp_path / "out", 1)
    assert metrics["steps"] == 80 and metrics["loss_last"] < 0.1 * metrics["loss_first"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer(ROWS[5][0], return_tensors="pt").input_ids
    written = model.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(written, skip_special_tokens=False) == ROWS[5][1].strip() + " <eos>"


def test_sft_is_a_function_of_base_rows_and_seed(base: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer().sft(base, ROWS * 2, tmp_path / name, seed)
    one, again, other = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert same(one, again) and not same(one, other)


def test_sft_without_rows_is_the_base(base: Path, tmp_path: Path) -> None:
    assert trainer().sft(base, [], tmp_path, 1)["steps"] == 0
    assert same(load_file(base / "model.safetensors"), load_file(tmp_path / "model.safetensors"))


def test_scoring_only_completions_changes_no_loss(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compact = trainer().sft(base, ROWS, tmp_path / "a", 1)["losses"]
    monkeypatch.setattr("actors.rewriter_trainer._scoring_completions_only", torch.enable_grad)
    assert trainer().sft(base, ROWS, tmp_path / "b", 1)["losses"] == pytest.approx(compact, abs=1e-3)
    assert _scoring_completions_only is not torch.enable_grad


def test_dpo_widens_the_margin_and_leaves_the_reference_alone(base: Path, tmp_path: Path) -> None:
    before = load_file(base / "model.safetensors")
    metrics = trainer(dpo_steps_per_unit=30, dpo_learning_rate=1e-2).dpo(base, None, PAIRS * 8, tmp_path / "v1", 1)
    assert metrics["pairs"] == 120 and metrics["steps"] == 30
    # The reference is the base, so the first step has no margin.
    assert metrics["reward_margin_first"] < 0.1 < 0.5 < metrics["reward_margin_last"] and metrics["reward_accuracy"] == 1.0
    assert same(before, load_file(base / "model.safetensors"))
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "v1"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = tokenizer(PAIRS[3]["prompt"] + PAIRS[3]["chosen"], return_tensors="pt").input_ids
    with torch.no_grad():
        adapted = tuned(ids, labels=ids).loss
        with tuned.disable_adapter():
            assert adapted < tuned(ids, labels=ids).loss


def test_dpo_goes_on_from_an_adapter_against_the_same_reference(base: Path, tmp_path: Path) -> None:
    learner = trainer(dpo_steps_per_unit=15)
    first = learner.dpo(base, None, PAIRS * 4, tmp_path / "v1", 1)
    second = learner.dpo(base, tmp_path / "v1", PAIRS * 4, tmp_path / "v2", 2)
    # Against a copy of the adapter the margin would begin at zero again.
    assert second["reward_margin_first"] > 0.8 * first["reward_margin_last"]
    again = trainer(dpo_steps_per_unit=15)
    again.dpo(base, tmp_path / "v1", PAIRS * 4, tmp_path / "again", 2)
    assert same(adapter(tmp_path / "v2"), adapter(tmp_path / "again"))
    (tmp_path / "v1" / "optimizer.pt").unlink()
    torch.save({}, tmp_path / "v1" / "optimizer.pt")
    again.dpo(base, tmp_path / "v1", PAIRS * 4, tmp_path / "fresh", 2)
    assert not same(adapter(tmp_path / "v2"), adapter(tmp_path / "fresh"))


def test_dpo_without_pairs_publishes_the_adapter_as_it_was(base: Path, tmp_path: Path) -> None:
    learner = trainer()
    assert learner.dpo(base, None, [], tmp_path / "v1", 1)["steps"] == 0
    assert all(not value.any() for name, value in adapter(tmp_path / "v1").items() if "lora_B" in name)
    learner.dpo(base, tmp_path / "v1", PAIRS, tmp_path / "v2", 2)
    learner.dpo(base, tmp_path / "v2", [], tmp_path / "v3", 3)
    assert same(adapter(tmp_path / "v2"), adapter(tmp_path / "v3"))


def test_a_run_that_diverges_writes_nothing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="nothing was published"):
        trainer(sft_learning_rate=1e38).sft(base, ROWS * 4, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()
