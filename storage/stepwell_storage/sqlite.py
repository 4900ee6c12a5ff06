"""The database seam on SQLite files, by aiosqlite.

What we rely on, and the rules that follow from it:

- Exactly one connection of one process writes and checkpoints a file: SQLite 3.7.0 to 3.51.2 can
  corrupt a WAL when two connections do so at the same moment (the WAL-reset bug), and Debian links
  3.40.  Readers open with ``mode=ro`` after the writer and close before it.
- An acknowledgement is durable: ``journal_mode=WAL`` with ``synchronous=FULL`` syncs the WAL in
  every COMMIT.
- An open snapshot keeps the WAL from being reset, so snapshots are short and have a deadline.
- A PRAGMA whose rows are not fetched silently disables those after it: each one is fetched.
- SQLite syncs the folder that a WAL is made in, but takes no notice when that fails, and none above
  it: with such a name the power takes every acknowledgement.  We sync them once the WAL is there.
- A file (or its WAL, or its index) that the disk does not let it open for writing SQLite opens for
  reading, without a word, and that connection never writes.  So it is opened anew when it says so.
"""

import asyncio
import contextlib
import errno
import logging
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite

from stepwell_storage import migrations
from stepwell_storage.database import Bind, Reader
from stepwell_storage.errors import Busy, Closed, Corrupt, Full, StorageError, Unreadable
from stepwell_storage.presence import Place, refuse_unfit

logger = logging.getLogger(__name__)

MAX_READERS = 4
SMALLEST = 512
"""Bytes: no page of SQLite's is smaller, hence no file that is one."""
_DIALECT = {
    "{bytes}": "blob",
    "{pk}": "integer primary key",
    "{clustered}": " without rowid",
}
# For a file without pages.  A crash may have left one: with SQLite's defaults it would never give a
# page back.  In a file with pages the second would be a write, at every opening.
_AT_CREATION = ("page_size=8192", "auto_vacuum=incremental")
_WRITER: tuple[str, ...] = (
    "journal_mode=wal",
    "synchronous=full",
    "secure_delete=off",
    "journal_size_limit=16777216",
    "wal_autocheckpoint=500",  # 4 MiB: the commit that writes it back is waited for
    "case_sensitive_like=on",
    "temp_store=memory",
    "cache_size=-8000",
)
_READER = ("case_sensitive_like=on", "temp_store=memory", "cache_size=-8000")
_VACUUM_STEP_PAGES = 1_000
_GENTLE_STEP_PAGES = 200
_KEPT_FREE_PAGES = 16
# Left of the disk for what makes room again: deletes, compaction, a checkpoint of the whole WAL.
_RESERVE_BYTES = 64 * 1024 * 1024
_RESERVE_SHARE = 4
_FULL = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}
_UNREADABLE = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}
_PROBED_BYTES = 1024 * 1024
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_VALUES = re.compile(r"(.*\bvalues )(\([^()]*\))([^?]*)", re.DOTALL)
_NO_TABLE = ("no such table", "no such column", "no such view")
"""Each statement is tried by the tests: what it names was there."""
_NO_UTF8 = "Could not decode to UTF-8"
_MAX_FOLD = 6
"""Rows are inserted by 64, 32, ... 1: few statements, so that their preparation is remembered."""
T = TypeVar("T")


SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What the driver raises: its own errors, or where their text quotes a damaged file the other."""


def translate(error: Exception, path: object, *, reading: bool = False) -> StorageError:
    """The storage error that an error of the driver means, ``reading`` on a reader's connection."""
    if isinstance(error, UnicodeDecodeError):
        text = bytes(error.object).decode(errors="replace")
        return Corrupt(f"the file is damaged: {text}", file=path)
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if extended in _UNREADABLE or (reading and code in _FULL):
        return Unreadable(f"the database cannot be read now: {error}")
    if code in _FULL:
        return Full(f"the database cannot be written now: {error}")
    if code in _DAMAGED and _refuses_reads(path):
        return Unreadable("the disk cannot be read now")
    if code in _DAMAGED:
        return Corrupt(str(error), file=path)
    if str(error).startswith(_NO_TABLE):
        return Corrupt(str(error), file=path)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(f"the database is busy: {error}")
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return Closed("the database was closed")
    return StorageError(f"{type(error).__name__}: {error}")


