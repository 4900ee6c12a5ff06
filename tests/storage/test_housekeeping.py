"""What a store does by itself: nothing waits for ever, freed pages go back to the file system."""

import asyncio
from pathlib import Path

import pytest

from stepwell_storage import backlog, housekeeping
from stepwell_storage.backlog import Backlog
from stepwell_storage.store import Store
from tests.storage.conftest import RUN, batch, new_run


async def test_a_quiet_run_becomes_chunks_and_its_file_shrinks(
    data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backlog, "QUIET_S", 0.2)
    monkeypatch.setattr(housekeeping, "IDLE_S", 0.2)
    store = await Store.open(data)
    file = data / "tenants" / "default" / "tenant.db"
    async with store.lease("default", create=True) as tenant:
        await tenant.create_run(new_run())
        await tenant.maintain()
        empty = file.stat().st_size  # a page for each table and index
        for start in range(0, 120_000, 1_000):  # below what a unit is worth by its size
            await tenant.log(RUN, batch("loss", range(start, start + 1_000)))
        async with asyncio.timeout(30):
            while tenant.writer.backlog.points or not tenant.tidy:
                await asyncio.sleep(0.05)
        assert file.stat().st_size - empty < 120_000 * 4
        assert file.with_name("tenant.db-wal").stat().st_size == 0
        assert len(await tenant.points(RUN, "loss")) == 120_000
    await store.close()


def test_the_most_urgent_run_comes_first():
    waiting = Backlog()
    for run, points in ((1, 200_000), (2, 900_000), (3, 10)):
        waiting.add(run, rows=1, points=points, size=12 * points, keys=[1])
    urgent = waiting.most_urgent()
    assert urgent is not None
    assert urgent[1] == 2
    waiting.remove(2, rows=1, points=900_000, size=12 * 900_000)
    urgent = waiting.most_urgent()
    assert urgent is not None
    assert urgent[1] == 1


def test_a_wide_run_waits_until_its_chunks_are_no_crumbs():
    waiting = Backlog()
    waiting.add(1, rows=1, points=200_000, size=1_000_000, keys=range(50_000))
    assert waiting.most_urgent() is None
    assert waiting.most_urgent(everything=True) is not None


def test_a_full_journal_slows_appends_down_and_an_empty_one_does_not():
    waiting = Backlog(max_bytes=1_000_000)
    assert waiting.pause_s() == 0
    waiting.add(1, rows=1, points=1, size=700_000, keys=[1])
    assert waiting.pause_s() == 0
    waiting.add(1, rows=1, points=1, size=200_000, keys=[1])
    first = waiting.pause_s()
    waiting.add(1, rows=1, points=1, size=200_000, keys=[1])
    assert 0 < first < waiting.pause_s() <= backlog.MAX_PAUSE_S


def test_a_run_that_cannot_be_compacted_is_left_until_more_comes():
    waiting = Backlog()
    waiting.add(1, rows=1, points=500_000, size=1, keys=[1])
    waiting.give_up(1)
    assert waiting.most_urgent(everything=True) is None
    waiting.add(1, rows=1, points=1, size=1, keys=[1])
    assert waiting.most_urgent() is not None
