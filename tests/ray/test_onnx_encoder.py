"""The exported encoder beside the model that it was made of: the real one that a package carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.core.types import InputError
from actors.encoder import Encoder
from actors.models import resolve_encoder
from actors.onnx_encoder import OnnxEncoder, export
from configs.schema import EncoderConfig

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
TEXTS = [
    "make a bucket",
    "who read my letters yesterday, and can I keep them from doing it again?",
    "Amazon S3: Create Bucket. Creates a new bucket. Parameters: bucket, object ownership.",
    "x" * 400,
    "",
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "onnx"
    export(resolve_encoder("all-MiniLM-L6-v2"), directory)
    return directory


def test_it_embeds_as_the_model_does_alone_and_in_batches(exported: Path) -> None:
    config = EncoderConfig(query_tokens=16, document_tokens=64)
    model = Encoder(resolve_encoder("all-MiniLM-L6-v2"), config, "float32", 1)
    served = OnnxEncoder(exported, config, 1)
    for name in ("encode_queries", "encode_documents"):
        wanted = getattr(model, name)(TEXTS)
        together = getattr(served, name)(TEXTS)
        alone = np.concatenate([getattr(served, name)([text]) for text in TEXTS])
        assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
        assert (wanted * together).sum(axis=1).min() > 0.95
        assert np.array_equal(together, alone)
    long = "a word and another word " * 20
    # Cut at sixteen tokens: what follows does not count.
    assert np.allclose(served.encode_queries([long]), served.encode_queries([f"{long} and more"]), atol=1e-6)
    assert served.encode_queries([]).shape == (0, 384)


def test_a_directory_without_an_export_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no exported encoder"):
        OnnxEncoder(tmp_path, EncoderConfig(), 1)
