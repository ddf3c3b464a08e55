"""The books while somebody sets the clock: what ran is counted, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.store_samples import Database
from tests.contract.test_stores_usage import ALL_DAYS, Clock, set_workers, start

DAY = 86400.0


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 30 * DAY])
@pytest.mark.parametrize("is_first_read", [True, False])
async def test_a_clock_that_is_set_is_billed_to_nobody(tmp_path: Path, jump: float, is_first_read: bool) -> None:
    """Set back it swallows no work, set forward it makes none up: it is seen before anything is read or written."""
    clock, steady = Clock(), Clock(0.0)
    async with Database(tmp_path / "data").open(clock=clock, steady=steady) as store:
        cluster = await set_workers(store, await start(store), 1)
        for part in (clock, steady):
            part.now += 3000
        clock.now += jump
        if is_first_read:
            assert (await store.usage(ALL_DAYS)).total.core_seconds == 2 * 3000
        cluster = await set_workers(store, cluster, 2)
        assert (await store.usage(ALL_DAYS)).total.core_seconds == 2 * 3000
        for part in (clock, steady):
            part.now += 100
        assert (await store.usage(ALL_DAYS)).total.core_seconds == 2 * 3000 + 4 * 100


async def test_a_clock_that_is_wrong_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    """A month ahead for one write, and right again: nothing of the month is booked, and nothing is lost."""
    clock, steady = Clock(), Clock(0.0)
    async with Database(tmp_path / "data").open(clock=clock, steady=steady) as store:
        cluster = await set_workers(store, await start(store), 1)
        clock.now += 30 * DAY
        await set_workers(store, cluster, 2)
        clock.now -= 30 * DAY
        for part in (clock, steady):
            part.now += 60
        assert (await store.usage(ALL_DAYS)).total.core_seconds == 4 * 60
