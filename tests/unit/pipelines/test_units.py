from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from actors.core.types import InputError, Unit
from configs.schema import Config, LoopConfig
from pipelines.units import CONFIG_FILE, Arm, Planned, check_run_dir, make_unit

IDS = [f"q{i}" for i in range(10)]


def planned(loop: LoopConfig, seed: int, ids: Iterable[str]) -> list[Unit]:
    source = Planned(loop, seed, ids)
    return [asyncio.run(source.take(index)) for index in range(source.count or 0)]


def test_a_round_holds_every_query() -> None:
    units = planned(LoopConfig(units=3), 1, IDS)
    assert [u.index for u in units] == [0, 1, 2]
    assert all(sorted(u.query_ids) == sorted(IDS) for u in units)
    assert units[0].query_ids != units[1].query_ids, "each round has an order of its own"
    assert len({u.seed for u in units}) == 3


def test_a_unit_is_a_pure_function_of_index_seed_and_ids() -> None:
    loop = LoopConfig(mode="continual", queries_per_unit=3, max_rewriter_lag=1, units=9)
    units = planned(loop, 5, IDS)
    assert units == planned(loop, 5, reversed(IDS))
    assert units[7] == make_unit(7, 5, IDS, 3)
    assert units != planned(loop, 6, IDS)


def test_an_epoch_meets_a_query_once() -> None:
    units = [make_unit(i, 0, IDS, 3) for i in range(6)]
    for epoch in (units[:3], units[3:]):
        ids = [query for unit in epoch for query in unit.query_ids]
        assert len(ids) == len(set(ids)) == 9
    assert units[0].query_ids != units[3].query_ids, "the next epoch is shuffled anew"


def test_a_unit_holds_no_more_than_there_is() -> None:
    assert sorted(make_unit(0, 0, IDS, 11).query_ids) == sorted(IDS)
    with pytest.raises(ValueError, match="there are none"):
        make_unit(0, 0, [], None)


def test_an_arm_trains_something() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Arm("idle", train_encoder=False, train_rewriter=False)


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
