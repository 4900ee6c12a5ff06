"""A tenant out of what parquet_export.py wrote: the same, number for number and bit for bit.

It is made in a folder of its own, file by file, each in one transaction with the record that it is
in, so an import that was killed goes on where it was.  It is verified, and then gets its name.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np

from stepwell_storage.backups import copy_file, make_folder, put_in_place, sync
from stepwell_storage.check import Findings, verify_tenant
from stepwell_storage.codec import encode
from stepwell_storage.compaction import CHUNK_POINTS, CRUMB_POINTS
from stepwell_storage.errors import Conflict, Corrupt
from stepwell_storage.parquet_source import Source
from stepwell_storage.parquet_tables import POINT_NUMBERS, Columns, kind_of, read_points, read_rows
from stepwell_storage.points import Points
from stepwell_storage.sqlite import SQLITE_ERRORS, Sqlite, translate
from stepwell_storage.statements import sql
from stepwell_storage.statistics import Entry, summarize

DONE: Final = "imported parquet "

Step = Callable[[str, int], None]


async def import_parquet(source: Source, tenants: Path, name: str, step: Step) -> bool:
    """Make the tenant; False where this export is what is there already.

    For whoever holds the data directory's lock.  Raises Conflict where another tenant of that name
    stands, Corrupt (then nothing is left), and Full (then a second call goes on).
    """
    if (tenants / name).exists():
        if _was_made_of(tenants / name / "tenant.db", source.digest):
            return False
        raise Conflict(f"there is a tenant {name} already")
    source.probe()
    scratch = tenants / f".{name}.{source.digest}.partial"
    folder = scratch / name
    make_folder(folder)
    try:
        await _fill(folder, source, step)
    except Corrupt:
        shutil.rmtree(scratch)
        raise
    put_in_place(folder, tenants, name, replace=False)
    shutil.rmtree(scratch)
    return True


async def _fill(folder: Path, source: Source, step: Step) -> None:
    database = await Sqlite.open(folder / "tenant.db")
    await database.close()
    try:
        with closing(sqlite3.connect(folder / "tenant.db", isolation_level=None)) as writer:
            for pragma in ("synchronous=full", "cache_size=-64000"):
                writer.execute(f"pragma {pragma}").fetchall()
            _Load(writer, source, folder, step).everything()
    except SQLITE_ERRORS as error:
        raise translate(error, folder / "tenant.db") from error
    findings = Findings(lambda _: None, lambda _: None)
    await verify_tenant(folder, findings)
    if findings.problems:
        raise Corrupt(f"what was imported contradicts itself: {findings.problems[0]}")


def _was_made_of(database: Path, digest: str) -> bool:
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as there:
            return bool(there.execute(sql.meta, (DONE + digest,)).fetchone())
    except SQLITE_ERRORS:
        return False


class _Load:
    def __init__(
        self, writer: sqlite3.Connection, source: Source, folder: Path, step: Step
    ) -> None:
        self._writer = writer
        self._source = source
        self._folder = folder
        self._step = step

    def everything(self) -> None:
        """What is not in yet."""
        if self._is_noted(self._source.digest):
            return  # killed before it got its place
        for file in self._source.files:
            path, size = str(file["path"]), int(file["size"])
            if not (self._is_noted(path) and self._is_there(path, size)):
                self._file(file, path)
            self._step(path, size)
        came = self._writer.execute(
            "select coalesce(sum(value), 0) from meta where name like ?", (f"{DONE}points/%",)
        ).fetchone()[0]
        if came != self._source.points:
            stated = f"{self._source.points} points are stated"
            raise Corrupt(f"{came} points came where {stated}", file=self._source.folder)
        last = self._writer.execute("select coalesce(max(id), 0) + 1 from chunk").fetchone()[0]
        for folder, _, _ in os.walk(self._folder, topdown=False):
            sync(Path(folder))
        self._writer.execute("begin immediate")
        self._writer.execute("delete from counter where name = 'chunk'")
        self._writer.execute(sql.make_counter, ("chunk", last))
        self._writer.execute("delete from meta where name like ?", (f"{DONE}%",))
        self._writer.execute(sql.set_meta, (DONE + self._source.digest, self._source.points))
        self._writer.execute("commit")

    def _is_noted(self, what: str) -> bool:
        return self._writer.execute(sql.meta, (DONE + what,)).fetchone() is not None

    def _is_there(self, path: str, size: int) -> bool:
        """A note may outlive a power cut that the name of its artifact did not."""
        place = self._folder / path
        return not path.startswith("artifacts/") or (
            place.is_file() and place.stat().st_size == size
        )

    def _file(self, file: dict[str, Any], path: str) -> None:
        whole = self._source.checked(file)
        kind, table, *_ = path.split("/")
        self._writer.execute("begin immediate")
        try:
            rows = 1
            if kind == "tables":
                self._table(table, whole)
            elif kind == "points":
                rows = self._points(whole)
            else:
                self._artifact(path, whole)
            self._writer.execute(sql.set_meta, (DONE + path, rows))
            self._writer.execute("commit")
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError) as error:
            self._roll_back()
            raise Corrupt(f"has rows that cannot be: {error}", file=whole) from error
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        """Where SQLite has not done so by itself, as it does when the disk is full."""
        if self._writer.in_transaction:
            self._writer.execute("rollback")

    def _table(self, table: str, path: Path) -> None:
        found = self._writer.execute("select name, type from pragma_table_info(?)", (table,))
        columns: Columns = {name: kind_of(kind.lower()) for name, kind in found}
        if not columns:
            raise Corrupt(f"there is no table {table}", file=path)
        marks = ", ".join("?" * len(columns))
        names = ", ".join(columns)
        statement = f"insert or replace into {table} ({names}) values ({marks})"  # noqa: S608
        for rows in read_rows(path, columns):
            self._writer.executemany(statement, rows)

    def _artifact(self, path: str, whole: Path) -> None:
        target = self._folder / path
        make_folder(target.parent)
        target.unlink(missing_ok=True)  # of an import that was killed in its middle
        copy_file(whole, target)

    def _points(self, path: Path) -> int:
        total = 0
        for (run, key), points in _series(path):
            columns = [
                column.tobytes() for column in (points.steps, points.timestamps, points.values)
            ]
            entry = Entry(0, run, [key], [len(points)], *columns)
            self._writer.executemany(sql.merge_series, summarize([entry]).rows())
            total += len(points)
            for piece in _pieces(points):
                try:
                    chunk = encode(piece)
                except ValueError as error:
                    raise Corrupt(str(error), file=path) from error
                number = self._writer.execute(
                    "select coalesce(max(id), 0) + 1 from chunk"
                ).fetchone()[0]
                row = (number, run, key, len(piece), *chunk.first, *chunk.last)
                self._writer.execute(sql.insert_chunk, (*row, chunk.summary, chunk.data))
        return total


def _series(path: Path) -> Iterator[tuple[tuple[int, int], Points]]:
    """The series of a file, whole as far as it has them."""
    held: list[Points] = []
    place = (0, 0)
    for run, name, steps, timestamps, values in read_points(path, POINT_NUMBERS):
        fresh = np.flatnonzero((run[1:] != run[:-1]) | (name[1:] != name[:-1])) + 1
        for start, end in zip([0, *fresh], [*fresh, len(run)], strict=True):
            here = (int(run[start]), int(name[start]))
            if held and here != place:
                yield place, Points.concat(held)
                held = []
            place = here
            rows = slice(int(start), int(end))
            held.append(Points(steps[rows], timestamps[rows], values[rows]))
    if held:
        yield place, Points.concat(held)


def _pieces(points: Points) -> Iterator[Points]:
    start = 0
    while len(points) - start >= CHUNK_POINTS + CRUMB_POINTS:
        yield points[start : start + CHUNK_POINTS]
        start += CHUNK_POINTS
    yield points[start:]
