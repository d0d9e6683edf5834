import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors import rewriter
from actors.core.types import Completion, InputError
from actors.interfaces import Progress
from actors.rewriter import Rewriter, choose_engine
from configs.schema import RewriterConfig


class FakeEngine:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def load_base(self, model_dir: Path) -> None:
        self.calls.append(("base", model_dir))

    def load_adapter(self, version: int, adapter_dir: Path) -> None:
        self.calls.append(("adapter", version, adapter_dir))

    def generate(
        self, prompts: Sequence[str], samples: int, temperature: float, max_new_tokens: int, seed: int, progress: Progress
    ) -> list[list[Completion]]:
        self.calls.append(("generate", samples, temperature, max_new_tokens, seed))
        progress(len(prompts), len(prompts))
        return [[Completion(f'"**{i}.{k}**"\n', 7, k == 0) for k in range(samples)] for i in range(len(prompts))]

    def close(self) -> None:
        self.calls.append(("close",))


class PlainTokenizer:
    chat_template = None
    all_special_tokens: list[str] = []  # noqa: RUF012

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [0] * len(text.split())


def make(config: RewriterConfig | None = None) -> tuple[Rewriter, FakeEngine]:
    engine = FakeEngine()
    return Rewriter(config or RewriterConfig(), "float32", 1, engine, lambda _: PlainTokenizer()), engine


def test_rewrites_are_cleaned_in_order_and_keep_their_counts() -> None:
    made, engine = make(RewriterConfig(context_tools=1, max_new_tokens=9))
    made.load_base(Path("base"))
    made.load_adapter(3, Path("three"))
    seen: list[tuple[int, int]] = []
    prompts, rewrites = made.rewrite(["p", "q"], [["A", "B"], []], 2, 0.5, 11, lambda d, t: seen.append((d, t)))
    assert [p.splitlines()[1:-1] for p in prompts] == [["Known: A", "Request: p"], ["Request: q"]]
    assert rewrites[1] == [Completion("1.0", 7, True), Completion("1.1", 7, False)]
    assert engine.calls == [("base", Path("base")), ("adapter", 3, Path("three")), ("generate", 2, 0.5, 9, 11)]
    assert seen == [(2, 2)]
    made.close()
    assert engine.calls[-1] == ("close",)


def test_no_queries_need_no_generation() -> None:
    made, engine = make()
    made.load_base(Path("base"))
    assert made.rewrite([], [], 2, 1.0, 0, lambda d, t: None) == ([], [])
    assert len(engine.calls) == 1


def test_rewriting_before_there_are_weights_says_so() -> None:
    with pytest.raises(RuntimeError, match="before load_base"):
        make()[0].rewrite(["q"], [[]], 1, 1.0, 0, lambda d, t: None)


def test_contexts_belong_to_queries_one_to_one() -> None:
    made, _ = make()
    made.load_base(Path("base"))
    with pytest.raises(ValueError, match="shorter"):
        made.rewrite(["q", "r"], [[]], 1, 1.0, 0, lambda d, t: None)


def test_without_vllm_auto_takes_transformers_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rewriter.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(rewriter, "make_engine", lambda name, *args: FakeEngine())
    assert choose_engine("auto") == "transformers"
    with pytest.raises(InputError, match=r"rewriter\.engine=vllm"):
        choose_engine("vllm")
    with caplog.at_level(logging.INFO):
        Rewriter(RewriterConfig(), "float32", 2)
    assert [r.getMessage() for r in caplog.records] == ["rewriter engine: transformers (vllm is not installed), float32, 2 threads"]


def test_with_vllm_auto_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriter.importlib.util, "find_spec", lambda name: object())
    assert choose_engine("auto") == "vllm"
    assert choose_engine("transformers") == "transformers"
