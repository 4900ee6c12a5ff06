"""A folder tree that cannot be left: every step goes through a descriptor of the folder above.

No component is ever looked up by a whole path, and no symbolic link is followed below the root
(O_NOFOLLOW at each step), so there is no moment between a check and its use.  Everything here
blocks; artifacts.py calls it from threads.

``<root>/incoming`` holds files that are being uploaded and trees that are being deleted.  It
stands beside the trees, not in them, so no name of a user's can meet it; being in the same file
system, it gives and takes by rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from stepwell_storage.errors import Busy, Conflict, Full, Invalid, NotFound, Unreadable

_INCOMING: Final = "incoming"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEXT_FOLDER: Final = _FOLDER | os.O_NOFOLLOW
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not hang us
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_LIFE: Final = f"{os.getpid():x}-{secrets.token_hex(8)}-"
"""Begins the names in ``incoming`` that this process made; others are leftovers of a crash."""

_MAX_KNOWN: Final = 10_000
Parts = Sequence[str]


@contextlib.contextmanager
def disk_errors(*, reading: bool = False) -> Iterator[None]:
    """The kernel's refusals as Full, Busy and Invalid, an I/O error of a read as Unreadable; other
    OSErrors pass."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EIO and reading:
            raise Unreadable(f"the file cannot be read: {os.strerror(errno.EIO)}") from error
        if error.errno in (*FULL, errno.EIO):
            raise Full(f"the file cannot be written: {os.strerror(error.errno or 0)}") from error
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise Busy("too many files are open") from error
        if error.errno == errno.ENAMETOOLONG:
            raise Invalid("path", "this file system takes no name as long as that") from error
        raise


