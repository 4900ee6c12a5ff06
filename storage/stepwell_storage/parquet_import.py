"""A tenant out of what parquet_export.py wrote: the same, number for number and bit for bit.

It is made in a folder of its own, file by file, each in one transaction with the record that it is
in, so an import that was killed goes on where it was.  It is verified, and then gets its name.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np

from stepwell_storage.backups import checksum, copy_file, make_folder, put_in_place
from stepwell_storage.check import Findings, verify_tenant
from stepwell_storage.codec import encode
from stepwell_storage.compaction import CHUNK_POINTS, CRUMB_POINTS
from stepwell_storage.errors import Conflict, Corrupt, NotFound, Unsupported
from stepwell_storage.migrations import VERSION
from stepwell_storage.parquet_export import FORMAT, MANIFEST
from stepwell_storage.parquet_tables import kind_of, read_points, read_rows
from stepwell_storage.points import Points
from stepwell_storage.sqlite import Sqlite
from stepwell_storage.statements import sql
from stepwell_storage.statistics import Entry, summarize

DONE: Final = "imported parquet "
_NUMBERS: Final = ("run", "name", "step", "timestamp", "value")

Step = Callable[[str, int], None]


class Source:
    """An export.  Raises NotFound where the folder is none, Unsupported for a newer one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            raw = (folder / MANIFEST).read_bytes()
            header, *self.files = [json.loads(line) for line in raw.splitlines()]
            self.tenant: str = header["tenant"]
            newer = header["format"] > FORMAT or header["version"] > VERSION
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotFound(f"{folder} is no export: it has no whole {MANIFEST}") from error
        if newer:
            raise Unsupported(f"{folder} was written by a newer Stepwell; import it with that")
        if header["version"] < VERSION:
            raise Unsupported(f"{folder} is of version {header['version']} of the tables")
        self.points: int = header["points"]
        self.digest = hashlib.sha256(raw).hexdigest()[:16]

    def checked(self, file: dict[str, Any]) -> Path:
        """Where a file is.  Raises Corrupt unless it is what was written."""
        path = self.folder / str(file["path"])
        try:
            same = checksum(path) == (file["size"], file["sha256"])
        except OSError as error:
            raise Corrupt(f"cannot be read: {error}", file=path) from error
        if not same:
            raise Corrupt("is not what was exported", file=path)
        return path


async def import_parquet(source: Source, tenants: Path, name: str, step: Step) -> bool:
    """Make the tenant; False where this export is what is there already.

    For whoever holds the data directory's lock.  Raises Conflict where another tenant of that name
    stands, and Corrupt.
    """
    if (tenants / name).exists():
        if _was_made_of(tenants / name / "tenant.db", source.digest):
            return False
        raise Conflict(f"there is a tenant {name} already")
    scratch = tenants / f".{name}.{source.digest}.partial"
    folder = scratch / name
    make_folder(folder)
    database = await Sqlite.open(folder / "tenant.db")
    await database.close()
    with closing(sqlite3.connect(folder / "tenant.db", isolation_level=None)) as writer:
        for pragma in ("synchronous=full", "cache_size=-64000"):
            writer.execute(f"pragma {pragma}").fetchall()
        load = _Load(writer, source, folder, step)
        load.everything()
    findings = Findings(lambda _: None, lambda _: None)
    await verify_tenant(folder, findings)
    if findings.problems:
        raise Corrupt(f"what was imported contradicts itself: {findings.problems[0]}")
    put_in_place(folder, tenants, name, replace=False)
    shutil.rmtree(scratch)
    return True


def _was_made_of(database: Path, digest: str) -> bool:
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as there:
            return bool(there.execute(sql.meta, (DONE + digest,)).fetchone())
    except sqlite3.Error:
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
        for file in self._source.files:
            path = str(file["path"])
            if not self._writer.execute(sql.meta, (DONE + path,)).fetchone():
                self._file(file, path)
            self._step(path, int(file["size"]))
        last = self._writer.execute("select coalesce(max(id), 0) + 1 from chunk").fetchone()[0]
        self._writer.execute("begin immediate")
        self._writer.execute("delete from counter where name = 'chunk'")
        self._writer.execute(sql.make_counter, ("chunk", last))
        self._writer.execute("delete from meta where name like ?", (f"{DONE}%",))
        self._writer.execute(sql.set_meta, (DONE + self._source.digest, self._source.points))
        self._writer.execute("commit")

    def _file(self, file: dict[str, Any], path: str) -> None:
        whole = self._source.checked(file)
        kind, table, *_ = path.split("/")
        self._writer.execute("begin immediate")
        try:
            if kind == "tables":
                self._table(table, whole)
            elif kind == "points":
                self._points(whole)
            else:
                self._artifact(path, whole)
            self._writer.execute(sql.set_meta, (DONE + path, 1))
            self._writer.execute("commit")
        except BaseException:
            self._writer.execute("rollback")
            raise

    def _table(self, table: str, path: Path) -> None:
        found = self._writer.execute("select name, type from pragma_table_info(?)", (table,))
        columns = {name: kind_of(kind.lower()) for name, kind in found}
        if not columns:
            raise Corrupt(f"there is no table {table}", file=path)
        marks = ", ".join("?" * len(columns))
        names = ", ".join(columns)
        statement = f"insert or replace into {table} ({names}) values ({marks})"  # noqa: S608
        for rows in read_rows(path, list(columns)):
            self._writer.executemany(statement, rows)

    def _artifact(self, path: str, whole: Path) -> None:
        target = self._folder / path
        make_folder(target.parent)
        target.unlink(missing_ok=True)  # of an import that was killed in its middle
        copy_file(whole, target)

    def _points(self, path: Path) -> None:
        for (run, key), points in _series(path):
            columns = [
                column.tobytes() for column in (points.steps, points.timestamps, points.values)
            ]
            entry = Entry(0, run, [key], [len(points)], *columns)
            self._writer.executemany(sql.merge_series, summarize([entry]))
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


def _series(path: Path) -> Iterator[tuple[tuple[int, int], Points]]:
    """The series of a file, whole as far as it has them."""
    held: list[Points] = []
    place = (0, 0)
    for run, name, steps, timestamps, values in read_points(path, _NUMBERS):
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
