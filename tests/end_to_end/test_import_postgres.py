"""MLflow's database in a real PostgreSQL: the same import as from SQLite."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from stepwell.__main__ import main
from tests.end_to_end.mlflow_python import mlflow_python
from tests.end_to_end.postgresql import postgresql
from tests.end_to_end.test_mlflow_porting import differing, plain, run
from tests.serving import serving
from tests.tracker.mlflow_stores import database

TYPES = {"FLOAT": "double precision", "INTEGER": "bigint", "BLOB": "bytea", "DATETIME": "timestamp"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with postgresql() as url:
        yield url


def fill(url: str, source: Path) -> None:
    """The tables of an SQLite file with the types that MLflow gives them, and their rows."""
    with contextlib.closing(sqlite3.connect(source)) as old, psycopg.connect(url) as new:
        for (table,) in old.execute("select name from sqlite_master where type = 'table'"):
            told = old.execute("select name, type from pragma_table_info(?)", (table,)).fetchall()
            rows = old.execute(f"select * from {table}").fetchall()  # noqa: S608
            copy(new, table, told, rows)


def copy(
    new: psycopg.Connection[Any], table: str, told: Sequence[tuple[str, str]], rows: Sequence[Any]
) -> None:
    where = sql.Identifier(table)
    columns = [
        sql.SQL("{} ").format(sql.Identifier(name)) + sql.SQL(TYPES.get(kind, kind))
        for name, kind in told
    ]
    new.execute(sql.SQL("create table {} ({})").format(where, sql.SQL(", ").join(columns)))
    booleans = [number for number, (_, kind) in enumerate(told) if kind == "BOOLEAN"]
    marks = sql.SQL(", ").join([sql.Placeholder()] * len(told))
    with new.cursor() as cursor:
        for row in map(list, rows):
            for number in booleans:
                row[number] = None if row[number] is None else bool(row[number])
            cursor.execute(sql.SQL("insert into {} values ({})").format(where, marks), row)


def report(source: str, data: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of what is equal."""
    assert main(["import", "mlflow", "--source", source, "--data", str(data)]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if line.endswith("yes")]


def test_a_database_in_postgresql_arrives_as_from_sqlite(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = database(tmp_path / "mlflow.db", count=5)
    fill(address, source)
    lines = report(str(source), tmp_path / "one", capsys)
    assert len(lines) == 9
    assert report(address, tmp_path / "two", capsys) == lines
    assert report(address.replace("://", "+psycopg2://"), tmp_path / "two", capsys) == lines
    with psycopg.connect(address) as db:
        db.execute("update alembic_version set version_num = 'ffff'")
    with pytest.raises(SystemExit, match="2"):
        main(["import", "mlflow", "--source", address, "--data", str(tmp_path / "three")])
    assert "--any-version" in capsys.readouterr().err


@pytest.mark.timeout(900)
def test_what_mlflow_keeps_in_postgresql_is_equal_run_by_run(tmp_path: Path):
    """MLflow's client on the database itself, and on us after the import; twice, with files."""
    python, data = mlflow_python(), tmp_path / "data"
    with postgresql() as address:
        run(python, "mlflow_script.py", address, tmp_path)
        reference = run(python, "mlflow_picture.py", address, tmp_path)
        arguments = ["--source", address, "--artifacts", "--data", str(data)]
        for _ in range(2):
            assert main(["import", "mlflow", *arguments]) == 0
    with serving(data) as served:
        picture = run(python, "mlflow_picture.py", served.url, tmp_path)
    assert len(picture["runs"]) == 3
    assert picture["runs"].keys() == reference["runs"].keys()
    assert [one["files"] for one in picture["runs"].values() if one["files"]]
    assert differing(plain(reference), plain(picture)) == {}


@pytest.mark.parametrize("where", ["127.0.0.1:9/x", "127.0.0.1:{port}/nobody"])
def test_a_database_that_is_not_there_is_said_so_without_the_password(
    address: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    port = address.rpartition(":")[2].partition("/")[0]
    url = f"postgresql://me:secret@{where.format(port=port)}"
    with pytest.raises(SystemExit, match="2"):
        main(["import", "mlflow", "--source", url, "--data", str(tmp_path / "data")])
    said = capsys.readouterr().err
    assert "cannot be read" in said
    assert "secret" not in said


def test_a_missing_driver_is_advised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SystemExit, match="2"):
        main(["import", "mlflow", "--source", "postgresql://h/db", "--data", str(tmp_path)])
    assert "pip install 'stepwell[postgres]'" in capsys.readouterr().err
