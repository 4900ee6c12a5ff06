"""Who owns a spool folder: a kernel lock says so, for exactly as long as its process lives.

``flock`` on the file ``owner``.  On NFS, Linux turns it into a byte-range lock, hence the file is
open for writing.  Where the file system has no locks, the file's text decides: host, process id
and that process's start time.  Never an age: a stopped process still owns its spool.
"""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path

import msgspec

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: the text of the file decides
    fcntl = None  # type: ignore[assignment]


BOOT_CHARS = 36
"""A boot id's length; the pid namespace follows it."""
_held: set[tuple[int, int]] = set()
"""The files that this process owns, by device and inode: some file systems' locks belong to a
process, and would let it take its own file twice and lose it with the second."""


class Owner(msgspec.Struct):
    """What the file says.  ``host`` is a name and a machine's id, ``boot`` names the boot and the
    pid namespace; both are empty where the system does not tell.
    """

    host: str
    pid: int
    started: str | None
    boot: str = ""


class Ownership:
    """A held ``owner`` file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._file = _identity(os.fstat(fd))
        _held.add(self._file)

    def release(self) -> None:
        """Let the folder go; another process may take it at once.  A forked child's copy lets go
        of nothing: the lock is its parent's, too.
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _held.discard(self._file)
            os.close(fd)


def take(path: Path, *, create: bool = False) -> Ownership | None:
    """The ownership of ``path``, or None while a living process has it.

    Raises OSError where the file cannot be opened.
    """
    if not create and _identity(path.stat()) in _held:
        return None
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        if _lock(fd, create=create) and _is_still_there(fd, path):
            os.ftruncate(fd, 0)
            os.pwrite(fd, msgspec.json.encode(_myself()), 0)
            return Ownership(fd)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _lock(fd: int, *, create: bool) -> bool:
    """Whether the file is ours now."""
    if fcntl is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # no locks on this file system
        else:
            return True
    return create or not _lives(os.pread(fd, 4096, 0))


def _is_still_there(fd: int, path: Path) -> bool:
    """False if the last owner removed the file between our open and our lock."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _lives(text: bytes) -> bool:
    """Whether the process of an owner file still runs; another host's always may."""
    try:
        owner = msgspec.json.decode(text, type=Owner)
    except msgspec.DecodeError:
        return False  # torn: written by a process that died in the middle
    us = _myself()
    if owner.host != us.host:
        return True
    if owner.boot != us.boot:
        return owner.boot[:BOOT_CHARS] == us.boot[:BOOT_CHARS] or owner.host.endswith(" ")
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return owner.started is None or owner.started == _start_of(owner.pid)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _myself() -> Owner:
    return _process(os.getpid())


@lru_cache(maxsize=1)
def _process(pid: int) -> Owner:
    """Found out once: while the interpreter goes down, nothing can be imported any more."""
    import socket  # a slow import, and a run makes it anyway

    machine = boot = ""
    with contextlib.suppress(OSError):
        machine = Path("/etc/machine-id").read_text("ascii").strip()
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        boot = f"{boot:{BOOT_CHARS}}{Path('/proc/self/ns/pid').readlink()}"
    host = f"{socket.gethostname()} {machine}"
    return Owner(host, pid, _start_of(pid), boot)


def _start_of(pid: int) -> str | None:
    """The process's start in clock ticks since boot: a pid is used again, a pair of both is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
