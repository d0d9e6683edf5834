from pathlib import Path

import pytest
import yaml

from configs.errors import InputError
from configs.load import keys, load, save
from configs.schema import Config

SHIPPED = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def message(path: str | None, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load(path, list(overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_given_is_the_schema_s_defaults() -> None:
    assert load(None, []) == Config()


def test_later_layers_win_and_sections_merge(tmp_path: Path) -> None:
    write(tmp_path / "low.yaml", "seed: 1\nencoder: {warm_start_steps: 5, query_tokens: 8}\n")
    write(tmp_path / "high.yaml", "seed: 2\n")
    top = write(tmp_path / "top.yaml", "defaults: [low.yaml, high.yaml]\nencoder: {query_tokens: 9}\n")
    config = load(top, ["encoder.pairs_per_step=40", "catalog.services=[s3, ec2]"])
    assert config.seed == 2
    assert (config.encoder.warm_start_steps, config.encoder.query_tokens, config.encoder.pairs_per_step) == (5, 9, 40)
    assert config.catalog.services == ["s3", "ec2"]


def test_the_last_override_wins() -> None:
    assert load(None, ["seed=3", "seed=4"]).seed == 4


def test_an_exponent_without_a_point_is_a_number() -> None:
    assert load(None, ["encoder.learning_rate=2e-5"]).encoder.learning_rate == 2e-5


def test_null_is_read_as_none() -> None:
    assert load(None, ["catalog.max_train_queries=null"]).catalog.max_train_queries is None


def test_a_wrong_key_names_the_nearest(tmp_path: Path) -> None:
    assert "did you mean rewriter.samples_per_query?" in message(None, "rewriter.sample_per_query=8")
    assert "rewriter.sample_per_query=8 (command line)" in message(None, "rewriter.sample_per_query=8")
    assert "did you mean encoder?" in message(None, "encodr.model=x")
    assert "did you mean rewriter.beta?" in message(None, "beta=0.2")
    file = write(tmp_path / "a.yaml", "loop: {unit: 3}\n")
    assert f"loop.unit=3 ({file})" in message(file)
    assert "did you mean loop.units?" in message(file)


def test_a_wrong_key_without_a_near_one_lists_the_section() -> None:
    assert "retrieval has reward_k, reward_mode" in message(None, "retrieval.zzzzzz=1")
    assert "seed is a value, not a section" in message(None, "seed.zzzzzz=1")


def test_a_wrong_value_names_key_value_and_origin(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "rewriter: {temperature: -1}\n")
    assert message(file).startswith(f"rewriter.temperature=-1 ({file}): input should be greater than 0 (Sampling")
    assert "seed='x' (command line)" in message(None, "seed=x")
    assert message(None, "catalog.services=many").startswith("catalog.services='many' (command line)")
    assert message(None, "encoder=5").startswith("encoder=5 (command line)")


def test_cross_field_checks_speak_for_themselves() -> None:
    assert message(None, "loop.max_rewriter_lag=1").startswith("loop.mode=rounds needs loop.max_rewriter_lag=0")


@pytest.mark.parametrize("override", ["seed", "=5", "a..b=5", ".seed=5"])
def test_an_override_that_is_not_key_value(override: str) -> None:
    assert "is not key=value" in message(None, override)


def test_an_override_that_is_not_yaml() -> None:
    assert "the value is not YAML" in message(None, "catalog.services=[s3")


def test_a_missing_file_lists_those_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "demo.yaml", "")
    assert "no such configuration file; YAML files in that folder: demo.yaml" in message(str(tmp_path / "dem.yaml"))


def test_files_that_are_not_settings(tmp_path: Path) -> None:
    assert "not YAML" in message(write(tmp_path / "a.yaml", "a: [1"))
    assert "holds a list" in message(write(tmp_path / "b.yaml", "- 1\n"))
    assert "is not a list of file names" in message(write(tmp_path / "c.yaml", "defaults: base.yaml\n"))
    assert "cannot be read" in message(str(tmp_path))


def test_an_empty_file_is_no_settings(tmp_path: Path) -> None:
    assert load(write(tmp_path / "a.yaml", ""), []) == Config()


def test_defaults_that_form_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "defaults: [b.yaml]\n")
    assert "lead back to itself" in message(write(tmp_path / "b.yaml", "defaults: [a.yaml]\n"))


def test_one_file_twice_on_different_branches_is_no_circle(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "seed: 5\n")
    write(tmp_path / "left.yaml", "defaults: [base.yaml]\n")
    top = write(tmp_path / "top.yaml", "defaults: [left.yaml, base.yaml]\n")
    assert load(top, []).seed == 5


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    config = load(None, ["catalog.services=[s3]", "loop.mode=continual", "loop.queries_per_unit=8", "loop.max_rewriter_lag=1"])
    save(config, tmp_path / "run" / "config.yaml")
    assert load(str(tmp_path / "run" / "config.yaml"), []) == config
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.yaml"]
    assert set(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())) == set(Config.model_fields)


def test_every_field_is_described_and_the_config_stays_small() -> None:
    described = keys()
    sections = {key.rpartition(".")[0] for key in described if "." in key}
    leaves = [key for key in described if key not in sections]
    assert [key for key in leaves if not described[key]] == []
    assert len([key for key in leaves if not key.startswith("placement.")]) <= 82


@pytest.mark.parametrize("path", [p for p in SHIPPED if p.stem != "serve"], ids=lambda p: p.stem)
def test_every_shipped_file_loads(path: Path) -> None:
    assert load(str(path), []).run_dir


def test_a_frozen_encoder_goes_with_rounds_without_trained_baselines() -> None:
    settings = ["encoder.frozen=true", "encoder.warm_start_share=0", "loop.baselines=[]"]
    assert load(None, settings).encoder.frozen
    for left_out in settings[1:]:
        with pytest.raises(InputError, match=r"encoder.frozen=true needs loop.mode=rounds, loop.baselines=\[\] and"):
            load(None, [s for s in settings if s != left_out])


def test_queries_alone_learn_without_what_moves_tools(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("encoder: {sides: queries, mined_negatives: 0}\n")
    with pytest.raises(InputError, match=r"sides=queries needs .*anchor_weight=0"):
        load(str(path), [])
    assert load(str(path), ["encoder.anchor_weight=0"]).encoder.sides == "queries"
