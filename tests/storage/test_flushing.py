"""The statistics of thousands of series are written in pieces: killed, overtaken and undone between
two of them they are what the points say."""

import asyncio
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from stepwell_storage import writer
from stepwell_storage.backups import back_up
from stepwell_storage.check import verify
from stepwell_storage.records import Batch
from stepwell_storage.store import Store
from stepwell_storage.tenant import Tenant
from stepwell_storage.writer import Change
from tests.storage.conftest import RUN, Opening, batch, new_run

SERIES = 1_000
KEYS = [f"{number:04d}" for number in range(SERIES)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few rows as a piece ever has."""
    monkeypatch.setattr(writer, "PIECE_S", 0.0)


def step(number: int) -> Batch:
    """A point of each series, ``number`` times 1,000 and its own number."""
    columns = (
        np.full(SERIES, number, "<i8").tobytes(),
        np.full(SERIES, 50 * number, "<i8").tobytes(),
        (1_000.0 * number + np.arange(SERIES)).tobytes(),
    )
    return Batch(KEYS, [1] * SERIES, *columns)


async def write_a_piece(tenant: Tenant) -> None:
    await tenant.writer.window.sum_up()
    await tenant.committer.submit(Change(tenant.writer.flush))


async def check(tenant: Tenant, steps: list[int], *, exact: bool = True) -> None:
    """That the statistics tell of these steps, logged in this order."""
    found = (await tenant.series(RUN)).series
    assert [stats.key for stats in found] == KEYS
    for number, stats in enumerate(found):
        assert stats.count == len(steps if not stats.exact else set(steps))
        assert (stats.last_step, stats.last) == (max(steps), 1_000.0 * max(steps) + number)
        assert (stats.min_step, stats.max_step) == (min(steps), max(steps))
        assert stats.exact == exact


@pytest.fixture
async def half_written(tenant: Tenant, data: Path) -> Tenant:
    """Steps 0 and 1 are counted, 2 and 3 of a part of the series, 4 of none."""
    await tenant.create_run(new_run())
    for number in range(2):
        await tenant.log(RUN, step(number))
    await tenant.settle()
    for number in range(2, 4):
        await tenant.log(RUN, step(number))
    await write_a_piece(tenant)
    await tenant.log(RUN, step(4))
    with sqlite3.connect(data / "tenants/default/tenant.db") as connection:
        meta = dict(connection.execute("select name, value from meta where name like 'count%'"))
        counts = dict(connection.execute("select count, count(*) from series group by count"))
    connection.close()
    assert (meta["counted"], meta["counting"]) == (2, 4)
    assert counts == {4: 256, 2: SERIES - 256}
    return tenant


async def test_a_read_sees_all_that_was_acknowledged(half_written: Tenant):
    await check(half_written, [0, 1, 2, 3, 4])
    assert not half_written.writer.window


async def test_what_a_kill_left_half_written_is_finished_at_the_next_start(
    half_written: Tenant, data: Path, tmp_path: Path, opening: Opening
):
    left = tmp_path / "left"
    back_up(data, ["default"], left)
    assert (await verify(left)).problems == []
    store = await opening(left)
    async with store.lease("default", create=False) as tenant:
        await check(tenant, [0, 1, 2, 3, 4])
        await tenant.log(RUN, step(5))
        await check(tenant, [0, 1, 2, 3, 4, 5])
    await store.close()
    assert (await verify(left)).problems == []


async def test_verify_reads_half_written_sums_of_a_running_server(half_written: Tenant, data: Path):
    assert (await verify(data)).problems == []


async def test_half_written_sums_outlive_a_transaction_that_fails(half_written: Tenant):
    async def fail(_: object) -> None:
        raise RuntimeError("in mid-transaction")

    flushing = half_written.committer.submit(Change(half_written.writer.flush))
    failing = half_written.committer.submit(Change(fail))
    with pytest.raises(RuntimeError):
        await failing
    await flushing
    await check(half_written, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("late", [0, 3])
async def test_a_repetition_between_two_pieces_is_found(
    half_written: Tenant, store: Store, data: Path, late: int
):
    await half_written.log(RUN, step(late))
    await check(half_written, [0, 1, 2, 3, 4, late], exact=False)
    await store.compact("default")
    await check(half_written, [0, 1, 2, 3, 4])
    assert (await verify(data)).problems == []


async def test_compaction_and_purge_find_everything_counted(
    half_written: Tenant, store: Store, data: Path
):
    await store.compact("default")
    await check(half_written, [0, 1, 2, 3, 4])
    for number in range(5, 7):
        await half_written.log(RUN, step(number))
    await write_a_piece(half_written)
    await half_written.purges.run(RUN)
    while await half_written.purges.dispose():
        pass
    with sqlite3.connect(data / "tenants/default/tenant.db") as connection:
        assert connection.execute("select count(*) from series").fetchone() == (0,)
    connection.close()
    assert (await verify(data)).problems == []


async def test_others_are_acknowledged_between_two_pieces(tenant: Tenant):
    other = f"{2:032x}"
    await tenant.create_run(new_run())
    await tenant.create_run(new_run(other))
    await tenant.log(RUN, step(0))
    settling = asyncio.create_task(tenant.settle())
    while tenant.writer.window.sums is None:
        await asyncio.sleep(0)
    await tenant.log(other, batch("loss", [1]))
    assert not settling.done()
    await settling
    assert tenant.writer.window.counted == 1
    (stats,) = (await tenant.series(other)).series
    assert stats.count == 1
