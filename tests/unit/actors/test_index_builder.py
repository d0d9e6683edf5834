"""Building a retriever's directory, with a fake encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from actors.core.fusion import Vectors
from actors.core.replay import Example
from actors.core.types import Catalog, InputError, Tool
from actors.encoder import Encoder
from actors.index import DenseIndex, read_about
from actors.index_builder import IndexBuilder
from actors.interfaces import Progress
from configs.schema import EncoderConfig

CATALOG = Catalog((Tool("a", "a", "Alpha", "x"), Tool("b", "b", "Beta", "xyz")))


class LengthEncoder:
    """A text's vector is its length; counts how often it works."""

    calls = 0

    def __init__(self, model_dir: Path, config: EncoderConfig, precision: str, threads: int | None) -> None:
        self.model_dir, self.precision, self.document_tokens = model_dir, precision, config.document_tokens

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        LengthEncoder.calls += 1
        return np.array([[len(text), 0] for text in texts], dtype=np.float32)

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        return np.array([[0, len(text)] for text in texts], dtype=np.float32).reshape(len(texts), 2)

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / "model.safetensors").write_bytes(b"weights")


@pytest.fixture
def base_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("actors.index_builder.Encoder", LengthEncoder)
    monkeypatch.setattr("actors.index_builder.cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(LengthEncoder, "calls", 0)
    directory = tmp_path / "base"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(b"base weights")
    return directory


def test_the_directory_holds_encoder_vectors_ids_and_hash(base_dir: Path, tmp_path: Path) -> None:
    metrics = IndexBuilder(EncoderConfig(), CATALOG, "float32", None).build(base_dir, tmp_path / "out")
    index = DenseIndex.load(tmp_path / "out")
    assert index.tool_ids == ["a", "b"]
    assert index.vectors[:, 0].tolist() == [len(tool.document) for tool in CATALOG.tools]
    about = read_about(tmp_path / "out")
    assert (about["catalog_hash"], about["document_tokens"]) == (CATALOG.catalog_hash, 128)
    assert (tmp_path / "out" / "encoder" / "model.safetensors").is_file()
    assert (metrics["tools"], metrics["moved"], metrics["cached"]) == (2, 0, False)


def test_tools_that_users_found_are_moved_and_unknown_ones_passed_over(base_dir: Path, tmp_path: Path) -> None:
    config = EncoderConfig(feedback_weight=1.0)
    found = [Example("e", "shop", "x" * 5, ("b", "gone"), (), 1.0, 0.0)]
    metrics = IndexBuilder(config, CATALOG, "float32", None).build(base_dir, tmp_path / "out", None, found)
    index = DenseIndex.load(tmp_path / "out")
    length = len(CATALOG.tools[1].document)
    assert metrics["moved"] == 1
    assert index.vectors[1] == pytest.approx(np.array([length, 5]) / np.hypot(length, 5))
    assert index.documents[1].tolist() == [length, 0]
    off = EncoderConfig(feedback_weight=0.0)
    assert IndexBuilder(off, CATALOG, "float32", None).build(base_dir, tmp_path / "off", None, found)["moved"] == 0


def test_only_the_base_is_cached_and_only_for_equal_input(base_dir: Path, tmp_path: Path) -> None:
    builder = IndexBuilder(EncoderConfig(), CATALOG, "float32", None, base_dir)
    assert [builder.build(base_dir, tmp_path / f"out{i}")["cached"] for i in range(2)] == [False, True]
    assert DenseIndex.load(tmp_path / "out0").vectors.tolist() == DenseIndex.load(tmp_path / "out1").vectors.tolist()
    shorter = IndexBuilder(EncoderConfig(document_tokens=64), CATALOG, "float32", None, base_dir)
    assert not shorter.build(base_dir, tmp_path / "out2")["cached"]
    other = IndexBuilder(EncoderConfig(), Catalog(CATALOG.tools[:1]), "float32", None, base_dir)
    assert not other.build(base_dir, tmp_path / "out3")["cached"]
    (base_dir / "model.safetensors").write_bytes(b"other weights")
    assert not builder.build(base_dir, tmp_path / "out4")["cached"]
    trained = tmp_path / "trained"
    trained.mkdir()
    builder.build(trained, tmp_path / "out5")
    assert not builder.build(trained, tmp_path / "out6")["cached"]
    assert LengthEncoder.calls == 6


def test_an_empty_catalog_is_refused() -> None:
    with pytest.raises(InputError, match="holds no tools"):
        IndexBuilder(EncoderConfig(), Catalog(()), "float32", None)


def test_an_encoder_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a sentence-transformers directory"):
        Encoder(tmp_path, EncoderConfig(), "float32", None)