def _cannot_write(error: BaseException) -> bool:
    """Whether it is a connection that was opened for reading, not the disk of this moment."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return isinstance(error, Full) and code & 0xFF == sqlite3.SQLITE_READONLY


def _is_damage(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _refuses_reads(path: object) -> bool:
    """Whether it is the disk that fails: SQLite calls a read that ended with EIO damage, as if the
    file were at fault."""
    if not isinstance(path, Path):
        return False
    for name in (path, path.with_name(f"{path.name}-wal")):
        try:
            with name.open("rb") as file:
                file.read(_PROBED_BYTES)
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


class _Connection:
    """One aiosqlite connection with our errors.

    A statement whose result nobody waits for is queued and goes to the connection's thread with the
    next one that is awaited: a switch of threads and back costs as much as many a statement.
    """

    def __init__(self, raw: aiosqlite.Connection, path: object, *, reads: bool) -> None:
        self.raw = raw
        self._path = path
        self._reads = reads
        self._queued: list[Callable[[sqlite3.Connection], object]] = []

    async def fetch(self, sql: str, binds: Sequence[Bind] = ()) -> list[tuple]:  # type: ignore[type-arg]  # as in the seam
        return await self.call(lambda raw: _read(raw, sql, binds))

    async def execute(self, sql: str, binds: Sequence[Bind] = ()) -> int:
        return await self.call(lambda raw: raw.execute(sql, binds).rowcount)

    async def executemany(self, sql: str, rows: Sequence[Sequence[Bind]]) -> None:
        self._queued.append(lambda raw: _write(raw, sql, rows))

    def begin(self, statement: str) -> None:
        """Queue the beginning of a transaction; what a failed one left queued is forgotten."""
        self._queued = [lambda raw: _read(raw, statement)]

    async def rollback(self) -> None:
        """End the transaction, where one is open once the thread gets there."""
        self._queued.clear()
        await self.call(lambda raw: raw.in_transaction and raw.execute("rollback"))

    async def call(self, last: Callable[[sqlite3.Connection], T]) -> T:
        """What ``last`` returns, after everything queued, on the connection's thread."""
        queued, self._queued = self._queued, []

        def run() -> T:
            raw = self.raw._conn  # aiosqlite offers no call of our own
            for statement in queued:
                statement(raw)
            return last(raw)

        try:
            return await self.raw._execute(run)  # type: ignore[no-any-return,no-untyped-call]
        except (sqlite3.Error, ValueError) as error:
            raise self._translated(error) from error

    async def script(self, text: str) -> None:
        """Several statements at once; transactions are their own affair."""
        try:
            await self.raw.executescript(text)
        except (sqlite3.Error, ValueError) as error:
            raise self._translated(error) from error

    async def close(self) -> None:
        await self.raw.close()

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, SQLITE_ERRORS):
            return translate(error, self._path, reading=self._reads)
        # aiosqlite says "no active connection" / "Connection closed" by ValueError.
        return Closed("the database was closed") if "onnection" in str(error) else error


def _read(raw: sqlite3.Connection, sql: str, binds: Sequence[Bind] = ()) -> list[tuple]:  # type: ignore[type-arg]  # as in the seam
    """Again where it is damaged, as a read that the disk refused for a moment is called so too;
    and where a text is, as one of a run must not keep others from being listed."""
    try:
        return raw.execute(sql, binds).fetchall()
    except sqlite3.Error as error:
        if str(error).startswith(_NO_UTF8):
            return _read_damaged_texts(raw, sql, binds, str(error))
        if not _is_damage(error):
            raise
    return raw.execute(sql, binds).fetchall()


