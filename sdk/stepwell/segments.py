"""The pieces that a spool is made of: append-only files, or memory where the disk refuses."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final, Protocol

from stepwell.records import MAGIC

SUFFIX: Final = ".spool"


MAX_PIECES: Final = 1_000
"""The system takes 1,024 at once."""


class Segment(Protocol):
    """One writer appends; one reader, perhaps in another thread, reads below ``size``."""

    size: int

    def append(self, pieces: list[bytes], size: int) -> None:
        """All of the pieces, ``size`` bytes together, or nothing.  Raises OSError."""

    def read(self, offset: int, length: int) -> bytes: ...

    def close(self) -> None: ...

    def remove(self) -> None: ...


class FileSegment:
    """A file.  Appended with O_APPEND and no fsync: it survives its process, not a power cut."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND if create else os.O_RDONLY
        self.path = path
        self._fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self._fd).st_size
        if create:
            try:
                self.append([MAGIC], len(MAGIC))
            except OSError:
                self.remove()
                raise

    def append(self, pieces: list[bytes], size: int) -> None:
        if len(pieces) > MAX_PIECES:
            pieces = [b"".join(pieces)]
        if os.writev(self._fd, pieces) == size:
            # The file's own end, since a signal handler may have appended between these two lines.
            self.size = os.lseek(self._fd, 0, os.SEEK_CUR)
            return
        # The disk is nearly full.  A torn frame in the middle would hide what is appended later.
        os.ftruncate(self._fd, self.size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def remove(self) -> None:
        self.close()  # first: NFS keeps an open file's name alive
        with contextlib.suppress(OSError):
            self.path.unlink()


class MemorySegment:
    """The same in memory."""

    def __init__(self) -> None:
        self._data = bytearray(MAGIC)
        self.size = len(self._data)

    def append(self, pieces: list[bytes], size: int) -> None:
        self._data += b"".join(pieces)
        self.size = len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])

    def close(self) -> None: ...

    def remove(self) -> None:
        self._data = bytearray()
        self.size = 0
