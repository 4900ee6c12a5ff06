"""What a run printed: lines in compressed blocks, numbered from 0."""

import zlib
from collections.abc import Sequence

import msgspec
import zstandard

from stepwell_storage import cursors
from stepwell_storage.database import Reader, Transaction
from stepwell_storage.errors import Conflict, Corrupt
from stepwell_storage.records import ConsoleLine, ConsolePage
from stepwell_storage.runs import RunState
from stepwell_storage.statements import sql

_BLOCKS_PER_READ = 256
_MAX_BLOCK_BYTES = 64 * 1024 * 1024


async def append(tx: Transaction, run: RunState, lines: Sequence[ConsoleLine]) -> int:
    """How many lines were appended.  Raises Conflict for a deleted run."""
    if run.deleted:
        raise Conflict(f"run {run.run_id} is deleted; restore it to log into it")
    if lines:
        first = (await tx.fetch(sql.console_end, (run.id,)))[0][0]
        await tx.execute(sql.append_console, (run.id, first, len(lines), _pack(lines)))
    return len(lines)


async def page(
    reader: Reader, run: int, *, cursor: str | None, tail: int | None, limit: int
) -> ConsolePage:
    """Lines from the cursor on, or the last ``tail`` ones, or from the beginning.

    The next cursor is null where no line follows yet.
    """
    total = (await reader.fetch(sql.console_end, (run,)))[0][0]
    first = 0
    if cursor:
        first = cursors.decode("console", cursor)[0]
    elif tail is not None:
        first = max(0, total - tail)
    lines: list[tuple[int, str, int, str]] = []
    position = first
    while len(lines) < limit and position < total:
        rows = await reader.fetch(sql.console_from, (run, position, _BLOCKS_PER_READ))
        for start, count, payload in rows:
            block = enumerate(unpack(payload, run=run, first_line=start), start)
            lines += [(number, *line) for number, line in block if number >= position]
            position = start + count
        if not rows:
            break
    lines = lines[:limit]
    end = lines[-1][0] + 1 if lines else first
    return ConsolePage(lines, cursors.encode("console", end) if end < total else None, total)


def _pack(lines: Sequence[ConsoleLine]) -> bytes:
    body = zstandard.compress(msgspec.msgpack.encode([tuple(line) for line in lines]), 3)
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(payload: bytes, **place: object) -> list[tuple[str, int, str]]:
    """The lines of a block.  Raises Corrupt."""
    body, crc = payload[:-4], int.from_bytes(payload[-4:], "little")
    if len(payload) < 5 or zlib.crc32(body) != crc:
        raise Corrupt("a block of console lines is damaged", **place)
    raw = zstandard.decompress(body, max_output_size=_MAX_BLOCK_BYTES)
    return msgspec.msgpack.decode(raw, type=list[tuple[str, int, str]])
