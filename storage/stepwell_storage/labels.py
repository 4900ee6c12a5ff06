"""Parameters and tags of new runs, which come to their places some time after their commit.

In ``param`` and ``tag``, and in their indexes, each key is a place of its own: with eight runs a
commit, 36 of the 45 pages that had to be written and synced.  So a commit puts them side by side
into ``fresh_param`` and ``fresh_tag``, and :meth:`Labels.file` moves them, many at once: before
whatever else reads or writes parameters or tags, and with the statistics.
"""

from collections.abc import Iterable

from stepwell_storage.database import Transaction
from stepwell_storage.journal import parameter_number
from stepwell_storage.names import Names
from stepwell_storage.records import NewRun
from stepwell_storage.statements import sql

_FILE = (sql.file_params, sql.clear_fresh_params, sql.file_tags, sql.clear_fresh_tags)


class Labels:
    """Of one tenant; its calls belong to the committer's transaction."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.unfiled = 0
        """How many there may be to file."""

    async def look(self, tx: Transaction) -> None:
        """Find out what an earlier process left to be filed."""
        self.unfiled = (await tx.fetch(sql.count_fresh))[0][0]

    async def add(self, tx: Transaction, runs: Iterable[tuple[int, NewRun]]) -> None:
        """Those of new runs, by the runs' numbers; their names have numbers already."""
        numbers = self._names.known
        params: list[tuple[int, int, str, int | None]] = []
        tags: list[tuple[int, int, str]] = []
        for run, new in runs:
            params += [
                (run, numbers[key], value, parameter_number(value))
                for key, value in new.params.items()
            ]
            tags += [(run, numbers[key], value) for key, value in new.tags.items()]
        if params:
            await tx.executemany(sql.add_fresh_param, params)
        if tags:
            await tx.executemany(sql.add_fresh_tag, tags)
        self.unfiled += len(params) + len(tags)

    async def file(self, tx: Transaction) -> None:
        """Bring what is there to its place."""
        if self.unfiled:
            for statement in _FILE:
                await tx.executemany(statement, [()])
            self.unfiled = 0

    def rollback(self) -> None:
        """The transaction failed: what it had filed is not."""
        self.unfiled = max(self.unfiled, 1)