def _read_damaged_texts(
    raw: sqlite3.Connection, sql: str, binds: Sequence[Bind], error: str
) -> list[tuple]:  # type: ignore[type-arg]  # as in the seam
    """What is no UTF-8 is shown with marks in its place; `stepwell verify` tells the row."""
    logger.error("a damaged text: %s", error)
    raw.text_factory = lambda text: text.decode(errors="replace")
    try:
        return raw.execute(sql, binds).fetchall()
    finally:
        raw.text_factory = str


def _write(raw: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Bind]]) -> None:
    """Insert many rows a step: each step gives the GIL up and has to wait until it comes back,
    which beside a busy event loop takes longer than the step."""
    if len(rows) < 2 or _VALUES.fullmatch(sql) is None:
        raw.executemany(sql, rows)
        return
    start = 0
    while start < len(rows):
        size = 1 << min(_MAX_FOLD, (len(rows) - start).bit_length() - 1)
        binds = list(chain.from_iterable(rows[start : start + size]))
        raw.execute(_folded(sql, size), binds)
        start += size


@lru_cache(1024)
def _folded(sql: str, rows: int) -> str:
    """``insert ... values (?, ?)`` for so many rows."""
    return _VALUES.sub(lambda part: part[1] + ", ".join([part[2]] * rows) + part[3], sql)


async def _connect(
    target: str, pragmas: Sequence[str], path: object, *, reads: bool = False
) -> _Connection:
    try:
        raw = await aiosqlite.connect(target, uri=True, isolation_level=None, timeout=5)
    except SQLITE_ERRORS as error:
        raise translate(error, path, reading=reads) from error
    connection = _Connection(raw, path, reads=reads)
    try:
        for pragma in pragmas:
            await connection.fetch(f"pragma {pragma}")
    except BaseException:
        await connection.close()
        raise
    return connection


async def _read_connection(path: Path) -> _Connection:
    return await _connect(f"{path.absolute().as_uri()}?mode=ro", _READER, path, reads=True)


