"""The carried MiniLM for real: unit vectors, order, cutting, both precisions, a round trip through an index directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.core.types import Catalog, Tool
from actors.encoder import Encoder
from actors.index_builder import IndexBuilder
from actors.models import resolve_encoder
from actors.retriever import Retriever
from configs.schema import Config, EncoderConfig

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

TEXTS = ["Create a storage bucket.", "Stop a virtual machine.", "a " * 400, "Translate a text into another language."]


def _encoder(precision: str = "float32", **settings: int) -> Encoder:
    return Encoder(resolve_encoder("all-MiniLM-L6-v2"), EncoderConfig(**settings), precision, 2)  # type: ignore[arg-type]


def test_vectors_are_unit_float32_in_order_and_alike_in_both_precisions() -> None:
    exact, quick = _encoder().encode_queries(TEXTS), _encoder("bfloat16").encode_queries(TEXTS)
    assert exact.shape == (4, 384)
    assert exact.dtype == quick.dtype == np.float32
    assert np.linalg.norm(quick, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (exact * quick).sum(axis=1).min() > 0.999
    alone = _encoder().encode_queries([TEXTS[3]])[0]
    assert alone @ exact[3] == pytest.approx(1.0, abs=1e-4)


def test_texts_are_cut_at_their_own_limits_and_never_above_the_models() -> None:
    encoder = _encoder(query_tokens=4, document_tokens=10_000)
    assert (encoder.query_tokens, encoder.document_tokens) == (4, 256)
    short, longer = encoder.encode_queries(["stop a machine", "stop a machine in the cellar"])
    assert short @ longer == pytest.approx(1.0, abs=1e-4)
    first, second = encoder.encode_documents(["stop a machine", "stop a machine in the cellar"])
    assert first @ second < 0.95


def test_progress_reaches_the_total_and_nothing_in_gives_nothing_out() -> None:
    steps: list[tuple[int, int]] = []
    encoder = _encoder()
    encoder.encode_queries(TEXTS, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (4, 4)
    assert encoder.encode_queries([]).shape == (0, 384)


def test_a_built_retriever_finds_the_tool_again(tmp_path: Path) -> None:
    tools = ("Create bucket", "Stop instances", "Translate text")
    catalog = Catalog(tuple(Tool(name, name, name, "") for name in tools))
    directory = resolve_encoder("all-MiniLM-L6-v2")
    IndexBuilder(EncoderConfig(), catalog, "float32", 2).build(directory, tmp_path / "out")
    retriever = Retriever.load(tmp_path / "out", Config(), catalog, version=0, precision="float32", threads=2)
    rankings = retriever.rank(["turn off my virtual machines", "put this into French"], None, "raw", 0.0, 1)
    assert [ranking[0][0] for ranking in rankings] == ["Stop instances", "Translate text"]
