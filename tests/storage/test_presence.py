"""What stands in the place of a tenant's files, and files that go away under a server."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from stepwell_storage.check import verify
from stepwell_storage.errors import Corrupt, Unreadable, Unsupported
from stepwell_storage.store import Options, Store
from tests.storage.conftest import RUN, batch, new_run

OPTIONS = Options(compact=False)
Attack = Callable[[Path], object]


@pytest.fixture
async def whole(data: Path) -> Path:
    """Two tenants."""
    store = await Store.open(data, OPTIONS)
    for name in ("acme", "zeta"):
        await fill(store, name)
    await store.close()
    return data


@pytest.fixture
async def store(whole: Path) -> AsyncIterator[Store]:
    store = await Store.open(whole, OPTIONS)
    yield store
    await store.close()


async def fill(store: Store, name: str) -> None:
    async with store.lease(name, create=True) as tenant:
        await tenant.create_run(new_run(params={"lr": "0.1"}))
        await tenant.log(RUN, batch("loss", range(100)))


async def log(store: Store, name: str, step: int) -> None:
    async with store.lease(name, create=True) as tenant:
        await tenant.log(RUN, batch("loss", [step]))


def foreign(path: Path, version: int) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table foo (x)")
        connection.execute(f"pragma user_version = {version}")
        connection.commit()


def without(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"drop table {table}")


def instead(path: Path, make: Attack) -> None:
    """``make`` something where the file or folder stood."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    make(path)


def to_the_other(path: Path) -> None:
    path.symlink_to(path.parents[1] / "zeta" / path.name)


def to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "gone" / "x")


def to_itself(path: Path) -> None:
    path.symlink_to(path)


ATTACKS: dict[str, Attack] = {
    "a folder": lambda folder: instead(folder / "tenant.db", Path.mkdir),
    "a link to nothing": lambda folder: instead(folder / "tenant.db", to_nothing),
    "a link to itself": lambda folder: instead(folder / "tenant.db", to_itself),
    "a link to another tenant's": lambda folder: instead(folder / "tenant.db", to_the_other),
    "a FIFO": lambda folder: instead(folder / "tenant.db", os.mkfifo),
    "a log that is a FIFO": lambda folder: os.mkfifo(folder / "tenant.db-wal"),
    "a log that is a folder": lambda folder: (folder / "tenant.db-wal").mkdir(),
    "an index that is a folder": lambda folder: (folder / "tenant.db-shm").mkdir(),
    "a journal that is a FIFO": lambda folder: os.mkfifo(folder / "tenant.db-journal"),
    "a file for the folder": lambda folder: instead(folder, Path.touch),
    "a link for the folder": lambda folder: instead(folder, to_nothing),
    "another program's database": lambda folder: foreign(folder / "tenant.db", 0),
    "another program's of our version": lambda folder: foreign(folder / "tenant.db", 4),
    "a table less": lambda folder: without(folder / "tenant.db", "param"),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_what_is_no_file_of_ours_is_told_and_costs_the_others_nothing(whole: Path, name: str):
    ATTACKS[name](whole / "tenants" / "acme")
    async with asyncio.timeout(30):
        problems = (await verify(whole)).problems
        assert problems
        assert all(problem.startswith("tenant acme") for problem in problems)
        store = await Store.open(whole, OPTIONS)
        try:
            with pytest.raises(Corrupt):
                async with store.lease("acme", create=True) as tenant:
                    await tenant.run(RUN)
            await log(store, "zeta", 200)
            assert await store.note_of("acme", "description") is None
        finally:
            await store.close()


async def test_a_tenants_folder_may_be_a_link(whole: Path, tmp_path: Path):
    """To another disk, for instance."""
    (whole / "tenants" / "acme").rename(tmp_path / "elsewhere")
    (whole / "tenants" / "acme").symlink_to(tmp_path / "elsewhere")
    store = await Store.open(whole, OPTIONS)
    await log(store, "acme", 200)
    await store.close()
    assert (await verify(whole)).problems == []


async def test_nothing_is_acknowledged_into_a_folder_that_was_moved(store: Store):
    """Back in its place it goes on, without a restart."""
    await log(store, "acme", 200)
    folder = store.data / "tenants" / "acme"
    folder.rename(folder.with_name("moved"))
    with pytest.raises(Unreadable, match=r"tenant\.db was moved"):
        await log(store, "acme", 201)
    shutil.copytree(folder.with_name("moved"), folder)  # its copy is not the file that is open
    with pytest.raises(Unreadable, match="until it is back in its place"):
        await log(store, "acme", 201)
    async with store.lease("acme", create=False) as tenant:
        await tenant.rest()
        with pytest.raises(Unreadable):  # by a connection of its own it would read the copy
            await tenant.run(RUN)
    shutil.rmtree(folder)
    folder.with_name("moved").rename(folder)
    await log(store, "acme", 202)
    async with store.lease("acme", create=False) as tenant:
        points = await tenant.points(RUN, "loss")
    assert points.steps.tolist() == [*range(100), 200, 202]


async def test_a_removed_lock_lets_no_second_server_in(store: Store):
    (store.data / "lock").unlink()
    with pytest.raises(Unsupported, match="belongs to another server"):
        await Store.open(store.data, OPTIONS)
    await log(store, "acme", 200)


async def test_after_a_server_the_next_has_the_folder(store: Store):
    (store.data / "lock").unlink()
    await store.close()
    second = await Store.open(store.data, OPTIONS)
    await log(second, "acme", 200)
    await second.close()
