"""An artifact's SHA-256 beside its bytes, so that verify knows whether they are still the same.

It is an extended attribute: set before the file is synced and gets its name, as durable as the
bytes, and gone with them; no row has to agree with a file.  Where the file system has no such
attributes, or a copy was made without them, there is none, and nothing to compare.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ATTRIBUTE: Final = "user.stepwell.sha256"
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def seal(fd: int, digest: str) -> None:
    """Note the SHA-256 (hex) of an open file, where that can be noted."""
    with contextlib.suppress(OSError, AttributeError):  # not every system has it
        os.setxattr(fd, ATTRIBUTE, digest.encode())


def seal_of(fd: int) -> str | None:
    """What was noted of an open file."""
    try:
        return os.getxattr(fd, ATTRIBUTE).decode(errors="replace")
    except (OSError, AttributeError):
        return None


@dataclass(slots=True)
class Seals:
    """Of some files: how many there are, how many of them have nothing to compare with, and the
    path and what is wrong of each that is not as it was stored."""

    files: int = 0
    unsealed: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)


def check_seals(folder: Path) -> Seals:
    """Read every file below ``folder``.

    Beside a running server, too: a file that has its name is never written again.
    """
    found = Seals()

    def unreadable(path: str | bytes | Path, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # deleted meanwhile
            name = Path(os.fsdecode(path)).relative_to(folder).as_posix()
            found.broken.append((name, f"cannot be read: {error.strerror}"))

    if folder.is_symlink():
        found.broken.append((".", "is a link: nothing behind it is served"))
        return found
    for place, folders, names in os.walk(folder, onerror=lambda e: unreadable(e.filename, e)):
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in sorted(names + links):
            path = Path(place, name)
            try:
                _check(path, path.relative_to(folder).as_posix(), found)
            except OSError as error:
                unreadable(path, error)
    return found


def _check(path: Path, name: str, found: Seals) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):  # which is never served either
        found.broken.append((name, "is no file: no upload made it"))
        return
    fd = os.open(path, _READ)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        found.files += 1
        noted = seal_of(fd)
        if noted is None:
            found.unsealed += 1
        elif hashlib.file_digest(file, "sha256").hexdigest() != noted:
            found.broken.append((name, "its bytes are not those that were stored"))
