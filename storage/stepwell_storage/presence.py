"""Whether a tenant's files are files, and still the ones that were opened.

SQLite waits for ever for a log that is a FIFO, follows a link to another tenant's file, and writes
on into a file that was moved away under it: none of that it tells.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from stepwell_storage.errors import Corrupt, Unreadable

_FILES: Final = ("tenant.db", "tenant.db-wal", "tenant.db-shm", "tenant.db-journal")


def unfit(folder: Path) -> str:
    """What of a tenant's folder is no folder or no file, in words; empty where nothing is.

    The folder may be a link to one, as on another disk; its files may not, since SQLite would keep
    the log where the link leads.  Raises OSError where the disk does not tell.
    """
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return f"{folder.name} is no folder"
    except (FileNotFoundError, NotADirectoryError):
        return f"the folder {folder.name} is a link to nothing" if folder.is_symlink() else ""
    for name in _FILES:
        try:
            mode = (folder / name).lstat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(mode):
            return f"{name} is a link: move the folder and link that, never a file of it"
        if not stat.S_ISREG(mode):
            return f"{name} is no file"
    return ""


def refuse_unfit(folder: Path) -> None:
    """Raises Corrupt, and Unreadable where the disk does not tell."""
    try:
        wrong = unfit(folder)
    except OSError as error:
        raise Unreadable(f"{folder.name} cannot be looked at: {error.strerror}") from error
    if wrong:
        raise Corrupt(wrong, folder=folder)


class Place:
    """The file that a path led to once."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._identity = _identity(self._path)

    def require(self) -> None:
        """Raises Unreadable where the path leads elsewhere by now."""
        try:
            there = _identity(self._path)
        except OSError as error:
            there = None
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                return  # the disk does not tell
        if there != self._identity:
            raise Unreadable(
                f"{Path(self._path).name} was moved or replaced under the server: nothing is "
                "written until it is back in its place, or the server was restarted"
            )


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - at every commit
    return found.st_dev, found.st_ino
