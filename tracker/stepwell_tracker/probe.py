"""A try at writing, as proof that writes can succeed.

However many ask, at most one try is under way, and none comes sooner than ``REMEMBER_S`` after the
one before: readiness is asked without a token, and a sync costs.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from stepwell_storage.errors import Busy

WITHIN_S: Final = 5.0
REMEMBER_S: Final = 1.0
MIN_FREE_BYTES: Final = 16 * 1024 * 1024
"""Below this a commit is likely to fail, though a few bytes may still be written."""


class Probe:
    def __init__(self) -> None:
        self._try: asyncio.Task[str] | None = None
        self._at = 0.0

    async def check(self, folder: Path) -> None:
        """Raises Busy with what is wrong."""
        now = time.monotonic()
        if self._try is None or (self._try.done() and now - self._at > REMEMBER_S):
            self._try = asyncio.create_task(asyncio.to_thread(_write, folder))
            self._at = now
        try:
            async with asyncio.timeout(WITHIN_S):
                wrong = await asyncio.shield(self._try)
        except TimeoutError:
            wrong = f"the disk has not answered for {WITHIN_S} s"
        if wrong:
            raise Busy(wrong)


def free_bytes(folder: Path) -> int:
    """What the file system of a folder has left for us."""
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def _write(folder: Path) -> str:
    """What is wrong; nothing, if a file could be written and synced."""
    try:
        free = free_bytes(folder)
        if free < MIN_FREE_BYTES:
            return f"the disk is full: {free} bytes are free"
        with tempfile.TemporaryFile(dir=folder, prefix=".ready-") as file:
            file.write(b"ready")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"the data folder cannot be written: {error.strerror}"
    return ""
