"""Older files become what new ones are, step by step, and a step that was interrupted never was."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from stepwell_storage import migrations
from stepwell_storage.errors import StorageError, Unsupported
from stepwell_storage.sqlite import Sqlite

GOLDEN = Path(__file__).parents[1] / "golden"
NEXT, LATER = migrations.VERSION + 1, migrations.VERSION + 2
FIRST, SECOND = f"migrations/{NEXT}.sql", f"migrations/{LATER}.sql"
STEPS = {
    FIRST: "create table second (id {pk}, payload {bytes} not null);",
    SECOND: "create table third (id {pk});\ninsert into third values (7);",
}


@pytest.fixture
def later(monkeypatch) -> dict[str, str]:
    """The version after next: a step may be changed in the answer."""
    steps, read = dict(STEPS), migrations.read
    monkeypatch.setattr(migrations, "VERSION", LATER)
    monkeypatch.setattr(migrations, "read", lambda name: steps.get(name) or read(name))
    return steps


def old_file(folder: Path) -> Path:
    return Path(shutil.copy(GOLDEN / "v1_tenant.db", folder / "tenant.db"))


async def open_once(path: Path) -> None:
    await (await Sqlite.open(path)).close()


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def version(path: Path) -> object:
    return query(path, "pragma user_version")[0][0]


def shape(path: Path) -> dict[str, object]:
    """Tables with their columns and indexes, however they were made."""
    names = query(path, "select name from sqlite_master where type = 'table'")
    return {
        f"{name}": (
            query(path, f"pragma table_xinfo({name})"),
            {row[1:] for row in query(path, f"pragma index_list({name})")},
        )
        for (name,) in names
    }


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("v*_tenant.db")), ids=lambda path: path.name)
async def test_an_old_file_gets_the_tables_of_a_new_one(tmp_path: Path, golden: Path):
    new, old = tmp_path / "new.db", tmp_path / "old.db"
    shutil.copy(golden, old)
    await open_once(new)
    await open_once(old)
    assert version(old) == version(new) == migrations.VERSION
    assert shape(old) == shape(new)


async def test_every_step_is_made_in_order_and_once(tmp_path: Path, later):
    path = old_file(tmp_path)
    for _ in range(2):
        await open_once(path)
        assert version(path) == LATER
        assert query(path, "select id from third") == [(7,)]
        assert query(path, "select count(*) from second") == [(0,)]


async def test_a_step_that_failed_in_its_middle_never_was(tmp_path: Path, later):
    path = old_file(tmp_path)
    later[SECOND] += "\ninsert into nothing values (1);"
    with pytest.raises(StorageError):
        await open_once(path)
    assert version(path) == NEXT, "the step before it stays"
    assert "third" not in shape(path)
    later[SECOND] = STEPS[SECOND]
    await open_once(path)
    assert version(path) == LATER
    assert query(path, "select id from third") == [(7,)]


async def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path):
    path = old_file(tmp_path)
    query(path, f"pragma user_version = {migrations.VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(Unsupported, match="newer Stepwell"):
        await open_once(path)
    assert path.read_bytes() == before


async def test_an_empty_file_that_a_crash_left_becomes_what_a_new_one_is(tmp_path: Path):
    path = tmp_path / "tenant.db"
    path.touch()
    await open_once(path)
    assert query(path, "pragma page_size") == [(8192,)]
    assert query(path, "pragma auto_vacuum") == [(2,)], "it would never give a page back"
