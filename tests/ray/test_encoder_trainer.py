"""The encoder learns, the same way whether or not it is stopped in between; a tiny random BERT on six tools."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from actors.core.batches import EncoderRow
from actors.core.types import Catalog, Tool
from actors.encoder import Encoder
from actors.encoder_trainer import EncoderTrainer
from actors.index import DenseIndex
from actors.index_builder import IndexBuilder
from actors.losses import CatalogInfoNCE, Rehearsed
from actors.retriever import Retriever
from actors.training import TrainingDiverged
from configs.schema import Config, EncoderConfig
from tests.tiny_models import make_encoder

pytestmark = pytest.mark.ray

VERBS, NOUNS = ("make", "list", "drop"), ("bucket", "queue")
SLANG = {"make": "new", "list": "show", "drop": "kill", "bucket": "pail", "queue": "line"}
TOOLS = tuple(Tool(f"{v}-{n}", f"{v}{n}", f"{v} {n}", f"{v} one {n} of the account") for v in VERBS for n in NOUNS)
CATALOG = Catalog(TOOLS)
ROWS = [EncoderRow(f"{SLANG[v]} {SLANG[n]} {i}", f"{v}-{n}", (f"{v}-{n}",), "vague") for v in VERBS for n in NOUNS for i in "12"]
SHARES = {"vague": 1.0}
SMALL = EncoderConfig(query_tokens=16, document_tokens=32, pairs_per_step=6, learning_rate=3e-3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [word for tool in TOOLS for word in tool.document.replace(".", " ").split()]
    return make_encoder(tmp_path_factory.mktemp("models") / "encoder", [*words, *SLANG.values(), "1", "2", "."])


def trainer(base: Path, **changes: Any) -> EncoderTrainer:
    return EncoderTrainer(SMALL.model_copy(update=changes), CATALOG, base, "float32", threads=1)


def weights(learner: EncoderTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in learner.model.state_dict().items()}


def read(directory: Path) -> dict[str, torch.Tensor]:
    """What others than the learner read of a saved state."""
    return dict(SentenceTransformer(str(directory), device="cpu").state_dict())


def equal(one: EncoderTrainer, other: EncoderTrainer) -> bool:
    left, right = weights(one), weights(other)
    return all(torch.equal(left[name], right[name]) for name in left)


def test_it_learns_and_what_it_saves_is_an_encoder(base: Path, tmp_path: Path) -> None:
    learner, seen = trainer(base), []
    metrics = learner.train(ROWS, SHARES, 40, 1, lambda done, total: seen.append((done, total)))
    assert metrics["steps"] == len(metrics["losses"]) == 40 and seen[-1] == (40, 40)
    assert metrics["loss_last"] < 0.3 * metrics["loss_first"]
    learner.save(tmp_path)
    encoder = Encoder(tmp_path, SMALL, "float32", 1)
    cosines = encoder.encode_queries([r.anchor for r in ROWS]) @ encoder.encode_documents([t.document for t in TOOLS]).T
    assert [TOOLS[i].tool_id for i in cosines.argmax(axis=1)] == [r.tool_id for r in ROWS]


def test_equal_seeds_give_equal_weights_and_others_do_not(base: Path) -> None:
    learners = [trainer(base) for _ in range(3)]
    for learner, seed in zip(learners, (1, 1, 2), strict=True):
        learner.train(ROWS, SHARES, 3, seed)
    assert equal(learners[0], learners[1]) and not equal(learners[0], learners[2])


def test_a_saved_state_goes_on_as_if_it_had_not_been_stopped(base: Path, tmp_path: Path) -> None:
    through = trainer(base)
    through.train(ROWS[:8], SHARES, 4, 1)
    through.save(tmp_path)
    through.train(ROWS, SHARES, 4, 2)
    restarted = trainer(base)
    restarted.load(tmp_path)
    restarted.train(ROWS, SHARES, 4, 2)
    assert equal(through, restarted)
    forgetful = trainer(base)
    forgetful.load(tmp_path)
    forgetful._optimizer = {}
    forgetful.train(ROWS, SHARES, 4, 2)
    assert not equal(through, forgetful)


def test_a_running_mean_is_published_and_training_goes_on_from_the_last_weights(base: Path, tmp_path: Path) -> None:
    plain, averaged = trainer(base), trainer(base)
    start = weights(plain)
    for learner, share in ((plain, 0.0), (averaged, 0.75)):
        learner.train(ROWS, SHARES, 3, 1, averaging=share)
    assert equal(plain, averaged), "what is trained does not depend on what is published"
    averaged.save(tmp_path)
    published = read(tmp_path)
    trained = weights(plain)
    name = next(n for n, w in trained.items() if w.is_floating_point() and not torch.equal(w, start[n]))
    assert torch.allclose(published[name], 0.75 * start[name] + 0.25 * trained[name], atol=1e-6)
    restarted = trainer(base)
    restarted.load(tmp_path)
    for learner in (averaged, restarted):
        learner.train(ROWS, SHARES, 2, 2, averaging=0.75)
    assert equal(averaged, restarted)
    for learner, place in ((averaged, "one"), (restarted, "other")):
        learner.save(tmp_path / place)
    one, other = read(tmp_path / "one"), read(tmp_path / "other")
    assert all(torch.equal(one[n], other[n]) for n in one)


def test_gradient_caching_changes_nothing_but_memory(base: Path) -> None:
    whole, cached = trainer(base, learning_rate=1e-3), trainer(base, learning_rate=1e-3, pairs_per_chunk=2)
    losses = [learner.train(ROWS, SHARES, 5, 1)["losses"] for learner in (whole, cached)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)


def test_the_pull_keeps_documents_near_the_frozen_base(base: Path, tmp_path: Path) -> None:
    documents = [tool.document for tool in TOOLS]
    before = Encoder(base, SMALL, "float32", 1).encode_documents(documents)
    moved = {}
    for weight in (0.0, 30.0):
        learner = trainer(base, anchor_weight=weight)
        learner.train(ROWS, SHARES, 25, 1)
        learner.save(tmp_path / str(weight))
        after = Encoder(tmp_path / str(weight), SMALL, "float32", 1).encode_documents(documents)
        moved[weight] = float(np.mean(1 - (before * after).sum(axis=1)))
    assert moved[30.0] < 0.5 * moved[0.0]


def test_mined_negatives_are_pushed_away(base: Path) -> None:
    rows = [EncoderRow(r.anchor, r.tool_id, r.gold, r.group, ("drop-queue", "make-bucket")) for r in ROWS[:2] + ROWS[4:6]]
    metrics = trainer(base, pairs_per_step=2, mined_negatives=2).train(rows, SHARES, 30, 1)
    assert metrics["loss_last"] < 0.5 * metrics["loss_first"]


def test_a_run_that_diverges_ends_with_its_step(base: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"(loss|grad_norm) is (nan|inf) at step \d+ of 20"):
        trainer(base, learning_rate=1e38).train(ROWS, SHARES, 20, 1)


def test_queries_alone_learn_to_meet_vectors_that_stay(base: Path, tmp_path: Path) -> None:
    changes = {"sides": "queries", "model": str(base), "anchor_weight": 0.0, "mined_negatives": 0}
    learner = trainer(base, **changes)
    metrics = learner.train(ROWS, SHARES, 40, 1)
    assert metrics["loss_last"] < 0.5 * metrics["loss_first"]
    learner.save(tmp_path / "encoder")
    config = SMALL.model_copy(update=changes)
    encoder, frozen = Encoder(tmp_path / "encoder", config, "float32", 1), Encoder(base, config, "float32", 1)
    documents = [tool.document for tool in TOOLS]
    assert np.array_equal(encoder.encode_documents(documents), frozen.encode_documents(documents))
    cosines = encoder.encode_queries([r.anchor for r in ROWS]) @ encoder.encode_documents(documents).T
    assert [TOOLS[i].tool_id for i in cosines.argmax(axis=1)] == [r.tool_id for r in ROWS]
    IndexBuilder(config, CATALOG, "float32", 1, base).build(tmp_path / "encoder", tmp_path)
    assert np.allclose(DenseIndex.load(tmp_path).vectors, frozen.encode_documents(documents), atol=1e-6)
    strange = Catalog((Tool("x", "x", "drop drop . .", "2 2 . . 1"), TOOLS[0]))
    whole = Config(encoder=config)
    over = Retriever.load(tmp_path, whole, strange, version=1, precision="float32", threads=1)
    asked = ["drop . . 2", "new pail 1"]
    vectors, by_frozen = over.asked(asked)
    assert by_frozen.tolist() == [True, False]
    own = Encoder(tmp_path / "encoder", config, "float32", 1).encode_queries(asked)
    assert np.allclose(vectors, [frozen.encode_queries(asked)[0], own[1]], atol=1e-5)
    assert not Retriever.load(tmp_path, whole, CATALOG, version=1, precision="float32", threads=1).asked(asked)[1].any()


@pytest.mark.parametrize("changes", [{}, {"sides": "queries", "anchor_weight": 0.0}, {"pairs_per_chunk": 2}])
def test_what_is_rehearsed_stays_where_the_frozen_model_has_it(base: Path, changes: dict[str, Any]) -> None:
    """Texts of words that the rows have too, so that learning alone does move them."""
    texts = ["show pail queue", "kill line bucket 2", "new drop . 1", "make show kill"]
    config = SMALL.model_copy(update={**changes, "model": str(base)})
    before = torch.from_numpy(Encoder(base, config, "float32", 1).encode_queries(texts))
    kept = {}
    for weight in (0.0, 20.0):
        settings = config.model_copy(update={"rehearsal_weight": weight})
        learner = EncoderTrainer(settings, CATALOG, base, "float32", 1, texts)
        learner.train(ROWS, SHARES, 30, 1)
        after = learner.model.encode(texts, convert_to_tensor=True, normalize_embeddings=True)
        kept[weight] = float((after * before).sum(1).mean())
    assert kept[0.0] < 0.9 and 1 - kept[20.0] < 0.2 * (1 - kept[0.0])


def test_each_text_is_rehearsed_once_before_any_comes_again() -> None:
    rehearsed = Rehearsed(torch.nn.Identity(), torch.nn.Identity(), "abcd", torch.eye(4), SMALL, 7)  # type: ignore[arg-type]
    drawn = [rehearsed._draw(2) for _ in range(4)]
    assert sorted(drawn[0] + drawn[1]) == sorted(drawn[2] + drawn[3]) == [0, 1, 2, 3]


def test_another_right_tool_is_no_negative_where_every_tool_is_one(base: Path) -> None:
    vectors = torch.eye(3)
    loss = CatalogInfoNCE(FixedEmbedding(vectors[:1]), 1.0, vectors, torch.tensor([0]), [[1]])  # type: ignore[arg-type]
    features = [{"attention_mask": torch.ones(1, 2), "input_ids": torch.ones(1, 2)}]
    # Scores 1, masked, 0: the loss is that of two tools, not of three.
    assert float(loss(features, torch.tensor([0]))) == pytest.approx(-math.log(math.e / (math.e + 1)), abs=1e-6)


class FixedEmbedding(torch.nn.Module):
    def __init__(self, vectors: torch.Tensor) -> None:
        super().__init__()
        self.vectors = vectors

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": self.vectors[: len(features["input_ids"])]}
