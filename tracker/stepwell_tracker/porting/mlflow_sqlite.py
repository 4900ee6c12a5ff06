"""MLflow's database as an SQLite file, read in one snapshot; never written to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stepwell_tracker.porting.mlflow_sql import Row
from stepwell_tracker.porting.source import SourceError

_FETCH_ROWS: Final = 20_000
_WAIT_S: Final = 20.0


class SqliteDatabase:
    """Raises SourceError where the file is missing, no database, or damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise SourceError(f"there is no file {path}")
        with self._reading():
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=_WAIT_S,
                isolation_level=None,
                check_same_thread=False,  # one thread at a time
            )
            # What is no UTF-8 is let through here and refused run by run, with its place.
            self._connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
            self._connection.execute("begin")

    def rows(self, statement: str, binds: Sequence[object] = ()) -> Iterator[Row]:
        with self._reading():
            cursor = self._connection.execute(statement, binds)
            while rows := cursor.fetchmany(_FETCH_ROWS):
                yield from rows

    def tables(self) -> dict[str, set[str]]:
        statement = (
            "select m.name, c.name from sqlite_master m, pragma_table_info(m.name) c"
            " where m.type = 'table'"
        )
        found: dict[str, set[str]] = {}
        for table, column in self.rows(statement):
            found.setdefault(table, set()).add(column)
        return found

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SourceError(f"{self._path} cannot be read: {error}") from error
