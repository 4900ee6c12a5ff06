"""What fails at an awkward moment: after the commit, in the middle of an opening, beside others."""

import asyncio
import contextlib
import os
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import numpy as np
import pytest

from stepwell_storage import backlog
from stepwell_storage.check import verify
from stepwell_storage.errors import Full, NotFound, StorageError
from stepwell_storage.purges import MARKER
from stepwell_storage.store import Options, Store
from tests.storage.conftest import RUN, Opening, batch, new_run

OTHER = "2" * 32
QUIET = Options(compact=False)


def held(data: Path) -> list[str]:
    """The files below ``data`` that this process has open."""
    links = []
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(fd.readlink()))
    return [link for link in links if link.startswith(f"{data}/tenants")]


async def make(store: Store, name: str, points: int = 10) -> None:
    async with store.lease(name, create=True) as tenant:
        await tenant.create_run(new_run())
        await tenant.log(RUN, batch("loss", range(points)))


def alter(data: Path, name: str, statement: str) -> None:
    """Break a tenant's tables while nobody has them open."""
    path = data / "tenants" / name / "tenant.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


# --- openings -------------------------------------------------------------------------------------


async def test_who_goes_away_while_a_tenant_opens_leaves_it_to_the_others(store: Store, data: Path):
    """Else a second one would open beside the first: two writers of one file."""

    async def use() -> object:
        async with store.lease("a", create=True) as tenant:
            await asyncio.sleep(0.05)
            return tenant

    for pause in (0.0, 0.001, 0.003):
        gone = asyncio.create_task(use())
        await asyncio.sleep(0)
        others = [asyncio.create_task(use())]
        await asyncio.sleep(pause)
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone
        others.append(asyncio.create_task(use()))
        assert len(set(map(id, await asyncio.gather(*others)))) == 1
        (entry,) = store._tenants.values()
        assert entry.users == 0
        assert store.names() == ["a"]
        await store._shut("a")
        assert held(data) == []


async def test_a_file_that_could_be_opened_for_reading_alone_is_written_again(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
):
    """What SQLite does without a word where the disk refuses to open it for writing."""
    await make(store, "a")
    await store._shut("a")
    connect = aiosqlite.connect
    attempts = 0

    def refused(target: str, **options: Any) -> aiosqlite.Connection:
        nonlocal attempts
        attempts += 1
        return connect(f"{target.partition('?')[0]}?mode=ro", **options)

    with monkeypatch.context() as disk:
        disk.setattr(aiosqlite, "connect", refused)
        async with store.lease("a", create=True) as tenant:
            for _ in range(3):
                with pytest.raises(Full):
                    await tenant.log(RUN, batch("loss", range(10, 20)))
                assert len((await tenant.history(RUN, "loss")).points) == 10
        assert attempts > 3
    for _ in range(2):
        async with store.lease("a", create=True) as tenant:
            await tenant.log(RUN, batch("loss", range(10, 20)))
            assert len((await tenant.history(RUN, "loss")).points) == 20
    await store.close()
    assert (await verify(data)).problems == []


async def test_an_opening_that_fails_late_holds_nothing(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    await make(store, "a")
    await store.close()
    alter(data, "a", "alter table purging rename to lost")
    store = await opening(data, QUIET)
    for _ in range(3):
        with pytest.raises(StorageError, match="purging"):
            await make(store, "a")
    assert held(data) == []
    alter(data, "a", "alter table lost rename to purging")
    await make(store, "a", 20)


# --- after the commit -----------------------------------------------------------------------------


async def test_a_purge_whose_marker_cannot_be_made_is_a_purge(data: Path, opening: Opening):
    """A full disk may refuse the file.  What was committed is said to be, to its neighbours too."""
    store = await opening(data, QUIET)
    await make(store, "a")
    marker = data / "tenants" / "a" / MARKER
    marker.symlink_to(data / "nowhere" / "file")
    async with store.lease("a", create=False) as tenant:
        await tenant.create_run(new_run(OTHER))
        done = await asyncio.gather(
            tenant.purges.run(RUN), tenant.log(OTHER, batch("loss", range(500)))
        )
        assert done[0] is None
        with pytest.raises(NotFound):
            await tenant.log(RUN, batch("loss", [11]))
        assert tenant.purges.pending
    await store.dispose("a")
    await store.compact("a")
    async with store.lease("a", create=False) as tenant:
        (stats,) = (await tenant.series(OTHER)).series
        assert (stats.count, stats.exact) == (500, True)
        assert len(await tenant.points(OTHER, "loss")) == 500
    await store.close()
    marker.unlink(missing_ok=True)
    assert (await verify(data)).problems == []


@contextlib.contextmanager
def files_bounded(size: int) -> Iterator[None]:
    """No file of this process grows beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_pages_that_cannot_be_given_back_fail_nobody_elses_writes(store: Store, data: Path):
    """The log takes a commit, and the file it is to be written back into may not grow."""
    noise = batch("loss", range(40_000))
    noise.values = np.random.default_rng(1).random(40_000).tobytes()
    async with store.lease("a", create=True) as tenant:
        await tenant.create_run(new_run())
        await tenant.log(RUN, noise)
        await tenant.maintain()
        size = (data / "tenants" / "a" / "tenant.db").stat().st_size
        more = batch("acc", range(10_000))
        more.values = np.random.default_rng(2).random(10_000).tobytes()
        with files_bounded(size):
            logged, maintained = await asyncio.gather(
                tenant.log(RUN, more), tenant.maintain(), return_exceptions=True
            )
        assert isinstance(maintained, Full)
        assert not isinstance(logged, Exception), "it is committed"
        assert len(await tenant.points(RUN, "acc")) == 10_000
        await tenant.maintain()


# --- beside others --------------------------------------------------------------------------------


async def test_a_tenant_that_cannot_be_compacted_keeps_no_other_from_it(
    data: Path, opening: Opening, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backlog, "QUIET_S", 0.0)
    store = await opening(data, QUIET)
    await make(store, "broken", 2_000_000 // 8)
    await make(store, "whole")
    await store.close()
    alter(data, "broken", "alter table chunk rename to lost")
    store = await opening(data)
    async with (
        store.lease("broken", create=False) as broken,
        store.lease("whole", create=False) as whole,
    ):
        async with asyncio.timeout(30):
            while whole.writer.backlog.points:
                await asyncio.sleep(0.05)
        assert broken.writer.backlog.points == 2_000_000 // 8


async def test_a_tenant_that_cannot_be_purged_keeps_no_other_from_it(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    for name in ("a", "b", "c"):
        await make(store, name)
        async with store.lease(name, create=False) as tenant:
            await tenant.purges.run(RUN)
    await store.close()
    alter(data, "a", "alter table chunk rename to lost")
    alter(data, "c", "alter table purging rename to lost")  # it cannot be opened
    store = await opening(data)
    async with asyncio.timeout(30):
        while (data / "tenants" / "b" / MARKER).exists():
            await asyncio.sleep(0.05)
    assert (data / "tenants" / "a" / MARKER).exists()
    assert os.path.lexists(data / "tenants" / "c" / MARKER)
