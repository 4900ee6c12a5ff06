"""The files of one tenant: ``runs/<run_id>/...`` and ``models/<model_id>/...`` below one root.

Bytes are streamed: an upload goes to a private file of its own, is hashed on the way, synced, and
renamed to its name, so that a name always leads to one whole upload.  File work happens in
threads; memory per transfer is bounded by ``WRITE_BYTES`` and the reader's own request.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import heapq
import os
import stat
import threading
import zlib
from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from stepwell_storage.errors import BadCursor, Full, StorageError
from stepwell_storage.folders import Folders, Parts, disk_errors
from stepwell_storage.paths import check_model_id, check_run_id, split
from stepwell_storage.seals import seal

WRITE_BYTES: Final = 256 * 1024
MAX_ENTRIES_PER_PAGE: Final = 1_000
_CHECK_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What an upload left.  ``sha256`` in lower-case hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder; ``path`` leads there from the owner's root.  ``size`` of files only."""

    path: str
    is_dir: bool
    size: int | None
    modified_at: int


@dataclass(frozen=True, slots=True)
class EntryPage:
    entries: list[Entry]
    next_cursor: str | None


class Artifacts:
    """All files of one tenant.  Nothing is made on disk before the first upload."""

    def __init__(self, root: Path) -> None:
        self._folders = Folders(root)

    def of_run(self, run_id: str) -> OwnedFiles:
        """Raises Invalid("run_id") unless the id has the form of one."""
        return OwnedFiles(self._folders, ("runs", check_run_id(run_id)))

    def of_model(self, model_id: str) -> OwnedFiles:
        """Raises Invalid("model_id") unless the id has the form of one."""
        return OwnedFiles(self._folders, ("models", check_model_id(model_id)))


class OwnedFiles:
    """The files of one run or one model.  Paths are checked by ``paths.split``: Invalid("path")."""

    def __init__(self, folders: Folders, base: Parts) -> None:
        self._folders = folders
        self._base = tuple(base)

    async def put(
        self, path: str, chunks: AsyncIterable[bytes], *, size: int | None = None
    ) -> StoredFile:
        """Store what ``chunks`` yields, replacing a file of that name; it is on disk on return.

        ``size``, where the sender states it, refuses early what cannot fit.  Conflict where a
        folder stands or where a file stands in the way of one; Full.  When ``chunks`` raises or
        the caller is cancelled before the last byte, nothing is left.
        """
        parts = self._base + split(path)
        await asyncio.to_thread(self._folders.require_free, parts)
        if size is not None and size > await asyncio.to_thread(self._folders.free_bytes):
            raise Full(f"the disk has no room for {size} bytes")
        upload = _Upload(self._folders)
        try:
            pending = bytearray()
            async for chunk in chunks:
                pending += chunk
                if len(pending) >= WRITE_BYTES:
                    await asyncio.to_thread(upload.write, pending)
                    pending = bytearray()
            await asyncio.to_thread(upload.write, pending)
            await asyncio.to_thread(upload.place, parts)
        except BaseException:
            with contextlib.suppress(StorageError):  # what stays is swept at the next start
                await asyncio.shield(asyncio.to_thread(upload.discard))
            raise
        return StoredFile(path, upload.size, upload.digest.hexdigest())

    async def open(self, path: str) -> ArtifactFile:
        """A file to read, with ``async with``; NotFound for a folder or nothing."""
        parts = self._base + split(path)
        return await asyncio.to_thread(lambda: ArtifactFile(self._folders.open_file(parts)))

    async def entries(
        self, path: str = "", *, limit: int = MAX_ENTRIES_PER_PAGE, cursor: str | None = None
    ) -> EntryPage:
        """One folder (the root: ``""``), by name; empty where no folder stands.  BadCursor."""
        parts = split(path) if path else ()
        after = "" if cursor is None else _from_cursor(cursor, path)
        return await asyncio.to_thread(self._entries, parts, after, limit)

    async def delete(self, path: str) -> bool:
        """Remove a file or a tree; False where nothing stood."""
        return await asyncio.to_thread(self._folders.delete, self._base + split(path))

    async def delete_all(self) -> bool:
        """Remove every file of the owner; False where there was none."""
        return await asyncio.to_thread(self._folders.delete, self._base)

    def _entries(self, parts: Parts, after: str, limit: int) -> EntryPage:
        prefix = "".join(part + "/" for part in parts)
        try:
            with disk_errors(reading=True), self._folders.opened((*self._base, *parts)) as folder:
                with os.scandir(folder) as found:
                    names = (e.name for e in found if e.name > after and _listed(e))
                    page = heapq.nsmallest(limit + 1, names)
                entries = [e for name in page[:limit] if (e := _entry(prefix, name, folder))]
        except (FileNotFoundError, NotADirectoryError):
            return EntryPage([], None)
        more = len(page) > limit
        return EntryPage(entries, _to_cursor(page[limit - 1], "/".join(parts)) if more else None)


class ArtifactFile:
    """An open file.  Its bytes never change: a later upload makes another file of that name.

    ``modified_at`` in ms; ``version`` names these bytes among all that had this name.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        found = os.fstat(fd)
        self.size = found.st_size
        self.modified_at = found.st_mtime_ns // 1_000_000
        self.version = f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}"

    async def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes; fewer only when the file ends."""
        with disk_errors(reading=True):
            return await asyncio.to_thread(os.pread, self._fd, count, offset)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close  # opened by a thread for a request that was cancelled meanwhile

    async def __aenter__(self) -> ArtifactFile:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Upload:
    """A file on its way in.  The lock makes ``discard`` wait for the thread that still writes."""

    def __init__(self, folders: Folders) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self._folders = folders
        self._lock = threading.Lock()
        self._file: tuple[int, str] | None = None
        self._over = False

    def write(self, data: bytearray) -> None:
        with self._lock, disk_errors():
            if self._over:
                return
            if self._file is None:
                self._file = self._folders.create_incoming()
            self.digest.update(data)
            self.size += len(data)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file[0], rest) :]

    def place(self, parts: Parts) -> None:
        with self._lock, disk_errors():
            if self._over or self._file is None:
                return
            fd, name = self._file
            seal(fd, self.digest.hexdigest())
            os.fsync(fd)
            self._folders.place(name, parts)
            self._over = True
            self._file = None
            os.close(fd)

    def discard(self) -> None:
        """Leave nothing of what was not placed."""
        with self._lock:
            self._over = True
            if self._file is not None:
                fd, name = self._file
                self._file = None
                os.close(fd)
                self._folders.drop_incoming(name)


def _listed(entry: os.DirEntry[str]) -> bool:
    """Files and folders of a legal name: neither links nor what only another program can make."""
    if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
        return False
    return entry.name.isascii() or not any("\ud800" <= char <= "\udfff" for char in entry.name)


def _entry(prefix: str, name: str, folder: int) -> Entry | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    is_dir = stat.S_ISDIR(found.st_mode)
    size = None if is_dir else found.st_size
    return Entry(prefix + name, is_dir, size, found.st_mtime_ns // 1_000_000)


def _to_cursor(name: str, folder: str) -> str:
    raw = name.encode()
    check = zlib.crc32(raw, zlib.crc32(folder.encode())).to_bytes(_CHECK_BYTES)
    return base64.urlsafe_b64encode(check + raw).decode().rstrip("=")


def _from_cursor(cursor: str, folder: str) -> str:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        name = raw[_CHECK_BYTES:].decode()
    except (binascii.Error, ValueError):
        raise BadCursor from None
    if _to_cursor(name, folder) != cursor:
        raise BadCursor
    return name
