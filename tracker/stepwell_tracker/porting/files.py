"""The files of an import: copied one by one, read back, and compared by SHA-256.

What a file meets here decides what is done:

- where there is none, it is copied;
- where the same bytes are here, it is passed over;
- where others are here as an import left them, it replaces them: it has changed in the source;
- where others are here that no import wrote, they stay.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from stepwell_storage import fingerprints
from stepwell_storage.artifacts import OwnedFiles
from stepwell_storage.errors import Conflict, Invalid, NotFound
from stepwell_storage.imports import Imports
from stepwell_tracker.porting.local_files import SourceFile
from stepwell_tracker.porting.report import Compared

KIND: Final = "files"
_READ_BYTES: Final = 1 << 20
_COPYING: Final = 0


@dataclass(slots=True)
class Copied:
    """Of all owners.  ``there`` were here already."""

    files: int = 0
    bytes: int = 0
    there: int = 0
    elsewhere: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Owner:
    """A run or a model."""

    name: str
    target: OwnedFiles
    imports: Imports

    async def put(self, file: SourceFile) -> str:
        """The SHA-256 of what was read."""
        await self.imports.note_file(self.name, file.path, _COPYING)
        stored = await self.target.put(file.path, _chunks(file), size=file.size)
        await self.imports.note_file(self.name, file.path, _noted(stored.sha256))
        return stored.sha256

    async def wrote(self, path: str, sha256: str) -> bool:
        """Whether a file that is here is as an import left it."""
        return await self.imports.noted_file(self.name, path) in (_COPYING, _noted(sha256))


def _noted(sha256: str) -> int:
    """As the ledger holds it."""
    return int(sha256[:15], 16) or 1


@dataclass(frozen=True, slots=True)
class FileImport:
    """``compared`` hears of both sides' files, and of what cannot be copied."""

    compared: Compared
    copied: Copied
    step: Callable[[str, int], None]

    async def copy(self, owner: Owner, source: Iterator[SourceFile]) -> None:
        """Copy what is not here yet."""
        while (file := await asyncio.to_thread(next, source, None)) is not None:
            try:
                await self._copy(owner, file)
                self.step(owner.name, 1)
            except (Invalid, Conflict, OSError) as error:
                self.compared.source.add(KIND, 1, 0)
                self.compared.problems.append(
                    f"file {file.path!r} of {owner.name} is not copied: {error}"
                )

    async def _copy(self, owner: Owner, file: SourceFile) -> None:
        here = await _stored(owner.target, file.path)
        if here is not None and await _holds(file, here):
            self.copied.there += 1
            told = here.sha256
        elif here is not None and not await owner.wrote(file.path, here.sha256):
            self.compared.changed_here.append(f"file {file.path!r} of {owner.name}")
            return
        else:
            told = await owner.put(file)
            here = await _stored(owner.target, file.path)
            if here is None or here.sha256 != told:
                raise OSError("it does not read back as it was written")
            self.copied.files += 1
        self.copied.bytes += here.size
        self.compared.source.add(KIND, 1, fingerprints.of(owner.name, file.path, told))
        self.compared.here.add(KIND, 1, fingerprints.of(owner.name, file.path, here.sha256))


class _Stored(NamedTuple):
    size: int
    sha256: str


async def _chunks(file: SourceFile) -> AsyncIterator[bytes]:
    chunks = file.read()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def _holds(file: SourceFile, here: _Stored) -> bool:
    if file.size is not None and file.size != here.size:
        return False
    return await _digest(_chunks(file)) == here.sha256


async def _stored(target: OwnedFiles, path: str) -> _Stored | None:
    """A file that is here, read whole."""
    try:
        async with await target.open(path) as found:

            async def chunks() -> AsyncIterator[bytes]:
                offset = 0
                while data := await found.read(offset, _READ_BYTES):
                    yield data
                    offset += len(data)

            return _Stored(found.size, await _digest(chunks()))
    except NotFound:
        return None


async def _digest(chunks: AsyncIterator[bytes]) -> str:
    digest = hashlib.sha256()
    async for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
