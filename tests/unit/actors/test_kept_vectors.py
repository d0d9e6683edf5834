"""Vectors that are kept by their text's hash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from actors import kept_vectors
from actors.core.fusion import Vectors
from actors.interfaces import Progress
from actors.kept_vectors import BaseVectors, VectorFiles


class Counting:
    """A text's vector is its length."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        self.texts.extend(texts)
        if progress:
            progress(len(texts), len(texts))
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept_vectors, "cache_dir", lambda: tmp_path / "cache")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "model"


def test_vector_files_come_back(tmp_path: Path) -> None:
    files = VectorFiles(str(tmp_path / "3"))
    assert files.read() == {}
    files.add({"a": np.ones(2, dtype=np.float32)})
    files.add({"b": np.zeros(2, dtype=np.float32)})
    (tmp_path / "3" / "x.part").write_bytes(b"half")
    kept = VectorFiles(str(tmp_path / "3")).read()
    assert {name: vector.tolist() for name, vector in kept.items()} == {"a": [1, 1], "b": [0, 0]}
    assert VectorFiles(str(tmp_path / "4")).read() == {}


def test_many_files_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_vectors, "MERGE_AT", 3)
    files = VectorFiles(str(tmp_path / "3"))
    for number in range(3):
        files.merge()
        assert len(list((tmp_path / "3").glob("*"))) == number
        files.add({str(number): np.full(2, number, dtype=np.float32)})
    files.merge()
    assert len(list((tmp_path / "3").iterdir())) == 1
    assert {name: vector.tolist() for name, vector in files.read().items()} == {"0": [0, 0], "1": [1, 1], "2": [2, 2]}


def test_a_text_is_embedded_once_though_it_stands_in_two_lists(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_vectors, "STEP", 2)
    encode, steps = Counting(), []
    kept = BaseVectors(model, 128, "float32")
    assert kept.add(["a", "bb", "a", "ccc"], encode, lambda done, total: steps.append((done, total))) == 3
    assert (encode.texts, steps) == (["ccc", "bb", "a"], [(2, 3), (3, 3)])
    vectors, embedded = BaseVectors(model, 128, "float32").of(["dddd", "a", "ccc", "a"], encode)
    assert (vectors[:, 0].tolist(), embedded) == ([4, 1, 3, 1], 1)
    assert BaseVectors(model, 64, "float32").add(["a"], encode) == 1


def test_an_interruption_loses_no_more_than_the_step_it_came_in(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_vectors, "STEP", 2)

    def breaking(texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        if "a" in texts:
            raise KeyboardInterrupt
        return Counting()(texts, progress)

    with pytest.raises(KeyboardInterrupt):
        BaseVectors(model, 128, "float32").add(["a", "bb", "ccc"], breaking)
    again = Counting()
    assert BaseVectors(model, 128, "float32").add(["a", "bb", "ccc"], again) == 1
    assert again.texts == ["a"]
