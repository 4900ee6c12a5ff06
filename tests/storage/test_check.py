"""verify finds every kind of damage, names its place, and finds nothing where nothing is wrong."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stepwell_storage.check import verify
from stepwell_storage.store import Options, Store
from tests.storage.conftest import RUN, batch, new_run


@pytest.fixture
async def file(data: Path) -> Path:
    """A tenant's closed file: 20,000 points sealed and 100 still in the journal, of two series."""
    store = await Store.open(data, Options(compact=False))
    async with store.lease("acme", create=True) as tenant:
        await tenant.create_run(new_run(params={"lr": "0.1"}, tags={"team": "a"}))
        await tenant.log(RUN, batch("loss", range(20_000)))
        await tenant.log(RUN, batch("acc", range(100)))
    await store.compact("acme")
    async with store.lease("acme", create=False) as tenant:
        await tenant.log(RUN, batch("loss", range(20_000, 20_100)))
    await store.close()
    return data / "tenants" / "acme" / "tenant.db"


def change(file: Path, statement: str, *binds: object) -> None:
    with sqlite3.connect(file) as connection:
        assert connection.execute(statement, binds).rowcount > 0
    connection.close()


def flip(file: Path, table: str, column: str, offset: int) -> None:
    """One bit of the first row's blob."""
    with sqlite3.connect(file) as connection:
        query = f"select id, {column} from {table} order by id limit 1"  # noqa: S608 - constants
        number, blob = connection.execute(query).fetchone()
        damaged = bytearray(blob)
        damaged[offset] ^= 4
        update = f"update {table} set {column} = ? where id = ?"  # noqa: S608 - constants
        connection.execute(update, (bytes(damaged), number))
    connection.close()


async def test_a_whole_directory_has_no_problems(file: Path, data: Path):
    found = await verify(data)
    assert found.problems == []
    assert (found.tenants, found.runs, found.series, found.points) == (1, 1, 2, 20_200)


async def test_it_works_beside_a_running_server(file: Path, data: Path):
    store = await Store.open(data, Options(compact=False))
    try:
        async with store.lease("acme", create=False) as tenant:
            await tenant.log(RUN, batch("acc", [500]))
            found = await verify(data)
    finally:
        await store.close()
    assert found.problems == []


@pytest.mark.parametrize(
    ("table", "column"), [("chunk", "data"), ("chunk", "summary"), ("journal", "payload")]
)
@pytest.mark.parametrize("offset", [0, 9, -1])
async def test_a_flipped_bit_is_found_with_its_place(file, data, table, column, offset):
    flip(file, table, column, offset)
    found = await verify(data)
    assert found.problems
    assert any(f"run {RUN}" in problem for problem in found.problems)
    assert all(problem.startswith("tenant acme") for problem in found.problems)


@pytest.mark.parametrize(
    "column",
    ["count", "first_step", "first", "last_step", "last_timestamp", "last", "low", "low_step",
     "high", "high_step"],
)  # fmt: skip
async def test_statistics_that_disagree_with_the_points_are_found(file, data, column):
    change(file, f"update series set {column} = {column} + 1")  # noqa: S608 - constants
    found = await verify(data)
    assert len(found.problems) == 2
    assert {"loss", "acc"} == {p.split("series ")[1].split(":")[0] for p in found.problems}


async def test_a_lost_chunk_is_found(file: Path, data: Path):
    change(file, "delete from chunk where id = (select min(id) from chunk)")
    assert any("count" in problem for problem in (await verify(data)).problems)


async def test_a_chunk_that_an_index_lists_and_its_table_lacks_is_found(file: Path, data: Path):
    """The index is taken away while the chunk is deleted, and put back."""
    index = "from sqlite_master where name = 'chunk_by_series'"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("pragma writable_schema = on")
        row = connection.execute(f"select * {index}").fetchone()
        connection.execute(f"delete {index}")
    change(file, "delete from chunk where id = (select min(id) from chunk)")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("pragma writable_schema = on")
        connection.execute("insert into sqlite_master values (?, ?, ?, ?, ?)", row)
    problems = (await verify(data)).problems
    assert any(f"run {RUN}, series loss, chunk 1: it is listed" in one for one in problems)


async def test_definitions_that_are_no_text_are_found(file: Path, data: Path):
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("pragma writable_schema = on")
        change = "update sqlite_master set sql = cast(sql || ' ' as blob) where name = 'tag_by_run'"
        connection.execute(change)
    assert (await verify(data)).problems


async def test_a_lost_series_row_is_found(file: Path, data: Path):
    change(file, "delete from series where count = 100")
    (problem,) = (await verify(data)).problems
    assert "it has points and no statistics" in problem


@pytest.mark.parametrize("table", ["series", "param", "tag", "chunk", "journal"])
async def test_rows_of_no_run_are_found(file: Path, data: Path, table: str):
    change(file, f"update {table} set run = 77")  # noqa: S608 - constants
    assert any(
        f"rows of {table} belong to run row 77" in problem
        for problem in (await verify(data)).problems
    )


async def test_a_statistics_row_of_no_point_is_found(file: Path, data: Path):
    change(file, "delete from chunk")
    change(file, "delete from journal")
    problems = (await verify(data)).problems
    assert len([p for p in problems if "it has statistics and no points" in p]) == 2


async def test_a_torn_file_is_found_and_the_others_are_still_checked(file: Path, data: Path):
    other = data / "tenants" / "b"
    other.mkdir()
    (other / "tenant.db").write_bytes(file.read_bytes()[: 8192 * 3 + 100])
    found = await verify(data)
    assert found.tenants == 2
    assert found.points == 20_200
    assert found.problems
    assert all(problem.startswith("tenant b") for problem in found.problems)


async def test_a_missing_file_is_found(file: Path, data: Path):
    file.unlink()
    (problem,) = (await verify(data)).problems
    assert "tenant acme" in problem
    assert "missing" in problem


async def test_a_folder_that_is_no_data_directory_is_said_to_be_none(tmp_path: Path):
    (problem,) = (await verify(tmp_path)).problems
    assert "no data directory" in problem
