"""Numbers instead of texts: keys of metrics, parameters and tags, and the numbers of new rows.

Both belong to the committer's transaction.  What is learnt inside one is remembered only once it
is committed: the caller says so by ``commit`` or takes it back by ``rollback``.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

from stepwell_storage.database import Reader, Transaction, in_list
from stepwell_storage.statements import sql

BLOCK = 4_096
MAX_CACHED_NAMES = 400_000
_PAGE = 500
T = TypeVar("T")


class Counter:
    """Numbers of one kind, taken from the database in blocks (hi-lo): gaps, but no repeats."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = self._end = 1
        self._saved = (1, 1)

    async def take(self, tx: Transaction, count: int) -> range:
        """``count`` numbers that nobody else ever gets, ascending."""
        if self._next + count > self._end:
            await tx.executemany(sql.make_counter, [(self._name, 1)])
            size = max(BLOCK, count)
            rows = await tx.fetch(sql.next_block, (size, self._name))
            self._end = rows[0][0]
            self._next = self._end - size
        taken = range(self._next, self._next + count)
        self._next += count
        return taken

    def commit(self) -> None:
        self._saved = (self._next, self._end)

    def rollback(self) -> None:
        self._next, self._end = self._saved


class Names:
    """Key texts and their numbers."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self._fresh: list[str] = []
        self._counter = Counter("name")

    async def learn(self, tx: Transaction, texts: Iterable[str]) -> None:
        """Make ``known`` hold every one of ``texts``."""
        missing = list(dict.fromkeys(t for t in texts if t not in self.known))
        if not missing:
            return
        await self._load(tx, missing)
        new = [t for t in missing if t not in self.known]
        if new:
            rows = list(zip(await self._counter.take(tx, len(new)), new, strict=True))
            await tx.executemany(sql.insert_name, rows)
            self.known.update((text, number) for number, text in rows)
            self._fresh += new

    async def _load(self, reader: Reader, texts: Sequence[str]) -> None:
        for page in pages(texts):
            self.known.update(await reader.fetch(in_list(sql.names_by_text, len(page)), page))

    async def find(self, reader: Reader, text: str) -> int | None:
        """The number of a key, if it has one."""
        if text not in self.known:
            rows = await reader.fetch(in_list(sql.names_by_text, 1), (text,))
            return rows[0][1] if rows else None
        return self.known[text]

    def commit(self) -> None:
        self._fresh.clear()
        self._counter.commit()
        if len(self.known) > MAX_CACHED_NAMES:
            self.known.clear()

    def rollback(self) -> None:
        for text in self._fresh:
            self.known.pop(text, None)
        self._fresh.clear()
        self._counter.rollback()


def pages(items: Iterable[T], size: int = _PAGE) -> Iterable[list[T]]:
    """``items`` in lists that fit one statement's binds."""
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page
