"""The seam on real files: settings that hold, snapshots that end, transactions that roll back."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stepwell_storage.errors import Busy, Closed, Corrupt, Full, StorageError
from stepwell_storage.migrations import VERSION
from stepwell_storage.sqlite import Sqlite, read_only, translate
from stepwell_storage.statements import parse, sql

SLOW = """with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000000)
          select count(*) from n"""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Sqlite]:
    database = await Sqlite.open(tmp_path / "t.db")
    yield database
    await database.close()


async def put(database: Sqlite, name: str, value: int) -> None:
    async with database.transaction() as tx:
        await tx.execute(sql.set_meta, (name, value))


async def get(database: Sqlite, name: str) -> int | None:
    async with database.snapshot() as reader:
        rows = await reader.fetch(sql.meta, (name,))
    return rows[0][0] if rows else None


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("page_size", 8192), ("auto_vacuum", 2), ("journal_mode", "wal"), ("synchronous", 2),
     ("secure_delete", 0), ("user_version", VERSION)],
)  # fmt: skip
async def test_every_setting_holds(database: Sqlite, pragma: str, value: object):
    async with database.transaction() as tx:
        assert (await tx.fetch(f"pragma {pragma}"))[0][0] == value


async def test_like_is_case_sensitive_for_readers_too(database: Sqlite):
    async with database.snapshot() as reader:
        assert await reader.fetch("select 'ABC' like 'abc', 'a_c' like 'a\\_c' escape '\\'") == [
            (0, 1)
        ]


async def test_an_exception_rolls_back_and_the_next_transaction_works(database: Sqlite):
    async def fail() -> None:
        async with database.transaction() as tx:
            await tx.execute(sql.set_meta, ("x", 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await get(database, "x") is None
    await put(database, "x", 2)
    assert await get(database, "x") == 2


async def test_a_cancelled_transaction_leaves_none_open(database: Sqlite):
    async def forever() -> None:
        async with database.transaction() as tx:
            await tx.execute(sql.set_meta, ("x", 1))
            await asyncio.sleep(60)

    task = asyncio.create_task(forever())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await put(database, "y", 1)
    assert await get(database, "x") is None


async def test_a_snapshot_does_not_see_what_is_committed_later(database: Sqlite):
    await put(database, "x", 1)
    async with database.snapshot() as reader:
        assert (await reader.fetch(sql.meta, ("x",)))[0][0] == 1
        await put(database, "x", 2)
        assert (await reader.fetch(sql.meta, ("x",)))[0][0] == 1
    assert await get(database, "x") == 2


async def test_a_read_beyond_its_deadline_is_ended_and_frees_its_place(database: Sqlite):
    for _ in range(6):  # more often than there are readers
        with pytest.raises(Busy, match="longer than"):
            async with database.snapshot(timeout_s=0.05) as reader:
                await reader.fetch(SLOW)
    await put(database, "x", 1)
    assert await get(database, "x") == 1


async def test_a_cancelled_read_is_ended_and_frees_its_place(database: Sqlite):
    async def read() -> None:
        async with database.snapshot() as reader:
            await reader.fetch(SLOW)

    for _ in range(6):
        task = asyncio.create_task(read())
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await put(database, "x", 1)
    assert await get(database, "x") == 1


async def test_readers_cannot_write(database: Sqlite):
    with pytest.raises(StorageError):
        async with database.snapshot() as reader:
            await reader.fetch("insert into meta values ('x', 1) returning 1")
    assert await get(database, "x") is None


async def test_a_second_process_reads_beside_the_writer(database: Sqlite, tmp_path: Path):
    await put(database, "x", 1)
    async with read_only(tmp_path / "t.db") as reader:
        assert (await reader.fetch(sql.meta, ("x",)))[0][0] == 1


async def test_after_close_every_call_says_so(tmp_path: Path):
    database = await Sqlite.open(tmp_path / "t.db")
    await database.close()
    await database.close()
    with pytest.raises(Closed):
        async with database.snapshot():
            pass
    with pytest.raises(Closed):
        await put(database, "x", 1)
    assert not (tmp_path / "t.db-wal").exists()


async def test_freed_pages_go_back_to_the_file_system(database: Sqlite, tmp_path: Path):
    async with database.transaction() as tx:
        for number in range(200):
            row = (number, 1, 1, bytes(100_000))
            await tx.execute(sql.append_journal, row)
    async with database.transaction() as tx:
        await tx.execute("delete from journal")
    while await database.maintain():
        pass
    assert (tmp_path / "t.db").stat().st_size < 1_000_000
    assert (tmp_path / "t.db-wal").stat().st_size == 0


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (sqlite3.SQLITE_FULL, Full),
        (sqlite3.SQLITE_IOERR_FSYNC, Full),
        (sqlite3.SQLITE_READONLY, Full),
        (sqlite3.SQLITE_CORRUPT, Corrupt),
        (sqlite3.SQLITE_NOTADB, Corrupt),
        (sqlite3.SQLITE_BUSY, Busy),
    ],
)
def test_each_error_of_the_driver_says_what_to_do(code: int, meaning: type[StorageError]):
    error = sqlite3.OperationalError("as the driver says")
    error.sqlite_errorcode = code
    assert type(translate(error, "t.db")) is meaning


async def test_a_foreign_file_is_corrupt_not_a_crash(tmp_path: Path):
    (tmp_path / "t.db").write_bytes(b"x" * 20_000)
    with pytest.raises(Corrupt):
        await Sqlite.open(tmp_path / "t.db")


def test_statements_with_one_name_twice_are_refused():
    assert parse("-- a: x\nselect 1;\n-- b: y\nselect\n2;") == {"a": "select 1", "b": "select\n2"}
    with pytest.raises(ValueError, match="twice"):
        parse("-- a: x\nselect 1;\n-- a: y\nselect 2;")


def test_an_unknown_statement_is_said_to_be_none():
    with pytest.raises(AttributeError, match="no_such"):
        _ = sql.no_such
