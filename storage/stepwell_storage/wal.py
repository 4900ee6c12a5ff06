"""Whether SQLite's write-ahead log is damaged, which SQLite itself does not tell.

It takes the log's first frame that does not fit for the end of the log, as a power cut may leave
one there, and forgets all behind it.  But a frame behind a commit is written only once that commit
was synced.  So where a commit has a successor that was computed from its checksum, everything in
front of both had reached the disk, and a frame there that does not fit was changed since.

Nothing can be said of the last transaction: one that a power cut tore looks the same.

The layout is SQLite's (https://sqlite.org/fileformat2.html#walformat): a header of 32 bytes, then
frames of a header of 24 bytes and a page.  Two sums go from each frame into the next.
"""

from __future__ import annotations

import logging
import shutil
import struct
from functools import lru_cache
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from stepwell_storage.backups import sync

logger = logging.getLogger(__name__)

SET_ASIDE: Final = "tenant.db-wal.damaged"
_HEADER: Final = struct.Struct(">8I")  # magic, format, page size, count, two salts, two sums
_MAGIC: Final = 0x377F0682
_HEAD_BYTES: Final = 24
_SUMMED_BYTES: Final = 8
_MASK: Final = np.uint64(0xFFFF_FFFF)
_BLOCK: Final = 128
"""Frames that are summed at once: two megabytes."""
_ATTEMPTS: Final = 10
Sums = npt.NDArray[np.uint64]


def damage(log: Path) -> str:
    """What is wrong with a log, in words; empty where nothing is known to be.

    Beside a running server, too: a log that begins anew meanwhile is looked at again.
    """
    for _ in range(_ATTEMPTS):
        try:
            with log.open("rb") as file:
                head = file.read(_HEADER.size)
                told = _damage(head, file)
                file.seek(0)
                if file.read(_HEADER.size) == head:
                    return told
        except FileNotFoundError:
            return ""
    return ""


def keep_damaged(log: Path) -> None:
    """Copy a log that is damaged before SQLite forgets what lies behind the damage.

    For whoever is about to open the database; raises OSError.
    """
    if not (wrong := damage(log)):
        return
    aside = log.with_name(SET_ASIDE)
    logger.error("%s: %s; it is kept as %s", log.parent.name, wrong, aside.name)
    if not aside.exists():
        partial = log.with_name(f"{SET_ASIDE}.partial")
        shutil.copyfile(log, partial)
        sync(partial)
        partial.rename(aside)
        sync(log.parent)


def _damage(head: bytes, frames: IO[bytes]) -> str:
    if len(head) < _HEADER.size or not any(head):
        return ""
    magic, _, page, *_ = _HEADER.unpack(head)
    order = ">" if magic & 1 else "<"
    sums = _sums(np.frombuffer(head[:24], f"{order}u4").reshape(1, -1), np.zeros((1, 2), np.uint64))
    if magic & ~1 != _MAGIC or tuple(sums[0].tolist()) != _HEADER.unpack(head)[6:]:
        return "the header of its log is damaged: SQLite ignores what was logged"
    size, salts = _HEAD_BYTES + page, np.frombuffer(head[16:24], ">u4")
    last = np.frombuffer(head[24:32], ">u4")
    fits, commits = [np.empty(0, np.bool_)], [np.empty(0, np.bool_)]
    while block := frames.read(_BLOCK * size):
        count = len(block) // size
        raw = np.frombuffer(block, np.uint8, count * size).reshape(count, size)
        heads = np.ascontiguousarray(raw[:, :_HEAD_BYTES]).view(">u4")
        words = np.hstack([raw[:, :_SUMMED_BYTES], raw[:, _HEAD_BYTES:]]).view(f"{order}u4")
        before = np.vstack([last, heads[:, 4:6]])
        sums = _sums(words, before[:-1].astype(np.uint64))
        fits.append((sums == before[1:]).all(axis=1) & (heads[:, 2:4] == salts).all(axis=1))
        commits.append(heads[:, 1] != 0)
        last = before[-1]
    return _told(np.concatenate(fits), np.concatenate(commits))


def _told(fits: npt.NDArray[np.bool_], commits: npt.NDArray[np.bool_]) -> str:
    if fits.all():
        return ""
    first = int(np.argmin(fits))
    proven = commits[first:-1] & fits[first + 1 :]  # synced, as something was written behind it
    proven[1:] &= fits[first + 1 : -1]
    if not proven.any():
        return ""
    ended = commits & (fits | np.append(fits[1:], False))  # the damaged one too, if it was
    lost = int(ended[first:].sum())
    return f"frame {first} of {len(fits)} of its log is damaged: SQLite ignores {lost} commits"


def _sums(words: npt.NDArray[np.uint32], before: Sums) -> Sums:
    """Both sums of each row of words, from those in front of it."""
    weights, shift = _weights(words.shape[1] // 2)
    return (words.astype(np.uint64) @ weights + before @ shift) & _MASK


@lru_cache(4)
def _weights(pairs: int) -> tuple[Sums, Sums]:
    """What each word adds to both sums, and what the sums in front do; all of it modulo 2**32.

    For a pair of words (x, y) it is a += x + b, then b += y + a.
    """
    weights = np.zeros((2 * pairs, 2), np.uint64)
    step = (1, 1, 1, 2)  # what (a, b) become: a + b, a + 2b
    power = (1, 0, 0, 1)
    for pair in range(pairs - 1, -1, -1):
        a, b, c, d = power
        weights[2 * pair] = (a + b) & 0xFFFF_FFFF, (c + d) & 0xFFFF_FFFF
        weights[2 * pair + 1] = b, d
        power = (
            (a * step[0] + b * step[2]) & 0xFFFF_FFFF,
            (a * step[1] + b * step[3]) & 0xFFFF_FFFF,
            (c * step[0] + d * step[2]) & 0xFFFF_FFFF,
            (c * step[1] + d * step[3]) & 0xFFFF_FFFF,
        )
    a, b, c, d = power
    return weights, np.array([[a, c], [b, d]], np.uint64)
