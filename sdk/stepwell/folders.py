"""The folder of one writer's spool: its name, its lock, and how far the server has acknowledged.

::

    <spool_dir>/<run id>-<8 hex>/owner             the lock (ownership.py)
                                 00000001.spool    segments, in order (segments.py)
                                 acked             a place in them, u64 segment, u64 offset, and the
                                                   CRC-32 of both, u32
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from struct import Struct as Layout
from typing import Final, NamedTuple
from zlib import crc32

from stepwell.ownership import Ownership, take
from stepwell.segments import SUFFIX

_NAME: Final = re.compile(r"[0-9a-f]{32}-[0-9a-f]{8}")
_PLACE: Final = Layout("<QQ")


class Position(NamedTuple):
    """A place between two frames."""

    segment: int
    offset: int


class Folder:
    """One that this process owns."""

    def __init__(self, path: Path, owner: Ownership) -> None:
        self.path = path
        self._owner = owner
        self._note_fd = -1

    @classmethod
    def create(cls, spool_dir: Path, run_id: str) -> Folder:
        """A new one.  Raises OSError."""
        spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{run_id}-{os.urandom(4).hex()}"
        # Owned before it has its name: nobody may take it for a leftover in between.
        unborn = spool_dir / f".{name}"
        unborn.mkdir(mode=0o700)
        owner = None
        try:
            owner = take(unborn / "owner", create=True)
            if owner is None:
                raise OSError(f"cannot own a folder in {spool_dir}")
            return cls(unborn.rename(spool_dir / name), owner)
        except BaseException:
            if owner is not None:
                owner.release()
            _remove(unborn)
            raise

    @classmethod
    def adopt(cls, path: Path) -> Folder | None:
        """A dead process's; None while its process lives.  Raises OSError."""
        owner = take(path / "owner")
        return None if owner is None else cls(path, owner)

    def segment(self, number: int) -> Path:
        return self.path / f"{number:08d}{SUFFIX}"

    def segments(self) -> dict[int, Path]:
        """Those that are there, by number.  Raises ValueError where one has none."""
        return {int(path.stem): path for path in sorted(self.path.glob(f"*{SUFFIX}"))}

    def acknowledged(self) -> Position:
        """The place that was noted, or the very start."""
        try:
            data = (self.path / "acked").read_bytes()
        except OSError:
            return Position(0, 0)
        place, checksum = data[: _PLACE.size], data[_PLACE.size :]
        if len(place) != _PLACE.size or crc32(place).to_bytes(4, "little") != checksum:
            return Position(0, 0)
        return Position(*_PLACE.unpack(place))

    def note(self, acknowledged: Position) -> None:
        """Best effort: without it, everything is sent again, which changes nothing."""
        with contextlib.suppress(OSError):
            if self._note_fd < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._note_fd = os.open(self.path / "acked", flags, 0o600)
            place = _PLACE.pack(*acknowledged)
            os.pwrite(self._note_fd, place + crc32(place).to_bytes(4, "little"), 0)

    def release(self) -> None:
        """Let it go; another process may take it at once.  A forked child leaves it so to the
        parent, which still owns it.
        """
        fd, self._note_fd = self._note_fd, -1
        if fd >= 0:
            os.close(fd)
        self._owner.release()

    def remove(self, *, keep: bool) -> None:
        """``keep``: part of it could not be read; it stays under another name, for a look."""
        if not keep:
            _remove(self.path)
            return
        with contextlib.suppress(OSError):
            self.path.rename(self.path.with_suffix(".damaged"))


def folders(spool_dir: Path) -> list[Path]:
    """The spools in a folder, oldest run first."""
    try:
        names = [entry.name for entry in os.scandir(spool_dir) if _NAME.fullmatch(entry.name)]
    except OSError:
        return []
    return [spool_dir / name for name in sorted(names)]


def is_spool(folder: Path) -> bool:
    """Whether this is one spool, going by its name, and not the folder of all of them."""
    return _NAME.fullmatch(folder.name) is not None


def size_of(spool_dir: Path) -> int:
    """What all spools in a folder take, in bytes."""
    return sum(map(bytes_of, folders(spool_dir)))


def remove_remnant(folder: Path) -> bool:
    """Remove what a process left that was killed while it removed its spool: an empty folder.

    False: it is something else, and stays.
    """
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remove(folder: Path) -> None:
    """One without segments."""
    with contextlib.suppress(OSError):
        for name in ("acked", "owner"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def bytes_of(spool: Path) -> int:
    """What one takes; 0 where it is gone."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(spool))
    except OSError:
        return 0
