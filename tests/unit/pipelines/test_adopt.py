"""Version 0 out of another run's release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.core.snapshots import SnapshotStore
from actors.core.types import InputError
from actors.index import ENCODER_DIR
from actors.run_dir import RELEASE_FILE, RERANKER
from configs.load import save
from configs.schema import Config, LoopConfig, RewriterConfig
from pipelines.adopt import adopt_encoder, adopt_reranker, adopt_rewriter, open_start
from tests.tiny_models import make_rewriter

WORDS = ["create", "a", "bucket", "list", "queue"]


@pytest.fixture
def other_run(tmp_path: Path) -> Path:
    """A run with full weights as rewriter 0, an adapter that changes them as rewriter 1, and a retriever."""
    folder, store = tmp_path / "other", SnapshotStore(str(tmp_path / "other" / "snapshots"))
    save(Config(), folder / "config.yaml")
    store.publish("rewriter", 0, lambda directory: make_rewriter(directory, WORDS) and None, {})

    def adapter(directory: Path) -> None:
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(store.fetch("rewriter", 0)), LoraConfig(r=2, target_modules="all-linear")
        )
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.5)
        model.save_pretrained(directory)

    store.publish("rewriter", 1, adapter, {})

    def retriever(directory: Path) -> None:
        (directory / ENCODER_DIR).mkdir()
        (directory / ENCODER_DIR / "weights").write_text("w")
        (directory / "vectors.npy").write_text("v")

    store.publish("retriever", 1, retriever, {})
    return folder


def _start(other: Path, version: int) -> Config:
    return Config(loop=LoopConfig(start_from=f"{other}@{version}"))


def _logits(folder: Path) -> torch.Tensor:
    tokens = AutoTokenizer.from_pretrained(folder)("create a queue", return_tensors="pt").input_ids
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(tokens).logits


def test_the_adopted_rewriter_is_the_adapted_one_in_full_weights(other_run: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    store, theirs = SnapshotStore(str(tmp_path / "ours")), SnapshotStore(str(other_run / "snapshots"))
    release = open_start(_start(other_run, 1))
    assert release is not None
    adopt_rewriter(release, store, tmp_path)
    ours = _logits(store.fetch("rewriter", 0))
    base = AutoModelForCausalLM.from_pretrained(theirs.fetch("rewriter", 0), dtype=torch.float32)
    tokens = AutoTokenizer.from_pretrained(theirs.fetch("rewriter", 0))("create a queue", return_tensors="pt").input_ids
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(base, str(theirs.fetch("rewriter", 1)))(tokens).logits
    assert torch.allclose(ours, adapted, atol=1e-4)
    assert not torch.allclose(ours, _logits(theirs.fetch("rewriter", 0)), atol=1e-2)


def test_the_encoder_is_adopted_without_the_index(other_run: Path, tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path / "ours"))
    release = open_start(_start(other_run, 1))
    assert release is not None
    adopt_encoder(release, store)
    adopt_encoder(release, store)
    names = {path.name for path in store.fetch("encoder", 0).iterdir()}
    assert "weights" in names
    assert "vectors.npy" not in names


def test_a_start_that_does_not_fit_is_one_line(other_run: Path) -> None:
    assert open_start(Config()) is None
    with pytest.raises(InputError, match=r"loop\.start_from=frozen"):
        open_start(Config(loop=LoopConfig(start_from="frozen")))
    with pytest.raises(InputError, match=r"loop\.start_from .*nothing was released there yet"):
        open_start(Config(loop=LoopConfig(start_from=str(other_run))))
    with pytest.raises(InputError, match=r"rewriter\.model is .* set it to"):
        open_start(_start(other_run, 1).model_copy(update={"rewriter": RewriterConfig(model="another")}))


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_a_reranker_is_adopted_where_it_has_a_weight(other_run: Path, tmp_path: Path, weight: float) -> None:
    theirs = SnapshotStore(str(other_run / "snapshots"))
    theirs.publish(RERANKER, 0, lambda directory: (directory / "weights").write_text("w") and None, {})
    (other_run / RELEASE_FILE).write_text(json.dumps({"rewriter": 1, "retriever": 1, "rerank_weight": weight}))
    release = open_start(Config(loop=LoopConfig(start_from=str(other_run))))
    assert release is not None and release.rerank_weight == weight
    store = SnapshotStore(str(tmp_path / "own"))
    adopt_reranker(release, store)
    assert store.has(RERANKER, 0) == bool(weight)


def test_queries_that_learned_alone_start_no_run_that_trains_both_sides(other_run: Path) -> None:
    alone = {"sides": "queries", "mined_negatives": 0, "anchor_weight": 0.0}
    save(Config().model_copy(update={"encoder": Config().encoder.model_copy(update=alone)}), other_run / "config.yaml")
    with pytest.raises(InputError, match=r"encoder\.sides is queries and this run's is both.*set it to queries"):
        open_start(_start(other_run, 1))
