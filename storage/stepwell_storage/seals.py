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
from collections.abc import Iterator
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


def broken_seals(folder: Path) -> Iterator[tuple[str, str]]:
    """Path below ``folder`` and what is wrong, of each file that is not as it was stored.

    Beside a running server, too: a file that has its name is never written again.
    """
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(place, name)
            try:
                if wrong := _wrong(path):
                    yield path.relative_to(folder).as_posix(), wrong
            except FileNotFoundError:
                continue  # deleted meanwhile
            except OSError as error:
                yield path.relative_to(folder).as_posix(), f"cannot be read: {error.strerror}"


def _wrong(path: Path) -> str:
    if path.is_symlink():
        return ""  # nothing that an upload made
    fd = os.open(path, _READ)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        noted = seal_of(fd)
        if noted is None or not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        same = hashlib.file_digest(file, "sha256").hexdigest() == noted
    return "" if same else "its bytes are not those that were stored"
