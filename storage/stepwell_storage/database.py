"""The database seam: what the engine asks of SQLite, and of PostgreSQL after it.

Statements are in the common subset, with ``?`` as the parameter marker.  An implementation
translates its driver's errors into :mod:`stepwell_storage.errors`.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

Bind = int | float | str | bytes | None
Row = tuple[Bind, ...]


class Reader(Protocol):
    """Reads in one snapshot: what others commit meanwhile is not seen."""

    async def fetch(self, sql: str, binds: Sequence[Bind] = ()) -> list[tuple]:  # type: ignore[type-arg]  # columns are typed where they are unpacked
        ...


class Transaction(Reader, Protocol):
    """Writes, all or nothing, in the order of the calls."""

    async def execute(self, sql: str, binds: Sequence[Bind] = ()) -> int:
        """Write now; the number of rows changed."""

    async def executemany(self, sql: str, rows: Sequence[Sequence[Bind]]) -> None:
        """Write once for each of ``rows``, no later than the next fetch, execute or the commit,
        which then raise what goes wrong.  ``rows`` must not change afterwards."""


class Database(Protocol):
    """One tenant's database.

    ``transaction`` belongs to one task, the tenant's committer; leaving its block commits and
    syncs, an exception rolls back.  ``snapshot`` may be used by any number of tasks; a read that
    lasts longer than ``timeout_s`` seconds raises Busy.
    """

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...
    def snapshot(self, timeout_s: float = 30.0) -> AbstractAsyncContextManager[Reader]: ...
    def has_room(self) -> bool:
        """Whether more may be logged; what is left then is for deletes and compaction."""

    async def maintain(self, *, gently: bool = False) -> bool:
        """Give some freed pages back to the file system; whether there are more.

        Belongs to the committer, like ``transaction``, and is called when little is written;
        ``gently`` does less at a time, and waits for no reader.
        """

    async def rest(self) -> None:
        """Let go of what only reads need; the next one takes it again."""

    async def close(self) -> None: ...


def in_list(sql: str, *counts: int) -> str:
    """``sql`` with each ``(?*)`` expanded to its count of markers (at least one)."""
    for count in counts:
        sql = sql.replace("(?*)", "(" + ",".join("?" * max(count, 1)) + ")", 1)
    return sql
