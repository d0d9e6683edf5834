import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from actors.core.types import Catalog, Completion, Corpus, Query
from configs.schema import Config
from pipelines.speed import device
from pipelines.speed import engines as bench_engines
from pipelines.speed import parts as bench
from pipelines.speed.engines import Bench, floor_share


def test_the_floor_is_two_operations_a_parameter_and_token() -> None:
    # 2 x 1e8 x 1,000 = 2e11 operations; at 100e9 a second they take 2 s, a quarter of 8.
    assert floor_share(100_000_000, 1_000, 100.0, 8.0) == pytest.approx(0.25)


def test_parameters_are_counted_over_all_files(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, tmp_path / "one.safetensors")
    save_file({"c": np.zeros((2, 2), np.float32)}, tmp_path / "two.safetensors")
    assert device.parameters(tmp_path) == 12 + 5 + 4


class FakeEngine:
    """Generates four tokens a sample, in as many seconds of the clock below as ``speed`` says."""

    def __init__(self, clock: list[float], seconds: float, adapted: float) -> None:
        self.clock, self.seconds, self.adapted = clock, seconds, adapted

    def load_base(self, model_dir: Path) -> None:
        pass

    def load_adapter(self, version: int, adapter_dir: Path) -> None:
        self.seconds = self.adapted

    def generate(self, prompts: list[str], samples: int, *_: Any) -> list[list[Completion]]:
        self.clock[0] += self.seconds
        return [[Completion("x", 4, True)] * samples for _ in prompts]

    def close(self) -> None:
        pass


def make_bench(tmp_path: Path) -> Bench:
    queries = tuple(Query(f"q{i}", "q", "vague", "train", {}) for i in range(10))
    return Bench(Config(), Corpus(Catalog(()), queries), tmp_path, tmp_path, "float32", 2, tmp_path)


def test_engines_are_compared_by_rewrites_and_the_floor_counts_each_prompt_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    engines = {"vllm": FakeEngine(clock, 2.0, 4.0), "transformers": FakeEngine(clock, 5.0, 5.0)}
    monkeypatch.setattr(bench_engines.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(bench_engines, "_prompts", lambda bench: (["p"] * 10, 840))
    monkeypatch.setattr(bench_engines, "product_gflops", lambda precision: 100.0)
    monkeypatch.setattr(bench_engines, "_fresh_adapter", lambda bench: tmp_path)
    monkeypatch.setattr(bench_engines, "parameters", lambda directory: 100_000_000)
    monkeypatch.setattr(bench_engines, "make_engine", lambda name, *_: engines[name])
    monkeypatch.setattr(bench_engines, "choose_engine", lambda setting: "vllm")
    figures = bench_engines.measure_engines(make_bench(tmp_path))
    assert figures["transformers_rewrites_per_s"] == pytest.approx(40 / 5)
    assert figures["vllm_rewrites_per_s"] == pytest.approx(40 / 2)
    assert figures["vllm_over_transformers"] == pytest.approx(2.5)
    assert figures["vllm_adapter_rewrites_per_s"] == pytest.approx(40 / 4)
    # 840 tokens of prompts and 160 generated: 2e11 operations, 2 s at 100 GFLOP/s, and vLLM took 2 s.
    assert figures["floor_share"] == pytest.approx(1.0)


def test_without_vllm_the_ratio_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_engines, "_prompts", lambda bench: (["p"], 1))
    monkeypatch.setattr(bench_engines, "product_gflops", lambda precision: 100.0)
    monkeypatch.setattr(bench_engines, "make_engine", lambda name, *_: FakeEngine([0.0], 1.0, 1.0))
    monkeypatch.setattr(bench_engines, "choose_engine", lambda setting: "transformers")
    assert bench_engines.measure_engines(make_bench(tmp_path))["vllm_over_transformers"] is None


def test_the_last_line_is_one_object_with_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench.catalogs, "load", lambda config, seed: Corpus(Catalog(()), ()))
    monkeypatch.setattr(bench, "resolve_encoder", lambda name: tmp_path)
    monkeypatch.setattr(bench, "resolve_rewriter", lambda name: tmp_path)
    parts = {"one": ("One", lambda b: {"x": 1.23456, "y": {"z": None}}), "two": ("Two", lambda b: {"w": 2})}
    monkeypatch.setattr(bench, "PARTS", parts)
    assert bench.main(["--part", "one", "precision=float32"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last.pop("threads") >= 1
    assert last == {"precision": "float32", "x": 1.235, "y": {"z": None}}


@pytest.mark.parametrize("arguments", [["--part", "nonsense"], ["rewriter.sampels_per_query=8"], ["--nonsense"]])
def test_wrong_arguments_are_one_line_and_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(arguments) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
