"""Building a retriever's directory, with a fake encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from actors.core.fusion import Vectors
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

    @property
    def documents(self) -> LengthEncoder:
        return self

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        LengthEncoder.calls += 1
        return np.array([[len(text), 0] for text in texts], dtype=np.float32)

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / "model.safetensors").write_bytes(b"weights")


@pytest.fixture
def base_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("actors.index_builder.Encoder", LengthEncoder)
    monkeypatch.setattr("actors.kept_vectors.cache_dir", lambda: tmp_path / "cache")
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
    assert (metrics["tools"], metrics["embedded"]) == (2, 2)


def test_the_base_embeds_a_text_once_for_weights_and_limit(base_dir: Path, tmp_path: Path) -> None:
    builder = IndexBuilder(EncoderConfig(), CATALOG, "float32", None, base_dir)
    assert [builder.build(base_dir, tmp_path / f"out{i}")["embedded"] for i in range(2)] == [2, 0]
    assert DenseIndex.load(tmp_path / "out0").vectors.tolist() == DenseIndex.load(tmp_path / "out1").vectors.tolist()
    larger = Catalog((Tool("c", "c", "Gamma", "xyzz"), *CATALOG.tools[::-1]))
    assert IndexBuilder(EncoderConfig(), larger, "float32", None, base_dir).build(base_dir, tmp_path / "out2")["embedded"] == 1
    index = DenseIndex.load(tmp_path / "out2")
    assert index.vectors[:, 0].tolist() == [len(tool.document) for tool in larger.tools]
    shorter = IndexBuilder(EncoderConfig(document_tokens=64), CATALOG, "float32", None, base_dir)
    assert shorter.build(base_dir, tmp_path / "out3")["embedded"] == 2
    (base_dir / "model.safetensors").write_bytes(b"other weights")
    assert builder.build(base_dir, tmp_path / "out4")["embedded"] == 2
    trained = tmp_path / "trained"
    trained.mkdir()
    assert [builder.build(trained, tmp_path / f"out{i}")["embedded"] for i in (5, 6)] == [2, 2], "what is trained is not kept"
    assert LengthEncoder.calls == 6


def test_where_queries_alone_learn_it_says_what_is_familiar(base_dir: Path, tmp_path: Path) -> None:
    for sides, told in (("queries", True), ("both", False)):
        alone = EncoderConfig(sides=sides, mined_negatives=0, anchor_weight=0)  # type: ignore[arg-type]
        IndexBuilder(alone, CATALOG, "float32", None).build(base_dir, tmp_path / sides)
        about = read_about(tmp_path / sides)
        assert ("familiar_from" in about) == told
    # Both tools are of one namespace, and each one's only neighbour is the other.
    lengths = [len(tool.document) for tool in CATALOG.tools]
    assert read_about(tmp_path / "queries")["familiar_from"] == lengths[0] * lengths[1]


def test_an_empty_catalog_is_refused() -> None:
    with pytest.raises(InputError, match="holds no tools"):
        IndexBuilder(EncoderConfig(), Catalog(()), "float32", None)


def test_an_encoder_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a sentence-transformers directory"):
        Encoder(tmp_path, EncoderConfig(), "float32", None)
