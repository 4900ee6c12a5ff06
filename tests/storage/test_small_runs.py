"""A sweep of many small runs is compacted many runs a unit; what is wrong with one of them is not
in the others' way."""

import sqlite3
from pathlib import Path

import pytest

from stepwell_storage import backlog, compaction
from stepwell_storage.backlog import Backlog
from stepwell_storage.check import verify
from stepwell_storage.compaction import build
from stepwell_storage.store import Store
from stepwell_storage.tenant import Tenant
from tests.storage.conftest import batch, new_run

RUNS = [f"{number:032x}" for number in range(1, 41)]
KEYS = ("accuracy", "loss", "rate")


@pytest.fixture
async def sweep(tenant: Tenant) -> Tenant:
    """40 runs, of which each logs its own steps twice in part."""
    for number, run in enumerate(RUNS):
        await tenant.create_run(new_run(run))
        for steps in (range(number, number + 10), range(number + 5, number + 20)):
            for key in KEYS:
                await tenant.log(run, batch(key, steps, value=number))
    return tenant


def rows(data: Path, statement: str) -> list[tuple[int, ...]]:
    with sqlite3.connect(data / "tenants/default/tenant.db") as connection:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found


async def check(tenant: Tenant, runs: list[str] = RUNS, *, exact: bool = True) -> None:
    for run in runs:
        number = RUNS.index(run)
        for stats in (await tenant.series(run)).series:
            assert stats.count == 20
            assert stats.exact or not exact
            points = await tenant.points(run, stats.key)
            assert points.steps.tolist() == list(range(number, number + 20))
            assert points.values.tolist() == [number + step for step in points.steps.tolist()]


def units(store: Store) -> int:
    return sum(store._housekeeping._meters.unit_seconds.counts)


async def test_many_small_runs_are_one_unit(sweep: Tenant, store: Store, data: Path):
    await store.compact("default")
    assert units(store) == 1
    assert rows(data, "select count(*) from journal") == [(0,)]
    assert rows(data, "select count(*), min(count), max(count) from chunk") == [(120, 20, 20)]
    await check(sweep)
    for number, run in enumerate(RUNS):  # what comes next goes into the same chunks
        await sweep.log(run, batch("loss", range(number + 20, number + 80), value=number))
    await store.compact("default")
    assert units(store) == 2
    assert rows(data, "select count(*) from chunk") == [(120,)]
    assert (await verify(data)).problems == []


@pytest.mark.parametrize(("rows_a_unit", "points_a_unit"), [(7, 1_000_000), (20_000, 77)])
async def test_a_unit_that_has_no_room_for_all_ends_in_the_middle_of_a_run(
    sweep: Tenant, store: Store, data: Path, monkeypatch: pytest.MonkeyPatch,
    rows_a_unit: int, points_a_unit: int,
):  # fmt: skip
    monkeypatch.setattr(compaction, "MAX_UNIT_ROWS", rows_a_unit)
    monkeypatch.setattr(compaction, "MAX_UNIT_POINTS", points_a_unit)
    await sweep.settle()
    left = 240
    while left:
        async with sweep._database.snapshot() as reader:
            sealed = await build(reader, list(range(1, 41)))
        assert 0 < len(sealed.journal) <= rows_a_unit
        assert sealed.points <= max(points_a_unit, 15)
        assert await sweep.seal(sealed)
        left -= len(sealed.journal)
    assert sweep.writer.backlog.points == 0
    # A series may be in another unit than the last row that it was counted with.
    await check(sweep, exact=rows_a_unit > 7)
    assert (await verify(data)).problems == []


async def test_a_damaged_row_is_left_and_all_others_are_compacted(
    sweep: Tenant, store: Store, data: Path
):
    [(bad,)] = rows(data, "select min(id) from journal where run = 7")
    with sqlite3.connect(data / "tenants/default/tenant.db") as connection:
        connection.execute("update journal set payload = zeroblob(40) where id = ?", (bad,))
    connection.close()
    await store.compact("default")
    assert rows(data, "select id, run from journal") == [(bad, 7)]
    await check(sweep, [run for run in RUNS if run != RUNS[6]])
    assert rows(data, "select count(distinct run) from chunk") == [(40,)]
    assert rows(data, "select sum(count) from chunk where run = 7") == [(20 + 20 + 15,)]


async def test_a_run_that_is_purged_meanwhile_takes_none_of_the_others_along(
    sweep: Tenant, store: Store, data: Path
):
    await sweep.settle()
    async with sweep._database.snapshot() as reader:
        sealed = await build(reader, list(range(1, 41)))
    await sweep.purges.run(RUNS[2])
    while await sweep.purges.dispose():
        pass
    assert not await sweep.seal(sealed)
    assert rows(data, "select count(*) from chunk") == [(0,)]
    await store.compact("default")
    assert rows(data, "select count(distinct run) from chunk") == [(39,)]
    await check(sweep, [run for run in RUNS if run != RUNS[2]])
    assert (await verify(data)).problems == []


def small(count: int, series: int = 1) -> Backlog:
    waiting = Backlog()
    for run in range(1, count + 1):
        waiting.add(run, rows=1, points=20 * series, size=100, keys=range(series))
    return waiting


def test_only_so_many_runs_and_series_are_put_in_place_at_once():
    assert small(5).unit(3, everything=True) == [3, 1, 2, 4, 5]
    assert len(small(1_000).unit(1, everything=True)) == backlog.UNIT_RUNS
    assert len(small(1_000, series=100).unit(1, everything=True)) == backlog.UNIT_SERIES // 100


def test_a_large_run_and_one_that_failed_have_a_unit_of_their_own():
    waiting = small(5)
    waiting.add(2, rows=1, points=backlog.SMALL_POINTS, size=100, keys=[1])
    assert waiting.unit(2, everything=True) == [2]
    assert waiting.unit(1, everything=True) == [1, 3, 4, 5]
    waiting.part([3, 4])
    assert waiting.unit(3, everything=True) == [3]
    assert waiting.unit(1, everything=True) == [1, 5]
    assert waiting.unit(1) == [1]  # those whose turn it is not yet stay where they are
