"""Files and folders -> records of a spool."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from stepwell import checks
from stepwell.errors import WrongUse
from stepwell.records import File, FileLink

MAX_COPY_BYTES: Final = 1024**3
"""A frame's length has 32 bits."""


def to_records(
    given: str | os.PathLike[str],
    under: str | None,
    copy_bytes: int,
    wrong: Callable[[WrongUse], None],
) -> Iterator[File | FileLink]:
    """A file, or each file of a folder: copied up to ``copy_bytes``, else by reference."""
    try:
        path = Path(given)
    except TypeError:
        raise WrongUse(f"an artifact is a path, not {type(given).__name__}", "artifact") from None
    if not os.fspath(given):  # for pathlib that is the current folder, with all that is in it
        raise WrongUse("an artifact's path is empty", "artifact")
    prefix = f"{_place(under)}/" if under else ""

    def failed(source: object, error: OSError | ValueError) -> None:
        reason = getattr(error, "strerror", None) or error
        wrong(WrongUse(f"artifact {source}: {reason}", "artifact"))

    files = _walk(path, failed) if path.is_dir() else iter([(path, path.name)])
    for source, name in files:
        try:
            yield _record(source, prefix + name, copy_bytes)
        except WrongUse as error:
            wrong(error)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            failed(source, error)


def _walk(root: Path, failed: Callable[[object, OSError], None]) -> Iterator[tuple[Path, str]]:
    """Each file below a folder, with its path from there; links to folders are not followed."""
    walk = os.walk(root, onerror=lambda error: failed(error.filename, error))
    for folder, folders, names in walk:
        folders.sort()
        for name in sorted(names):
            source = Path(folder, name)
            yield source, source.relative_to(root).as_posix()


def _record(source: Path, name: str, copy_bytes: int) -> File | FileLink:
    name = checks.text("artifact path", name)
    if not stat.S_ISREG(source.stat().st_mode):
        text = f"artifact {source}: no regular file"  # opening a pipe would block
        raise WrongUse(text, "artifact")
    try:
        with source.open("rb") as file:
            seen = os.fstat(file.fileno())
            if seen.st_size <= min(copy_bytes, MAX_COPY_BYTES):
                return File(name, file.read(MAX_COPY_BYTES))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        seen = source.stat()  # too many open files: it is read when there are fewer
    return FileLink(name, str(source.absolute()), seen.st_size, seen.st_mtime_ns)


def _place(given: str) -> str:
    """A relative path without ``.`` or ``..``.  Raises WrongUse."""
    given = checks.text("artifact path", given)
    parts = [part for part in given.replace("\\", "/").split("/") if part]
    if given.startswith("/") or not parts or any(part in (".", "..") for part in parts):
        text = f"an artifact path is relative and stays below the run: {given!r}"
        raise WrongUse(text, "artifact path")
    return "/".join(parts)
