"""The files of an import: copied one by one, read back, and compared by SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from stepwell_storage.artifacts import OwnedFiles
from stepwell_storage.errors import Conflict, Invalid, NotFound
from stepwell_tracker.porting.local_files import SourceFile

_READ_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Copied:
    """Of all owners.  ``there`` were here already, of the same size."""

    files: int = 0
    bytes: int = 0
    there: int = 0
    elsewhere: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


async def copy(
    owner: str, source: Iterator[SourceFile], target: OwnedFiles, copied: Copied,
    step: Callable[[str, int], None],
) -> None:  # fmt: skip
    """Copy what is not there yet.  What cannot be is told of in ``copied.problems``."""
    while (file := await asyncio.to_thread(next, source, None)) is not None:
        try:
            if file.size is not None and await _size(target, file.path) == file.size:
                copied.there += 1
                size = file.size
            else:
                size = await _put(file, target)
                copied.files += 1
            copied.bytes += size
            step(owner, 1)
        except (Invalid, Conflict, OSError) as error:
            copied.problems.append(f"file {file.path!r} of {owner} is not copied: {error}")


async def _put(file: SourceFile, target: OwnedFiles) -> int:
    stored = await target.put(file.path, _chunks(file), size=file.size)
    if await _digest(target, file.path) != stored.sha256:
        raise OSError("it does not read back as it was written")
    return stored.size


async def _chunks(file: SourceFile) -> AsyncIterator[bytes]:
    chunks = file.read()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def _size(target: OwnedFiles, path: str) -> int | None:
    try:
        async with await target.open(path) as found:
            return found.size
    except NotFound:
        return None


async def _digest(target: OwnedFiles, path: str) -> str:
    digest, offset = hashlib.sha256(), 0
    async with await target.open(path) as found:
        while data := await found.read(offset, _READ_BYTES):
            digest.update(data)
            offset += len(data)
    return digest.hexdigest()