class Sqlite:
    """One SQLite file: a writing connection, and up to four reading ones made as needed."""

    def __init__(self, path: Path | None, writer: _Connection) -> None:
        self._path = path
        self._place = Place(path) if path else None
        self._folder = str(path.parent) if path else None
        self._writer = writer
        self._idle: list[_Connection] = []
        self._readers = asyncio.Semaphore(MAX_READERS if path else 1)
        self._only_reads = False
        """Whether the writer was found to be one that cannot write."""
        self._closed = False

    @classmethod
    async def open(cls, path: Path | None) -> "Sqlite":
        """Open ``path``, made and migrated as needed; None is a database in memory."""
        target = ":memory:" if path is None else path.absolute().as_uri()
        writer = await _connect(target, (), path)
        try:
            empty = (await writer.fetch("pragma page_count"))[0][0] == 0
            for pragma in (*(_AT_CREATION if empty else ()), *_WRITER):
                await writer.fetch(f"pragma {pragma}")
            if path is not None:
                await asyncio.to_thread(_sync_names, path)
            await _migrate(writer, path)
            return cls(path, writer)
        except BaseException:
            await writer.close()
            raise

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[_Connection]:
        if self._only_reads:
            await self._renew()
        self._writer.begin("begin immediate")
        try:
            yield self._writer
            if self._place:
                self._place.require()
            await self._writer.execute("commit")
        except BaseException as error:
            self._only_reads = _cannot_write(error)
            with contextlib.suppress(StorageError):
                await self._writer.rollback()
            raise

    async def _renew(self) -> None:
        """Open the writer anew; the connections share what was opened for reading, so all close."""
        assert self._path is not None
        assert self._place is not None
        self._place.require()
        await self.rest()
        await self._writer.close()
        self._writer = await _connect(f"{self._path.absolute().as_uri()}?mode=rw", (), self._path)
        for pragma in _WRITER:
            await self._writer.fetch(f"pragma {pragma}")
        await asyncio.to_thread(_sync_names, self._path)
        self._only_reads = False

    @contextlib.asynccontextmanager
    async def snapshot(self, timeout_s: float = 30.0) -> AsyncIterator[Reader]:
        if self._path is None:  # in memory there is but the one connection; what is queued to be
            async with self._readers:  # written is the transaction's own affair
                yield _Connection(self._writer.raw, None, reads=True)
            return
        try:
            async with asyncio.timeout(timeout_s), self._readers:
                reader = await self._take()
                try:
                    reader.begin("begin")
                    yield reader
                    await reader.rollback()
                except BaseException:
                    await asyncio.shield(self._drop(reader))
                    raise
                self._idle.append(reader)
        except TimeoutError as error:
            raise Busy(f"the read took longer than {timeout_s:g} s") from error

    async def _take(self) -> _Connection:
        if self._closed:
            raise Closed("the database was closed")
        if self._idle:
            return self._idle.pop()
        assert self._path is not None
        assert self._place is not None
        self._place.require()  # or the new one would read another file than the others
        return await _read_connection(self._path)

    @staticmethod
    async def _drop(reader: _Connection) -> None:
        """End a connection whose read was cancelled, failed or took too long."""
        await reader.raw.interrupt()
        await reader.close()

    def has_room(self) -> bool:
        if self._folder is None:
            return True
        try:
            disk = os.statvfs(self._folder)
        except FileNotFoundError:  # it was moved away, as the next transaction says
            return True
        reserve = min(_RESERVE_BYTES, disk.f_blocks * disk.f_frsize // _RESERVE_SHARE)
        return disk.f_bavail * disk.f_frsize > reserve

    async def maintain(self, *, gently: bool = False) -> bool:
        free = (await self._writer.fetch("pragma freelist_count"))[0][0]
        if free > _KEPT_FREE_PAGES:
            # By execute it would free one page a call.
            step = _GENTLE_STEP_PAGES if gently else _VACUUM_STEP_PAGES
            await self._writer.script(f"pragma incremental_vacuum({step})")
            return True
        # The file shrinks when the WAL is written back; a reader that is at work postpones it.
        await self._writer.fetch(f"pragma wal_checkpoint({'passive' if gently else 'truncate'})")
        return False

    async def rest(self) -> None:
        """Close the reading connections that nobody uses: two files, a thread and a cache each."""
        while self._idle:
            await self._idle.pop().close()

    async def close(self) -> None:
        """Close the readers, then the writer, which checkpoints and removes the WAL."""
        if self._closed:
            return
        self._closed = True
        for _ in range(MAX_READERS if self._path else 1):
            await self._readers.acquire()
        self._readers.release()
        for reader in self._idle:
            await reader.close()
        await self._writer.close()


@contextlib.asynccontextmanager
async def read_only(path: Path) -> AsyncIterator[Reader]:
    """A snapshot of a file that another process has open for writing."""
    refuse_unfit(path.parent)
    connection = await _read_connection(path)
    try:
        connection.begin("begin")
        yield connection
    finally:
        await connection.close()


async def _migrate(writer: _Connection, path: Path | None) -> None:
    version = (await writer.fetch("pragma user_version"))[0][0]
    if not version and await writer.fetch("select 1 from sqlite_schema"):
        raise Corrupt("the file is a database of another program", file=path)
    for script in migrations.scripts(version, _DIALECT, path):
        await writer.script(script)


def _sync_names(path: Path) -> None:
    """Make the names durable by which a file and its WAL are found, as far up as we may."""
    for folder in path.absolute().parents:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            return
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EROFS):  # no file system of ours
                raise Full(f"the folder {folder} cannot be synced: {error}") from error
            return
        finally:
            os.close(fd)
