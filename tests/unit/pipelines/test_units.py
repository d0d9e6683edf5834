from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from actors.core.types import Unit
from configs.schema import EncoderConfig, LoopConfig
from pipelines.units import COHYDE, Arm, Planned, main_arm, make_unit

IDS = [f"q{i}" for i in range(10)]


def planned(loop: LoopConfig, seed: int, ids: Iterable[str]) -> list[Unit]:
    source = Planned(loop, seed, ids)
    return [asyncio.run(source.take(index)) for index in range(source.count or 0)]


def test_with_a_frozen_encoder_the_main_arm_is_qta_in_cohyde_s_place() -> None:
    assert main_arm(EncoderConfig()) == COHYDE
    frozen = main_arm(EncoderConfig(frozen=True))
    assert (frozen.name, frozen.train_encoder, frozen.train_rewriter, frozen.fixed_retriever) == ("cohyde", False, True, -1)


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
