"""Compaction: late points, crumbs, races, damage, a killed process."""

import asyncio
import os
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from stepwell_storage.backlog import UNIT_POINTS, Backlog
from stepwell_storage.check import verify
from stepwell_storage.compaction import FAN, build
from stepwell_storage.compactor import CompactionFailed
from stepwell_storage.points import Points, merge
from stepwell_storage.records import Batch
from stepwell_storage.store import Options, Store
from stepwell_storage.tenant import Tenant
from tests.storage.conftest import RUN, batch, new_run


def chunk_sizes(data: Path) -> list[int]:
    with sqlite3.connect(f"file:{data}/tenants/default/tenant.db?mode=ro", uri=True) as connection:
        rows = connection.execute("select count from chunk order by first_step, first_timestamp")
        sizes = [count for (count,) in rows]
    connection.close()
    return sizes


async def unit(store: Store, tenant: Tenant) -> None:
    await store.compact(tenant.name)
    assert tenant.writer.backlog.points == 0


async def test_a_long_series_becomes_full_chunks(store: Store, tenant: Tenant, data: Path):
    await tenant.create_run(new_run())
    await tenant.log(RUN, batch("loss", range(30_000)))
    await unit(store, tenant)
    assert chunk_sizes(data) == [8_192, 8_192, 8_192, 5_424]
    assert (await tenant.points(RUN, "loss")).steps.tolist() == list(range(30_000))


async def test_a_slow_series_leaves_no_crumbs(store: Store, tenant: Tenant, data: Path):
    await tenant.create_run(new_run())
    for start in range(0, 640, 10):
        await tenant.log(RUN, batch("loss", range(start, start + 10)))
        await unit(store, tenant)
    sizes = chunk_sizes(data)
    assert sum(sizes) == 640
    assert len(sizes) <= 7  # logarithmic: at most three of a size
    assert (await tenant.points(RUN, "loss")).steps.tolist() == list(range(640))


async def test_late_points_are_merged_into_the_chunks_they_overlap(
    store: Store, tenant: Tenant, data: Path
):
    await tenant.create_run(new_run())
    await tenant.log(RUN, batch("loss", range(0, 40_000, 2)))
    await unit(store, tenant)
    await tenant.log(RUN, batch("loss", range(1, 2_000, 2)))
    (stats,) = (await tenant.series(RUN)).series
    assert (stats.count, stats.exact) == (21_000, False)
    await unit(store, tenant)
    (stats,) = (await tenant.series(RUN)).series
    assert (stats.count, stats.exact) == (21_000, True)
    expected = sorted([*range(0, 40_000, 2), *range(1, 2_000, 2)])
    assert (await tenant.points(RUN, "loss")).steps.tolist() == expected
    assert sum(chunk_sizes(data)) == 21_000


async def test_a_repeated_batch_is_counted_once_after_compaction(store: Store, tenant: Tenant):
    await tenant.create_run(new_run())
    for _ in range(3):
        await tenant.log(RUN, batch("loss", range(500)))
    (stats,) = (await tenant.series(RUN)).series
    assert (stats.count, stats.exact) == (1_500, False)
    assert len(await tenant.points(RUN, "loss")) == 500
    await unit(store, tenant)
    (stats,) = (await tenant.series(RUN)).series
    assert (stats.count, stats.exact) == (500, True)


async def test_every_step_the_same_costs_no_rewrites(store: Store, tenant: Tenant, data: Path):
    await tenant.create_run(new_run())
    for round in range(4):
        zeros = [0] * 9_000
        logged = batch("loss", range(9_000), at=round * 9_000)
        logged.steps = np.array(zeros, "<i8").tobytes()
        await tenant.log(RUN, logged)
        await unit(store, tenant)
    assert sum(chunk_sizes(data)) == 36_000
    assert len(chunk_sizes(data)) <= 6
    assert len(await tenant.points(RUN, "loss")) == 36_000


async def test_random_order_ends_up_in_order(store: Store, tenant: Tenant):
    await tenant.create_run(new_run())
    order = np.random.default_rng(7).permutation(20_000)
    for part in np.array_split(order, 10):
        await tenant.log(RUN, batch("loss", part.tolist()))
        await unit(store, tenant)
    assert (await tenant.points(RUN, "loss")).steps.tolist() == list(range(20_000))
    (stats,) = (await tenant.series(RUN)).series
    assert (stats.count, stats.exact) == (20_000, True)


async def test_a_wide_run_is_compacted_whole(store: Store, tenant: Tenant):
    await tenant.create_run(new_run())
    keys = [f"layer/{n}/norm" for n in range(2_000)]
    for step in range(3):
        columns = (
            np.full(2_000, step, "<i8").tobytes(),
            np.full(2_000, 10 + step, "<i8").tobytes(),
            np.arange(2_000, dtype="<f8").tobytes(),
        )
        await tenant.log(RUN, Batch(keys, [1] * 2_000, *columns))
    await unit(store, tenant)
    page = await tenant.series(RUN, prefix="layer/199", limit=5_000)
    assert page.total == 11
    assert all(stats.count == 3 and stats.exact for stats in page.series)
    assert (await tenant.points(RUN, "layer/7/norm")).values.tolist() == [7.0] * 3


