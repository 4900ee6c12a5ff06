"""A disk that can be watched, refused and cut off: the Python side of ``shim.c``.

The library is preloaded into a process of the test's.  What it recorded is replayed into a
:class:`Disk`, which knows at every place of the record what a power cut would leave behind.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from tests.needs import program

SECTOR = 512
_HEAD = struct.Struct("<IIIIq")
_SOURCE = Path(__file__).with_name("shim.c")


class Kind(IntEnum):
    WRITE = 1
    TRUNCATE = 2
    SYNC = 3
    CREATE = 4
    MKDIR = 5
    UNLINK = 6
    RENAME = 7
    MARK = 8
    LOST_SYNC = 9
    """A sync that was refused: what it was for may be on the disk or not, for ever."""


class Record(NamedTuple):
    """One call.  ``offset`` is the new size of a TRUNCATE, ``data`` the new name of a RENAME."""

    kind: Kind
    path: str
    offset: int
    data: bytes


def build(folder: Path) -> Path:
    """Compile the library.  Skips the test (fails in CI) where there is no C compiler."""
    compiler = program("gcc", "cc", package="gcc")
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread"]
    subprocess.run([*command, "-o", str(library), str(_SOURCE)], check=True)
    return library


def environment(
    library: Path, root: Path, *, log: Path | None = None, full: Path | None = None
) -> dict[str, str]:
    """For a process whose files below ``root`` are watched.

    ``log`` takes the record; while the file ``full`` exists, the disk is full.
    """
    more = {"LD_PRELOAD": str(library), "STEPWELL_SHIM_ROOT": str(root.resolve())}
    if log is not None:
        more["STEPWELL_SHIM_LOG"] = str(log)
    if full is not None:
        more["STEPWELL_SHIM_FULL"] = str(full)
    return os.environ | more


def read(log: Path) -> list[Record]:
    return list(_records(memoryview(log.read_bytes())))


def _records(raw: memoryview) -> Iterator[Record]:
    at = 0
    while at < len(raw):
        kind, path_bytes, data_bytes, _, offset = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        path = bytes(raw[at : at + path_bytes]).decode()
        at += path_bytes
        yield Record(Kind(kind), path, offset, bytes(raw[at : at + data_bytes]))
        at += data_bytes


# --- what a power cut leaves ----------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _File:
    """``durable`` is what was synced; ``pending`` came after it, in order."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Naming:
    """A change of names that no sync of its folder has made durable."""

    record: Record
    folder: str
    file: _File | None


class Disk:
    """The most forgetful disk that keeps the promises of POSIX.

    A sync of a file makes its contents durable, a sync of a folder the names in it.  Everything
    else may be lost: contents in any order and in pieces of 512 bytes, names from the last
    backwards (file systems keep their own changes in order).  Paths begin with a slash below the
    watched folder; a folder is None.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._names: dict[str, _File | None] = {}
        self._durable: dict[str, _File | None] = {}
        self._namings: list[_Naming] = []

    def apply(self, record: Record) -> None:
        kind, path = record.kind, record.path
        if kind in (Kind.WRITE, Kind.TRUNCATE):
            self._file(path).pending.append(record)
        elif kind == Kind.LOST_SYNC:
            file = self._names.get(path)
            if file is not None:
                file.durable = self._choice(file, self._rng)
                file.pending.clear()
        elif kind == Kind.SYNC:
            self._sync(path)
        elif kind != Kind.MARK:
            self._rename(record)

    def _file(self, path: str) -> _File:
        file = self._names[path]
        assert file is not None, path
        return file

    def _sync(self, path: str) -> None:
        file = self._names.get(path)
        if file is not None:
            file.durable = _contents(file.durable, file.pending)
            file.pending.clear()
            return
        for naming in self._namings:
            if naming.folder == path:
                _name(self._durable, naming)
        self._namings = [naming for naming in self._namings if naming.folder != path]

    def _rename(self, record: Record) -> None:
        target = record.data.decode() if record.kind == Kind.RENAME else record.path
        file = self._names.get(record.path) if record.kind != Kind.CREATE else _File()
        naming = _Naming(record, target.rpartition("/")[0], file)
        _name(self._names, naming)
        self._namings.append(naming)

    def cut(self, rng: random.Random) -> dict[str, bytes | None]:
        """The files and folders (None) after a power cut at this moment."""
        names = dict(self._durable)
        for naming in self._namings[: rng.randint(0, len(self._namings))]:
            _name(names, naming)
        left: dict[str, bytes | None] = {}
        for path, file in sorted(names.items()):
            above = path.rpartition("/")[0]
            if above and above not in left:
                continue  # its folder was lost, and it with it
            left[path] = None if file is None else bytes(self._choice(file, rng))
        return left

    @staticmethod
    def _choice(file: _File, rng: random.Random) -> bytearray:
        return _contents(file.durable, list(rng.choice(_FATES)(file.pending, rng)))


def _contents(durable: bytearray, changes: Sequence[Record]) -> bytearray:
    contents = bytearray(durable)
    for change in changes:
        if change.kind == Kind.TRUNCATE:
            del contents[change.offset :]
            contents += bytes(change.offset - len(contents))
            continue
        contents += bytes(max(0, change.offset - len(contents)))
        contents[change.offset : change.offset + len(change.data)] = change.data
    return contents


def _name(names: dict[str, _File | None], naming: _Naming) -> None:
    kind, path = naming.record.kind, naming.record.path
    if kind in (Kind.UNLINK, Kind.RENAME):
        names.pop(path, None)
    if kind == Kind.RENAME:
        target = naming.record.data.decode()
        names[target] = naming.file
        for below in [name for name in names if name.startswith(f"{path}/")]:
            names[target + below.removeprefix(path)] = names.pop(below)
    elif kind in (Kind.CREATE, Kind.MKDIR):
        names[path] = naming.file


# --- the fates of what was not synced: each yields the changes that reached the disk --------------


def _dropped(_pending: Sequence[Record], _: random.Random) -> Iterator[Record]:
    yield from ()


def _kept(pending: Sequence[Record], _: random.Random) -> Iterator[Record]:
    yield from pending


def _reordered(pending: Sequence[Record], rng: random.Random) -> Iterator[Record]:
    """Later ones there, earlier ones not."""
    yield from (record for record in pending if rng.random() < 0.5)


def _torn(pending: Sequence[Record], rng: random.Random) -> Iterator[Record]:
    for record in pending:
        yield from (piece for piece in _sectors(record) if rng.random() < 0.5)


def _interrupted(pending: Sequence[Record], rng: random.Random) -> Iterator[Record]:
    """In order, up to somewhere in the middle of one of them."""
    pieces = [piece for record in pending for piece in _sectors(record)]
    yield from pieces[: rng.randint(0, len(pieces))]


def _sectors(record: Record) -> Iterator[Record]:
    if record.kind != Kind.WRITE:
        yield record
        return
    at, end = record.offset, record.offset + len(record.data)
    while at < end:
        until = min(end, (at // SECTOR + 1) * SECTOR)
        data = record.data[at - record.offset : until - record.offset]
        yield record._replace(offset=at, data=data)
        at = until


_FATES: tuple[Callable[[Sequence[Record], random.Random], Iterator[Record]], ...] = (
    _dropped, _kept, _reordered, _torn, _interrupted,
)  # fmt: skip


def restore(left: dict[str, bytes | None], folder: Path) -> None:
    """Make the files that were left, in an empty folder."""
    folder.mkdir(parents=True)
    for path, contents in left.items():
        target = folder / path.removeprefix("/")
        if contents is None:
            target.mkdir()
        else:
            target.write_bytes(contents)
