"""A tenant as Parquet: one snapshot, in files that other programs read (docs/parquet.md).

``points/*.parquet`` are all points in the order of their series, whether they were compacted or
not; ``tables/<table>/*.parquet`` the rows of every other table as they are; ``artifacts/`` the
files.  ``manifest.jsonl`` lists all of it and comes last.  Works beside a running server.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np

from stepwell_storage.backups import appearing, checksum, copy_artifacts, sync
from stepwell_storage.codec import decode as decode_chunk
from stepwell_storage.errors import Corrupt, NotFound, Unsupported
from stepwell_storage.migrations import VERSION, too_new
from stepwell_storage.parquet_tables import Columns, kind_of, write_points, write_rows
from stepwell_storage.paths import is_tenant_name
from stepwell_storage.payloads import Journaled, decode as decode_row
from stepwell_storage.points import Points, merge
from stepwell_storage.sqlite import SQLITE_ERRORS, translate

MANIFEST: Final = "manifest.jsonl"
FORMAT: Final = 1
FILE_POINTS: Final = 1_000_000
FILE_ROWS: Final = 100_000
DERIVED: Final = frozenset(
    ("chunk", "fresh_param", "fresh_tag", "journal", "journal_run", "series")
)
"""Tables that say of points what the points say themselves; and two that go into others."""
# Beside a table's own columns, what its numbers mean; an import does not look at them.
_READABLE: Final = {
    "param": "select t.*, r.run_id, n.text as name from"
    " (select id, key, run, value, number from param"
    " union all select key * 68719476736 + run, key, run, value, number from fresh_param) t"
    " join run r on r.id = t.run join name n on n.id = t.key",
    "tag": "select t.*, r.run_id, n.text as name from (select id, key, run, value from tag"
    " union all select key * 68719476736 + run, key, run, value from fresh_tag) t"
    " join run r on r.id = t.run join name n on n.id = t.key",
}
_NAMES: Final = """select id, text from name where id in
(select key from chunk where run = ? union select key from series where run = ?)"""

Step = Callable[[str, int], None]
"""Called with a file and how many rows, or bytes of an artifact, it has."""


def export(data: Path, name: str, target: Path, step: Step) -> int:
    """Write a tenant to the new folder ``target``; the number of points.

    Raises NotFound, Conflict where ``target`` exists, Corrupt with the place, Unsupported, OSError.
    """
    if not is_tenant_name(name):
        raise NotFound(f"{name!r} is no tenant's name")
    folder = data / "tenants" / name
    source = folder / "tenant.db"
    if not source.is_file():
        raise NotFound(f"there is no tenant {name} in {data}")
    try:
        with (
            appearing(target) as partial,
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as reader,
        ):
            reader.isolation_level = None
            reader.execute("begin")  # everything below is of one instant
            return _Export(reader, name, partial, step).write(folder)
    except SQLITE_ERRORS as error:
        raise translate(error, source) from error


class _Export:
    def __init__(self, reader: sqlite3.Connection, name: str, target: Path, step: Step) -> None:
        self._reader = reader
        self._name = name
        self._target = target
        self._step = step
        self._files: list[dict[str, Any]] = []

    def write(self, folder: Path) -> int:
        version = self._reader.execute("pragma user_version").fetchone()[0]
        if version > VERSION:
            raise Unsupported(too_new(version, folder))
        if version < VERSION:
            raise Unsupported(f"{folder} is of an older version: serve it once, which updates it")
        [(found, *_), *_] = self._reader.execute("pragma quick_check(1)").fetchall()
        if found != "ok":  # what a broken page hides would be missing without a word
            raise Corrupt(f"the file is damaged: {found}", folder=folder)
        for table, columns in _tables(self._reader):
            self._table(table, columns)
        points = self._points()
        owners = {
            "runs": {row[0] for row in self._reader.execute("select run_id from run")},
            "models": {row[0] for row in self._reader.execute("select model_id from model")},
        }
        copy_artifacts(folder, self._target, owners, self._note)
        header = {
            "format": FORMAT,
            "tenant": self._name,
            "version": version,
            "points": points,
            "files": len(self._files),
        }
        manifest = self._target / MANIFEST
        lines = [json.dumps(line) + "\n" for line in (header, *self._files)]
        manifest.write_text("".join(lines), encoding="utf-8")
        manifest.chmod(0o600)
        sync(manifest)
        return points

    def _note(self, path: Path, size: int, digest: str) -> None:
        place = path.relative_to(self._target).as_posix()
        self._files.append({"path": place, "size": size, "sha256": digest})
        self._step(place, size)

    def _written(self, path: Path) -> None:
        path.chmod(0o600)
        sync(path)
        self._note(path, *checksum(path))

    def _table(self, table: str, columns: Columns) -> None:
        statement = _READABLE.get(table, f"select * from {table}")  # noqa: S608 - of the schema
        if table in _READABLE:
            columns = {**columns, "run_id": "text", "name": "text"}
        rows = self._reader.execute(statement)
        place = self._target / "tables" / table
        number = 0
        while page := rows.fetchmany(FILE_ROWS):
            number += 1
            place.mkdir(0o700, parents=True, exist_ok=True)
            path = place / f"{number:06}.parquet"
            write_rows(path, columns, page)
            self._written(path)

    def _points(self) -> int:
        total = 0
        for number, page in enumerate(_files(_all_series(self._reader)), 1):
            path = self._target / "points" / f"{number:06}.parquet"
            path.parent.mkdir(0o700, exist_ok=True)
            lengths = [len(points) for _, points in page]
            whole = Points.concat([points for _, points in page])
            texts: dict[str, list[str]] = {"run_id": [], "key": []}
            for ((_, _, run_id, key), _), length in zip(page, lengths, strict=True):
                texts["run_id"] += [run_id] * length
                texts["key"] += [key] * length
            numbers = {
                "run": np.repeat([place[0] for place, _ in page], lengths),
                "name": np.repeat([place[1] for place, _ in page], lengths),
                "step": whole.steps,
                "timestamp": whole.timestamps,
                "value": whole.values,
            }
            write_points(path, texts, numbers)
            self._written(path)
            total += len(whole)
        return total


Place = tuple[int, int, str, str]
"""Numbers of a run and a key, and their texts."""
Piece = tuple[Place, Points]


def _tables(reader: sqlite3.Connection) -> Iterator[tuple[str, Columns]]:
    names = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
    for (table,) in reader.execute(names).fetchall():
        if table not in DERIVED:
            found = reader.execute("select name, type from pragma_table_info(?)", (table,))
            yield table, {name: kind_of(kind.lower()) for name, kind in found}


def _files(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces of series for one file each."""
    page: list[Piece] = []
    held = 0
    for place, points in pieces:
        for start in range(0, len(points), FILE_POINTS):
            piece = points[start : start + FILE_POINTS]
            if page and held + len(piece) > FILE_POINTS:
                yield page
                page, held = [], 0
            page.append((place, piece))
            held += len(piece)
    if page:
        yield page