async def test_a_wide_run_that_grows_keeps_every_bit_and_leaves_nothing_behind(
    store: Store, tenant: Tenant, data: Path
):
    """300 series that come and go, late points, repetitions, NaNs: many units of few points."""
    await tenant.create_run(new_run())
    random = np.random.default_rng(3)
    logged: dict[str, list[Points]] = {}
    for step in range(40):
        keys = [f"layer/{n:03d}" for n in np.flatnonzero(random.random(300) < 0.8)]
        counts = random.integers(1, 4, len(keys))
        total = int(counts.sum())
        steps = step + random.integers(-3, 1, total)
        times = 1_707_723_600_000 + 100 * step + random.integers(0, 3, total)
        values = random.standard_normal(total).astype(np.float32).astype(np.float64)
        values[random.random(total) < 0.05] = np.nan
        points = Points.of(steps, times, values)
        for key, start, count in zip(keys, np.cumsum(counts) - counts, counts, strict=True):
            logged.setdefault(key, []).append(points[start : start + count])
        columns = (points.steps.tobytes(), points.timestamps.tobytes(), points.values.tobytes())
        await tenant.log(RUN, Batch(keys, counts.tolist(), *columns))
        if step % 3 == 2:
            await unit(store, tenant)
    await unit(store, tenant)
    for key in [*list(logged)[::17], "layer/000"]:
        assert await tenant.points(RUN, key) == merge(logged[key])
    counts_by_key = {stats.key: stats.count for stats in (await tenant.series(RUN)).series}
    assert counts_by_key == {key: len(merge(parts)) for key, parts in logged.items()}
    with sqlite3.connect(data / "tenants/default/tenant.db") as connection:
        assert connection.execute("select count(*) from journal").fetchone() == (0,)
        (most,) = connection.execute(
            "select max(n) from (select count(*) n from chunk group by key)"
        )
        assert most[0] <= 2 * FAN
    connection.close()
    assert (await verify(data)).problems == []


async def test_of_many_series_each_waits_for_as_many_points(data: Path):
    """A run of many thin series is compacted when it is quiet, not sooner."""
    waiting = Backlog()
    for step in range(40):
        first = 1_000 * (step % 10)
        waiting.add(1, rows=1, points=1_000, size=6_000, keys=range(first, first + 1_000))
    assert waiting.most_urgent() is None
    waiting.add(2, rows=1, points=UNIT_POINTS, size=6_000, keys=[1])
    assert waiting.most_urgent() == (1.0, 2)


async def test_a_unit_built_twice_is_put_in_place_once(store: Store, tenant: Tenant):
    await tenant.create_run(new_run())
    await tenant.log(RUN, batch("loss", range(1_000)))
    await tenant.settle()
    async with tenant._database.snapshot() as reader:
        first, second = await build(reader, [1]), await build(reader, [1])
    assert await tenant.seal(first)
    assert not await tenant.seal(second)
    assert len(await tenant.points(RUN, "loss")) == 1_000
    (stats,) = (await tenant.series(RUN)).series
    assert (stats.count, stats.exact) == (1_000, True)


async def test_points_that_come_while_a_unit_is_built_are_kept(store: Store, tenant: Tenant):
    await tenant.create_run(new_run())
    await tenant.log(RUN, batch("loss", range(1_000)))
    await tenant.settle()
    async with tenant._database.snapshot() as reader:
        sealed = await build(reader, [1])
    await tenant.log(RUN, batch("loss", range(500, 1_500)))
    assert await tenant.seal(sealed)
    assert len(await tenant.points(RUN, "loss")) == 1_500
    await unit(store, tenant)
    (stats,) = (await tenant.series(RUN)).series
    assert (stats.count, stats.exact) == (1_500, True)


async def test_a_killed_compactor_is_replaced_and_nothing_is_lost(store: Store, tenant: Tenant):
    await tenant.create_run(new_run())
    await tenant.log(RUN, batch("loss", range(1_000)))
    await unit(store, tenant)
    pid = store._housekeeping.compactor.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await tenant.log(RUN, batch("loss", range(1_000, 200_000)))
    with pytest.raises(CompactionFailed):
        await store.compact(tenant.name)
    await unit(store, tenant)
    assert store._housekeeping.compactor.pid != pid
    assert len(await tenant.points(RUN, "loss")) == 200_000


async def test_the_compactor_dies_with_its_server(data: Path):
    store = await Store.open(data, Options(compact=False))
    async with store.lease("default", create=True) as tenant:
        await tenant.create_run(new_run())
        await tenant.log(RUN, batch("loss", range(10)))
    await store.compact("default")
    pid = store._housekeeping.compactor.pid
    assert pid is not None
    await store.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_damaged_chunk_confines_the_damage_to_its_series(
    store: Store, tenant: Tenant, data: Path
):
    await tenant.create_run(new_run())
    await tenant.log(RUN, batch("loss", range(100)))
    await tenant.log(RUN, batch("acc", range(100)))
    await unit(store, tenant)
    with sqlite3.connect(data / "tenants/default/tenant.db") as connection:
        connection.execute("update chunk set data = zeroblob(40) where key = 1")
    connection.close()
    with pytest.raises(Exception, match=r"tenant default.*run.*series loss.*chunk"):
        await tenant.points(RUN, "loss")
    assert len(await tenant.points(RUN, "acc")) == 100
    await tenant.log(RUN, batch("loss", range(50, 150)))
    await tenant.log(RUN, batch("acc", range(50, 150)))
    await store.compact(tenant.name)
    assert len(await tenant.points(RUN, "acc")) == 150


async def test_it_keeps_up_by_itself(data: Path):
    store = await Store.open(data)
    async with store.lease("default", create=True) as tenant:
        await tenant.create_run(new_run())
        for start in range(0, 400_000, 10_000):
            await tenant.log(RUN, batch("loss", range(start, start + 10_000)))
        async with asyncio.timeout(30):
            while tenant.writer.backlog.points > 131_072:
                await asyncio.sleep(0.05)
        assert len(await tenant.points(RUN, "loss")) == 400_000
    await store.close()
