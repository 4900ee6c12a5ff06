"""The pieces that a spool is made of: append-only files, or memory where the disk refuses."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final, Protocol

SUFFIX: Final = ".spool"
MAX_PIECES: Final = 1_000
"""The system takes 1,024 at once."""


class Segment(Protocol):
    """One writer appends until it seals; one reader, perhaps in another thread, reads below
    ``size``.  ``gone``: somebody removed the file, and what was in it.
    """

    size: int
    gone: bool

    def append(self, pieces: list[bytes], size: int) -> None:
        """All of the pieces, ``size`` bytes together, or nothing.  Raises OSError."""

    def seal(self) -> None:
        """It grows no more."""

    def read(self, offset: int, length: int) -> bytes: ...

    def close(self) -> None: ...

    def remove(self) -> None: ...


class FileSegment:
    """A file: a new one that begins with ``start``, or without that one that is there.

    Appended with O_APPEND and no fsync: it survives its process, not a power cut.  Open while it
    is written to, and from its first read on: a spool of gigabytes must not take the training's
    file descriptors.
    """

    def __init__(self, path: Path, start: bytes = b"") -> None:
        self.path = path
        self.size = 0
        self.gone = False
        self._append_fd = self._read_fd = -1
        if not start:
            self.size = path.stat().st_size
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._append_fd = os.open(path, flags, 0o600)
        try:
            self.append([start], len(start))
        except OSError:
            self.remove()
            raise

    def append(self, pieces: list[bytes], size: int) -> None:
        if len(pieces) > MAX_PIECES:
            pieces = [b"".join(pieces)]
        if os.writev(self._append_fd, pieces) == size:
            self.size += size
            return
        # The disk is nearly full.  A torn frame in the middle would hide what is appended later.
        os.ftruncate(self._append_fd, self.size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def seal(self) -> None:
        fd, self._append_fd = self._append_fd, -1
        if fd >= 0:
            os.close(fd)

    def read(self, offset: int, length: int) -> bytes:
        if self._read_fd < 0:
            try:
                self._read_fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self.gone = True
                return b""
        return os.pread(self._read_fd, length, offset)

    def close(self) -> None:
        self.seal()
        fd, self._read_fd = self._read_fd, -1
        if fd >= 0:
            os.close(fd)

    def remove(self) -> None:
        self.close()  # first: NFS keeps an open file's name alive
        with contextlib.suppress(OSError):
            self.path.unlink()


class MemorySegment:
    """The same in memory."""

    gone = False

    def __init__(self, start: bytes) -> None:
        self._data = bytearray(start)
        self.size = len(self._data)

    def append(self, pieces: list[bytes], size: int) -> None:
        self._data += b"".join(pieces)
        self.size = len(self._data)

    def seal(self) -> None: ...

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])

    def close(self) -> None: ...

    def remove(self) -> None:
        self._data = bytearray()
        self.size = 0
