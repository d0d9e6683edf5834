"""vLLM itself, with a tiny random Llama made on the fly: head size 32 is the least that its CPU attention takes."""

import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.core.types import Completion
from actors.transformers_engine import TransformersEngine
from configs.schema import RewriterConfig

pytest.importorskip("vllm", reason="the transformers engine serves where vLLM is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

PROMPTS = ["list the buckets", "stop a machine " * 5, "who may read this table", "rotate keys"]
NEW_TOKENS = 8
CONFIG = RewriterConfig(prompt_tokens=96, max_new_tokens=16, lora_rank=4)


def make_model(out: Path, seed: int) -> Path:
    """A Llama of two layers with random weights, and a tokenizer of printable ASCII characters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    # ByteLevel writes a space as \u0120.
    alphabet = [*string.ascii_letters, *string.digits, *string.punctuation, "\u0120"]
    vocabulary = {token: i for i, token in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>").save_pretrained(out)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        # Wide weights: the greedy choice is then clear enough for two implementations to agree on.
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(out)
    return out


def make_adapter(base: Path, out: Path, seed: int) -> Path:
    """A LoRA adapter on all linear layers whose effect is as large as the base's own weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.5)
    model.save_pretrained(out)
    return out


class Models:
    def __init__(self, root: Path) -> None:
        self.base, self.other = make_model(root / "base", 1), make_model(root / "other", 2)
        self.one, self.two = make_adapter(self.base, root / "one", 3), make_adapter(self.base, root / "two", 4)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def reference(models: Models) -> Iterator[TransformersEngine]:
    engine = TransformersEngine("float32", 2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    from actors.vllm_engine import VllmEngine

    made = VllmEngine(CONFIG, "float32", 2)
    yield made
    made.close()


def generate(engine: Any, samples: int = 1, temperature: float = 0.0, seed: int = 7) -> list[list[Completion]]:
    made: list[list[Completion]] = engine.generate(PROMPTS, samples, temperature, NEW_TOKENS, seed, lambda d, t: None)
    assert [len(row) for row in made] == [samples] * len(PROMPTS)
    return made


def test_greedy_texts_equal_those_of_transformers_with_and_without_adapters(
    models: Models, engine: Any, reference: TransformersEngine
) -> None:
    seen = []
    for adapter in (None, (1, models.one), (2, models.two)):
        for each in (engine, reference):
            if adapter is None:
                each.load_base(models.base)
            else:
                each.load_adapter(*adapter)
        seen.append(generate(engine))
        assert seen[-1] == generate(reference)
    assert seen[0] != seen[1] != seen[2] != seen[0]
    engine.load_adapter(1, models.one)
    assert generate(engine) == seen[1], "an adapter that was put aside comes back as it was"


def test_new_base_weights_answer_at_once_and_take_the_adapter_off(
    models: Models, engine: Any, reference: TransformersEngine
) -> None:
    engine.load_base(models.base)
    plain = generate(engine)
    engine.load_adapter(1, models.one)
    engine.load_base(models.other)
    reference.load_base(models.other)
    other = generate(engine)
    assert other != plain
    assert other == generate(reference)
    engine.load_base(models.base)
    assert generate(engine) == plain


def test_a_version_is_never_overwritten_and_a_name_never_used_again(models: Models, engine: Any) -> None:
    engine.load_base(models.base)
    engine.load_adapter(1, models.one)
    first = engine._adapter
    with pytest.raises(ValueError, match="adapter 1 is loaded from"):
        engine.load_adapter(1, models.two)
    engine.load_base(models.base)
    engine.load_adapter(1, models.two)
    assert engine._adapter.lora_name != first.lora_name
    assert engine._adapter.lora_int_id != first.lora_int_id


def test_equal_seeds_give_equal_samples_and_others_do_not(models: Models, engine: Any, reference: TransformersEngine) -> None:
    for each in (engine, reference):
        each.load_base(models.base)
        once, again, other = (generate(each, 3, 1.0, seed) for seed in (5, 5, 6))
        assert once == again
        assert once != other
        assert all(len({c.text for c in row}) == 3 for row in once), "samples of one prompt differ"


def test_progress_counts_prompts_and_completions_say_if_they_ended(
    models: Models, engine: Any, reference: TransformersEngine
) -> None:
    for each in (engine, reference):
        each.load_base(models.base)
        seen: list[tuple[int, int]] = []
        rows = each.generate(PROMPTS * 16, 4, 2.0, 16, 1, lambda d, t, seen=seen: seen.append((d, t)))
        assert seen[-1] == (64, 64)
        assert [d for d, _ in seen] == sorted(d for d, _ in seen)
        completions = [c for row in rows for c in row]
        assert {c.finished for c in completions} == {True, False}
        assert all(c.token_count == 16 for c in completions if not c.finished)
        assert all("<end>" not in c.text for c in completions)


def test_an_interrupted_generation_leaves_no_request_behind(models: Models, engine: Any) -> None:
    engine.load_base(models.base)
    plain = generate(engine)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(PROMPTS, 1, 0.0, NEW_TOKENS, 7, stop)
    assert generate(engine) == plain


def test_each_row_gets_its_own_adapter_and_rows_without_one_get_none() -> None:
    import torch

    from actors.vllm_engine import _add, _runs

    runs = _runs(torch.tensor([-1, 1, 1, 0, -1]))
    assert runs == [(1, slice(1, 3)), (0, slice(3, 4))]
    # Slot 0 multiplies by 2 x 3, slot 1 by 5 x 7; the scale is 10; the third column of y is padding.
    a, b = torch.tensor([[[[2.0]]], [[[5.0]]]]), torch.tensor([[[[3.0], [0.0]]], [[[7.0], [1.0]]]])
    x, y = torch.tensor([[1.0], [1.0], [2.0], [3.0], [4.0]]), torch.ones(5, 3)
    _add(y, x, a, b, 10.0, runs)
    assert y.tolist() == [[1, 1, 1], [351, 51, 1], [701, 101, 1], [181, 1, 1], [1, 1, 1]]


def test_vllm_may_look_at_what_numba_brought() -> None:
    pytest.importorskip("numba")
    from actors import vllm_engine

    library = sys.modules["llvmlite.binding.ffi"].lib
    library._fntab.pop("__dict__", None)
    assert not isinstance(vars(library), dict)
    library._fntab.pop("__dict__", None)
    vllm_engine._let_vllm_look_at_numba()
    assert vars(library) == {}
