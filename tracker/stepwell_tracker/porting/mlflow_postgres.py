"""MLflow's database in PostgreSQL, read in one snapshot that cannot write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

from stepwell_tracker.porting.mlflow_sql import Row
from stepwell_tracker.porting.source import SourceError

_FETCH_ROWS: Final = 20_000
_CONNECT_S: Final = 20
_DRIVER: Final = re.compile(r"^postgres(ql)?(\+\w+)?://")
_SECRET: Final = re.compile(r"(?<=:)[^:@/]*(?=@)")


def shown(url: str) -> str:
    """The address without its password."""
    return _SECRET.sub("***", url)


class PostgresDatabase:
    """Raises SourceError where psycopg is not installed or the database does not answer."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise SourceError(
                "reading PostgreSQL needs psycopg: pip install 'stepwell[postgres]'"
            ) from None
        self._error = psycopg.Error
        self._numbers = count()
        self._name = shown(url)
        with self._reading():
            self._connection: psycopg.Connection[Any] = psycopg.connect(
                _DRIVER.sub("postgresql://", url), connect_timeout=_CONNECT_S
            )
            self._connection.read_only = True
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

    def rows(self, statement: str, binds: Sequence[object] = ()) -> Iterator[Row]:
        """By a cursor of the server's, so that no result is held whole."""
        marked = statement.replace("%", "%%").replace("?", "%s")
        name = f"stepwell_{next(self._numbers)}"  # one may be read while another is
        with self._reading(), self._connection.cursor(name=name) as cursor:
            cursor.itersize = _FETCH_ROWS
            cursor.execute(marked, binds)
            yield from cursor

    def tables(self) -> dict[str, set[str]]:
        statement = (
            "select table_name, column_name from information_schema.columns"
            " where table_schema = any (current_schemas(false))"
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
        except self._error as error:
            raise SourceError(f"{self._name} cannot be read: {str(error).strip()}") from error
