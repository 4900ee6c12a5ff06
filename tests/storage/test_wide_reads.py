"""Runs of thousands of series: listed, searched and charted while most of it is in the journal."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from stepwell_storage.errors import Corrupt
from stepwell_storage.points import Points
from stepwell_storage.records import Batch
from stepwell_storage.series import ChartQuery
from stepwell_storage.shared import Steps
from stepwell_storage.store import Store
from stepwell_storage.tenant import Tenant
from tests.storage.conftest import RUN, new_run

SERIES = 3_000
KEYS = [f"block/{n // 10:03d}/head_{n % 10}" for n in range(SERIES)]


async def log_step(tenant: Tenant, step: int) -> None:
    """One point of each series, a thousand a request: ``1000 * step + the series' number``."""
    for first in range(0, SERIES, 1_000):
        values = 1_000.0 * step + np.arange(first, first + 1_000)
        columns = (
            np.full(1_000, step, "<i8").tobytes(),
            np.full(1_000, 50 * step, "<i8").tobytes(),
            values.tobytes(),
        )
        await tenant.log(RUN, Batch(KEYS[first : first + 1_000], [1] * 1_000, *columns))


def asked(keys: list[str]) -> ChartQuery:
    return ChartQuery(keys, Steps.of(None, None), 1_500)


def expected(key: str, steps: range) -> Points:
    number = KEYS.index(key)
    return Points.of(steps, [50 * step for step in steps], [1_000.0 * s + number for s in steps])


@pytest.mark.parametrize("compacted", [0, 4, 8])
async def test_series_are_listed_and_charted_wherever_their_points_lie(
    store: Store, tenant: Tenant, compacted: int
):
    await tenant.create_run(new_run())
    for step in range(8):
        await log_step(tenant, step)
        if step + 1 == compacted:
            await store.compact(tenant.name)
    page = await tenant.series(RUN, limit=1_000)
    assert (page.total, len(page.series)) == (SERIES, 1_000)
    assert [stats.key for stats in page.series] == sorted(KEYS)[:1_000]
    assert {stats.count for stats in page.series} == {8}
    found = await tenant.series(RUN, prefix="block/299/")
    assert [stats.key for stats in found.series] == [f"block/299/head_{n}" for n in range(10)]
    wanted = [*KEYS[::600], "block/999/none"]
    charts = await tenant.charts([RUN], asked(wanted))
    assert [chart.key for chart in charts] == wanted[:-1]
    for chart in charts:
        assert chart.points == expected(chart.key, range(8))
        (alone,) = await tenant.charts([RUN], asked([chart.key]))
        assert alone.points == chart.points
        assert (await tenant.history(RUN, chart.key)).points == chart.points


@pytest.mark.parametrize("names", [SERIES, 40])
async def test_pages_of_series_are_the_same_whether_others_have_many_or_few(
    tenant: Tenant, names: int
):
    """A run's own are few of the tenant's names, or most of them: it is read in two ways."""
    await tenant.create_run(new_run())
    other = f"{2:032x}"
    await tenant.create_run(new_run(other))
    own = sorted(KEYS[:40:2])
    for run, keys in ((other, KEYS[:names]), (RUN, own)):
        zeros = np.zeros(len(keys), "<i8").tobytes()
        await tenant.log(run, Batch(keys, [1] * len(keys), zeros, zeros, zeros))
    for prefix in ("", "block/001", "block/9"):
        found: list[str] = []
        cursor = None
        while True:
            page = await tenant.series(RUN, prefix=prefix, cursor=cursor, limit=7)
            found += [stats.key for stats in page.series]
            assert page.total == len([key for key in own if key.startswith(prefix)])
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == [key for key in own if key.startswith(prefix)]


async def test_a_damaged_journal_row_of_several_series_is_named(tenant: Tenant, data: Path):
    await tenant.create_run(new_run())
    await log_step(tenant, 0)
    with sqlite3.connect(data / "tenants/default/tenant.db") as connection:
        connection.execute("update journal set payload = zeroblob(40) where id = 1")
    connection.close()
    for keys in (KEYS[:1], KEYS[:2]):
        with pytest.raises(Corrupt, match=r"tenant default.*run.*series block/000/head_0.*journal"):
            await tenant.charts([RUN], asked(keys))