class Folders:
    """The tree below ``root``, which is made at the first upload and not before.

    ``parts`` are file names (see paths.py), never paths.  Changes of names happen under one lock,
    so that a folder is not pruned while a file is on its way into it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._changing = threading.Lock()
        self._swept = False
        self._named: set[tuple[str, ...]] = set()
        """Folders whose names were synced; one that is there need not be, whoever made it."""
        self._settled: set[tuple[str, ...]] = set()
        """Folders that were synced since anything was last deleted."""

    @contextlib.contextmanager
    def opened(self, parts: Parts, *, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder, made durably with those above it if ``make`` says so.

        FileNotFoundError or NotADirectoryError (a symbolic link is none) where there is no folder.
        """
        fd = os.open(self.root, _FOLDER)
        try:
            for depth, part in enumerate(parts, 1):
                if make:
                    self._make(tuple(parts[:depth]), fd)
                deeper = _step(part, fd)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    def open_file(self, parts: Parts) -> int:
        """A descriptor of a regular file; NotFound for anything else."""
        fd = -1
        try:
            with disk_errors(reading=True), self.opened(parts[:-1]) as folder:
                fd = os.open(parts[-1], _READ, dir_fd=folder)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                raise
        if fd >= 0:
            os.close(fd)
        raise NotFound(f"no file {'/'.join(parts[2:])!r}")

    def require_free(self, parts: Parts) -> None:
        """Conflict where a file can never be placed: cheap, before its bytes are taken."""
        try:
            with disk_errors(), self.opened(parts[:-1]) as folder:
                mode = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise _file_in_the_way(parts) from None
        if stat.S_ISDIR(mode):
            raise _folder_in_the_way(parts)

    def free_bytes(self) -> int:
        """What the file system has left for us; of the nearest folder above that exists."""
        place = self.root
        while not place.exists():
            place = place.parent
        space = os.statvfs(place)
        return space.f_bavail * space.f_frsize

    def create_incoming(self) -> tuple[int, str]:
        """A new file to fill, as descriptor and name: private, empty, outside every tree."""
        with disk_errors(), self._changing:
            self._make_incoming()
            name = _LIFE + secrets.token_hex(8)
            with self.opened((_INCOMING,)) as incoming:
                return os.open(name, _CREATE, 0o600, dir_fd=incoming), name

    def drop_incoming(self, name: str) -> None:
        """Remove a file that ``create_incoming`` made, unless it has been placed."""
        gone = contextlib.suppress(FileNotFoundError)
        with disk_errors(), gone, self.opened((_INCOMING,)) as incoming:
            os.unlink(name, dir_fd=incoming)

    def place(self, name: str, parts: Parts) -> None:
        """Move an incoming file to its name, over the file that stands there, durably."""
        with disk_errors(), contextlib.ExitStack() as stack:
            with self._changing:
                try:
                    incoming = stack.enter_context(self.opened((_INCOMING,)))
                    folder = stack.enter_context(self.opened(parts[:-1], make=True))
                    os.rename(name, parts[-1], src_dir_fd=incoming, dst_dir_fd=folder)
                except NotADirectoryError:
                    raise _file_in_the_way(parts) from None
                except IsADirectoryError:
                    raise _folder_in_the_way(parts) from None
                except BaseException:
                    with contextlib.suppress(OSError):  # the first error is told
                        self._prune(parts[:-1])
                    raise
            os.fsync(folder)

    def delete(self, parts: Parts) -> bool:
        """Remove a file or a whole tree, and the folders that this leaves empty.

        False where nothing stood.  A tree vanishes at once, by rename; its files go after that.
        """
        with disk_errors(), contextlib.ExitStack() as stack:
            with self._changing:
                try:
                    folder = stack.enter_context(self.opened(parts[:-1]))
                    self._settled.clear()
                    trash = self._detach(folder, parts[-1])
                    self._forget(tuple(parts))
                except (FileNotFoundError, NotADirectoryError):
                    self._sync_nearest(tuple(parts[:-1]))
                    return False
                self._prune(parts[:-1], durable=True)
            os.fsync(folder)
            if trash is not None:
                # A move of which a crash keeps only one side may take along what has the name then.
                with self.opened((_INCOMING,)) as incoming:
                    os.fsync(incoming)
                self._burn(trash)
        return True

    def _detach(self, folder: int, name: str) -> str | None:
        """Unlink a file, or move a tree to ``incoming`` and return its name there."""
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(name, dir_fd=folder)
            return None
        trash = _LIFE + secrets.token_hex(8)
        try:
            self._make_incoming()
            with self.opened((_INCOMING,)) as incoming:
                os.rename(name, trash, src_dir_fd=folder, dst_dir_fd=incoming)
        except OSError as error:
            if error.errno not in FULL:
                raise
            shutil.rmtree(name, dir_fd=folder)  # a full disk may refuse the move, never this
            return None
        return trash

    def _burn(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self.opened((_INCOMING,)) as incoming:
            mode = os.stat(name, dir_fd=incoming, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                shutil.rmtree(name, dir_fd=incoming)
            else:
                os.unlink(name, dir_fd=incoming)

    def _sync_nearest(self, parts: tuple[str, ...]) -> None:
        """Make it durable that nothing stands there: the sync after its removal may have failed."""
        gone = FileNotFoundError, NotADirectoryError
        with contextlib.suppress(*gone):
            self._settle((_INCOMING,))
        for depth in range(len(parts), -1, -1):
            with contextlib.suppress(*gone):
                self._settle(parts[:depth])
                return

    def _settle(self, parts: tuple[str, ...]) -> None:
        with self.opened(parts) as folder:
            if parts not in self._settled:
                os.fsync(folder)
        _remember(self._settled, parts)

    def _make(self, parts: tuple[str, ...], above: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(parts[-1], 0o700, dir_fd=above)
        if parts not in self._named:
            os.fsync(above)
            _remember(self._named, parts)

    def _forget(self, gone: tuple[str, ...]) -> None:
        """A folder is gone: one of its name would be another."""
        for parts in [one for one in self._named if one[: len(gone)] == gone]:
            self._named.discard(parts)

    def _prune(self, parts: Parts, *, durable: bool = False) -> None:
        """Remove the empty ones among the folders ``parts`` leads through, the deepest first.

        Raises OSError where a removal was to be ``durable`` and its sync failed.
        """
        for depth in range(len(parts), 0, -1):
            try:
                with self.opened(parts[: depth - 1]) as above:
                    if not _remove_empty(parts[depth - 1], above):
                        return
                    self._forget(tuple(parts[:depth]))
                    if durable:
                        os.fsync(above)
            except FileNotFoundError:
                continue

    def _make_incoming(self) -> None:
        """Make the root and ``incoming``; the first time, empty it of what a crash left."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if () not in self._named:
            _sync(self.root.parent)
            self._named.add(())
        with self.opened(()) as root, contextlib.suppress(FileExistsError):
            os.mkdir(_INCOMING, 0o700, dir_fd=root)
            os.fsync(root)
        if not self._swept:
            with self.opened((_INCOMING,)) as incoming, os.scandir(incoming) as found:
                leftovers = [entry.name for entry in found if not entry.name.startswith(_LIFE)]
            for name in leftovers:
                self._burn(name)
            self._swept = True


def _remove_empty(name: str, above: int) -> bool:
    """Whether the folder is gone.  FileNotFoundError where it was not there."""
    try:
        os.rmdir(name, dir_fd=above)
    except FileNotFoundError:
        raise
    except OSError:  # ENOTEMPTY, most of the time
        return False
    return True


def _remember(known: set[tuple[str, ...]], parts: tuple[str, ...]) -> None:
    if len(known) >= _MAX_KNOWN:
        known.clear()
    known.add(parts)


def _step(part: str, above: int) -> int:
    try:
        return os.open(part, _NEXT_FOLDER, dir_fd=above)
    except OSError as error:
        if error.errno == errno.ELOOP:  # how some systems refuse a link; Linux says ENOTDIR
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), part) from None
        raise


def _sync(folder: Path) -> None:
    fd = os.open(folder, _FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _file_in_the_way(parts: Parts) -> Conflict:
    return Conflict(f"a file stands where {'/'.join(parts[2:])!r} needs a folder")


def _folder_in_the_way(parts: Parts) -> Conflict:
    return Conflict(f"a folder stands at {'/'.join(parts[2:])!r}")