def _all_series(reader: sqlite3.Connection) -> Iterator[Piece]:
    """Every series in order, in pieces of a chunk where its chunks are in order themselves."""
    for run, run_id in reader.execute("select id, run_id from run order by id"):
        names: dict[int, str] = dict(reader.execute(_NAMES, (run, run)).fetchall())
        tail = _tail(reader, run)
        missing = {key for row in tail for key in row.keys.tolist()} - set(names)
        for key in missing:  # logged a moment ago: no statistics yet
            names[key] = reader.execute("select text from name where id = ?", (key,)).fetchone()[0]
        for key in sorted(names):
            place = (run, key, run_id, names[key])
            for points in _series(reader, place, [row.of(key) for row in tail]):
                yield place, points


def _tail(reader: sqlite3.Connection, run: int) -> list[Journaled]:
    rows = reader.execute("select id, payload from journal_of where run = ? order by id", (run,))
    tail = []
    for number, payload in rows:
        try:
            tail.append(decode_row(payload))
        except Corrupt as error:
            raise Corrupt(error.reason, run=run, journal_row=number) from error
    return tail


def _series(
    reader: sqlite3.Connection, place: Place, tail: Iterable[Points | None]
) -> Iterator[Points]:
    run, key, run_id, text = place
    late = merge([points for points in tail if points is not None])
    chunks = reader.execute(
        "select id, first_step, first_timestamp, first, last_step, last_timestamp, last from chunk"
        " where run = ? and key = ? order by first_step, first_timestamp, first", (run, key),
    ).fetchall()  # fmt: skip
    ends = [(row[1:4], row[4:7]) for row in chunks]
    if len(late):
        ends.append((tuple(late.position(0)), tuple(late.position(-1))))
    apart = all(one[1] < other[0] for one, other in zip(ends, ends[1:], strict=False))
    parts = (_chunk(reader, row[0], run_id, text) for row in chunks)
    if not apart:
        yield merge([*parts, late])
        return
    yield from parts
    if len(late):
        yield late


def _chunk(reader: sqlite3.Connection, number: int, run_id: str, key: str) -> Points:
    [data] = reader.execute("select data from chunk where id = ?", (number,)).fetchone()
    try:
        return decode_chunk(data)
    except Corrupt as error:
        raise Corrupt(error.reason, run=run_id, series=key, chunk=number) from error
