"""Who owns a spool folder: a kernel lock says so, for exactly as long as its process lives.

``flock`` on the file ``owner``.  On NFS, Linux turns it into a byte-range lock, hence the file is
open for writing.  Where the file system has no locks, the file's text decides: host, process id
and that process's start time.  Never an age: a stopped process still owns its spool.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import msgspec

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: the text of the file decides
    fcntl = None  # type: ignore[assignment]


class Owner(msgspec.Struct):
    """What the file says: ``host`` with boot id and pid namespace, where the system has them."""

    host: str
    pid: int
    started: str | None


class Ownership:
    """A held ``owner`` file.  A forked child calls :meth:`forget`, which leaves the lock alone."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def release(self) -> None:
        """Let the folder go; another process may take it at once."""
        self.forget()

    def forget(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def take(path: Path, *, create: bool = False) -> Ownership | None:
    """The ownership of ``path``, or None while a living process has it.

    Raises OSError where the file cannot be opened.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        if _lock(fd, create=create) and _is_still_there(fd, path):
            os.ftruncate(fd, 0)
            os.pwrite(fd, msgspec.json.encode(_myself()), 0)
            return Ownership(path, fd)
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
    if owner.host != _host():
        return True
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return owner.started is None or owner.started == _start_of(owner.pid)


def _myself() -> Owner:
    return Owner(_host(), os.getpid(), _start_of(os.getpid()))


def _host() -> str:
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {boot} {namespace}".strip()


def _start_of(pid: int) -> str | None:
    """The process's start in clock ticks since boot: a pid is used again, a pair of both is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
