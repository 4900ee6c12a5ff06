"""Charts of many runs and keys at once are what each is alone, wherever its points lie."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from stepwell_storage import series as reading
from stepwell_storage.errors import Corrupt, LimitExceeded, NotFound
from stepwell_storage.records import Batch
from stepwell_storage.series import Chart, ChartQuery
from stepwell_storage.shared import Steps
from stepwell_storage.store import Store
from stepwell_storage.tenant import Tenant
from tests.storage.conftest import new_run

RUNS = [f"{number:032x}" for number in range(1, 21)]
KEYS = [f"key{number:02d}" for number in range(20)]
LONG, SHORT = 12_000, 90
WHOLE = Steps.of(None, None)


def noisy(key: str, steps: range, seed: int) -> Batch:
    values = np.random.default_rng(seed).standard_normal(len(steps))
    values[:: len(steps) // 10] = np.nan
    column = np.array(steps, "<i8").tobytes()
    return Batch([key], [len(steps)], column, column, values.tobytes())


@pytest.fixture
async def filled(store: Store, tenant: Tenant) -> Tenant:
    """A long and a short series of each run, and twenty of the first; of some a part comes late
    and overlaps what is compacted, of some a part waits in the journal, of some all of it."""
    for number, run in enumerate(RUNS):
        await tenant.create_run(new_run(run))
        await tenant.log(run, noisy(KEYS[0], range(LONG), number))
        await tenant.log(run, noisy(KEYS[1], range(SHORT), number))
    for number, key in enumerate(KEYS[2:]):
        await tenant.log(RUNS[0], noisy(key, range(100 + 300 * number), number))
    await store.compact("default")
    for number, run in enumerate(RUNS[::3]):
        await tenant.log(run, noisy(KEYS[0], range(LONG - 700 * number, LONG + 300), 100 + number))
    await store.compact("default")
    for number, run in enumerate(RUNS[::4]):
        await tenant.log(run, noisy(KEYS[0], range(LONG + 300, LONG + 900), 200 + number))
        await tenant.log(run, noisy("fresh", range(SHORT), number))
    return tenant


async def check(tenant: Tenant, runs: list[str], keys: list[str], query: ChartQuery) -> None:
    """Charts of all pairs: each is the one that is asked for alone, and keeps every extreme."""
    charts = await tenant.charts(runs, query)
    pairs = [(chart.run_id, chart.key) for chart in charts]
    there = []
    for run in runs:
        for key in keys:
            points = query.steps.cut(await tenant.points(run, key))
            if not len(points):
                continue
            there.append((run, key))
            chart = charts[len(there) - 1]
            one = ChartQuery([key], query.steps, query.max_points)
            assert same(chart, (await tenant.charts([run], one))[0])
            assert chart.count == len(points)
            assert np.nanmin(chart.points.values) == np.nanmin(points.values)
            assert np.nanmax(chart.points.values) == np.nanmax(points.values)
            for end in (0, -1):
                assert chart.points.position(end) == points.position(end)
            if query.max_points is None:
                assert chart.points == points
    assert pairs == there


def same(this: Chart, other: Chart) -> bool:
    counts = [None if one.counts is None else one.counts.tolist() for one in (this, other)]
    return this.points == other.points and counts[0] == counts[1]


async def test_of_many_runs(filled: Tenant):
    keys = [KEYS[0], "nowhere", "fresh", KEYS[1]]
    for steps in (WHOLE, Steps.of(37, 9_000), Steps.of(12_200, None)):
        for max_points in (40, 400, 30_000, None):
            await check(filled, RUNS, keys, ChartQuery(keys, steps, max_points))


async def test_of_many_keys_and_of_nothing(filled: Tenant):
    for max_points in (40, None):
        await check(filled, RUNS[:2], KEYS, ChartQuery(KEYS, WHOLE, max_points))
    for runs, keys in (([], KEYS), (RUNS, []), (RUNS, ["nowhere"])):
        assert await filled.charts(runs, ChartQuery(keys, WHOLE, 40)) == []


async def test_too_many_points_and_unknown_runs_are_refused(filled: Tenant):
    assert len(await filled.charts(RUNS, ChartQuery(KEYS[:1], WHOLE, 40, 40 * len(RUNS)))) == 20
    with pytest.raises(LimitExceeded, match="more than 700 points"):
        await filled.charts(RUNS, ChartQuery(KEYS[:1], WHOLE, 40, 700))
    with pytest.raises(NotFound):
        await filled.charts([RUNS[0], "f" * 32], ChartQuery(KEYS[:1], WHOLE, 40))


async def test_a_damaged_chunk_is_named(filled: Tenant, data: Path):
    query = ChartQuery([KEYS[0], KEYS[1]], WHOLE, 40)
    damaged = ((RUNS[7], KEYS[0], "summary"), (RUNS[10], KEYS[1], "data"))
    for run, key, column in damaged:
        with sqlite3.connect(data / "tenants/default/tenant.db") as connection:
            [(chunk,)] = connection.execute(
                "select min(c.id) from chunk c, name n where run = ? and n.id = key and text = ?",
                (int(run, 16), key),
            )
            connection.execute(f"update chunk set {column} = zeroblob(40) where id = ?", (chunk,))  # noqa: S608
        connection.close()
        with pytest.raises(Corrupt, match=rf"run {run}, series {key}, chunk {chunk}"):
            await filled.charts([run], query)
    with pytest.raises(Corrupt, match=rf"run {RUNS[7]}"):
        await filled.charts(RUNS, query)
    others = [run for run in RUNS if run not in (RUNS[7], RUNS[10])]
    assert len(await filled.charts(others, query)) == 36


def test_as_many_series_are_read_at_once_as_the_tests_take_for_granted():
    assert len(KEYS) > reading._SERIES_AT_ONCE > 4
