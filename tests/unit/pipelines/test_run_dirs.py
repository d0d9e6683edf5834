"""Whose a run directory is, and which release it holds."""

import json
from pathlib import Path

import pytest
import yaml

from actors.core.snapshots import SnapshotStore
from actors.core.types import Catalog, InputError
from actors.releases import Release, Releases
from actors.run_dir import CONFIG_FILE, open_release, storage_root
from configs.load import save
from configs.schema import Config
from pipelines.evaluate import load_retriever
from pipelines.run_dirs import check_run_dir


def saved(run_dir: Path, config: Config) -> None:
    run_dir.mkdir()
    (run_dir / CONFIG_FILE).write_text(yaml.safe_dump(config.model_dump(mode="json")))


def test_run_dir_new_empty_or_our_own(tmp_path: Path) -> None:
    config = Config(run_dir=str(tmp_path / "run"))
    assert check_run_dir(tmp_path / "run", config) is False
    (tmp_path / "empty" / "logs").mkdir(parents=True)
    assert check_run_dir(tmp_path / "empty", config) is False
    saved(tmp_path / "run", config)
    assert check_run_dir(tmp_path / "run", config) is True


def test_run_dir_of_another_config_names_the_field(tmp_path: Path) -> None:
    config = Config()
    saved(tmp_path / "run", config)
    other = config.model_copy(update={"seed": 18, "encoder": config.encoder.model_copy(update={"steps_per_unit": 7})})
    with pytest.raises(InputError, match=r"encoder\.steps_per_unit is 100 there and 7 here; seed is 17 there and 18 here") as error:
        check_run_dir(tmp_path / "run", other)
    assert "\n" not in str(error.value)


def test_run_dir_may_be_resumed_with_other_patience(tmp_path: Path) -> None:
    config = Config()
    saved(tmp_path / "run", config)
    patient = config.model_copy(update={"loop": config.loop.model_copy(update={"stage_timeout_s": 9999}), "run_dir": "elsewhere"})
    assert check_run_dir(tmp_path / "run", patient) is True


def test_run_dir_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    with pytest.raises(InputError, match="not empty and not a run"):
        check_run_dir(tmp_path / "thesis", Config())
    with pytest.raises(InputError, match="not a directory"):
        check_run_dir(tmp_path / "thesis" / "chapter1.tex", Config())
    (tmp_path / "thesis" / CONFIG_FILE).write_text("{: torn")
    with pytest.raises(InputError, match="cannot be read"):
        check_run_dir(tmp_path / "thesis", Config())


def _run_dir(tmp_path: Path) -> Path:
    run_dir = tmp_path / "run@home"
    save(Config(run_dir="elsewhere", seed=5), run_dir / "config.yaml")
    return run_dir


def test_a_release_is_what_release_json_says(tmp_path: Path) -> None:
    run_dir = _run_dir(tmp_path)
    with pytest.raises(InputError, match="nothing was released"):
        open_release(str(run_dir))
    record = {"rewriter": 2, "retriever": 3, "catalog": "abc", "fusion_weight": 0.15, "limits": {"abstain_below": 0.2}}
    (run_dir / "release.json").write_text(json.dumps(record))
    release = open_release(str(run_dir))
    assert (release.rewriter, release.retriever, release.fusion_weight, release.config.seed) == (2, 3, 0.15, 5)
    assert (release.name, release.limits.abstain_below) == ("round-3", 0.2)
    versioned = open_release(f"{run_dir}@1")
    assert (versioned.rewriter, versioned.retriever, versioned.fusion_weight) == (1, 1, 0.15)
    with pytest.raises(InputError, match="retriever version 1 is not in"):
        load_retriever(versioned, Catalog(()), lambda _: lambda done, total: None)


def test_a_release_with_a_frozen_encoder_is_named_by_its_rewriter(tmp_path: Path) -> None:
    run_dir = _run_dir(tmp_path)
    (run_dir / "config.yaml").write_text("encoder: {frozen: true, warm_start_share: 0}\nloop: {baselines: []}\n")
    (run_dir / "release.json").write_text(json.dumps({"rewriter": 2, "retriever": -1, "fusion_weight": 0.1}))
    assert open_release(str(run_dir)).name == "round-2"
    versioned = open_release(f"{run_dir}@1")
    assert (versioned.name, versioned.rewriter, versioned.retriever) == ("round-1", 1, -1)


def test_snapshots_are_found_where_the_run_wrote_them(tmp_path: Path) -> None:
    run_dir = _run_dir(tmp_path)
    SnapshotStore(str(run_dir / "snapshots")).publish("retriever", 0, lambda path: None, {})
    release = open_release(f"{run_dir}@0")
    assert release.store is not None
    assert release.store.versions("retriever") == [0]
    assert storage_root(Config(storage_path="s3://bucket/run/"), run_dir) == "s3://bucket/run"


def test_the_frozen_encoder_is_not_cut_short_of_its_own_maximum() -> None:
    release = open_release("frozen")
    assert release.store is None
    assert min(release.config.encoder.query_tokens, release.config.encoder.document_tokens) >= 512


def test_a_continual_run_releases_what_it_serves(tmp_path: Path) -> None:
    run_dir = _run_dir(tmp_path)
    store = SnapshotStore(str(run_dir / "snapshots"))
    for kind in ("rewriter", "retriever"):
        store.publish(kind, 1, lambda path: None, {})
    releases = Releases(store, str(run_dir / "releases"))
    releases.add(Release(1, 1, 1, "abc", 0.1, {}))
    releases.add(Release(2, 2, 2, "abc", 0.2, {}))
    with pytest.raises(InputError, match="nothing was released"):
        open_release(str(run_dir))
    releases.promote(1, "gate", "better")
    assert (open_release(str(run_dir)).retriever, open_release(str(run_dir)).fusion_weight) == (1, 0.1)
    assert open_release(str(run_dir)).name == "1"
    assert (open_release(f"{run_dir}@2").retriever, open_release(f"{run_dir}@2").fusion_weight) == (2, 0.2)
