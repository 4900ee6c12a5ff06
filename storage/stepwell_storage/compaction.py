"""Journal rows into chunks: what one unit of compaction builds.  Reads only; see writer.seal.

A unit is the oldest journal rows of one run.  Chunks of the same series that overlap the new
points are absorbed, and so are smaller ones right before them: late points cost log rewrites, and
no crumbs stay.  Both are bounded; readers merge what remains.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from stepwell_storage.codec import decode as decode_chunk, encode as encode_chunk
from stepwell_storage.database import Reader, in_list
from stepwell_storage.errors import Corrupt
from stepwell_storage.names import pages
from stepwell_storage.payloads import Journaled, decode as decode_row
from stepwell_storage.points import Points, merge
from stepwell_storage.records import Position
from stepwell_storage.statements import sql

CHUNK_POINTS = 8_192
CRUMB_POINTS = 512
MAX_UNIT_POINTS = 1_000_000
MAX_UNIT_ROWS = 20_000
MAX_ABSORBED = 64


class NewChunk(NamedTuple):
    """The columns of ``insert_chunk`` after the run."""

    key: int
    points: int
    first_step: int
    first_timestamp: int
    first: int
    last_step: int
    last_timestamp: int
    last: int
    summary: bytes
    data: bytes


@dataclass(slots=True)
class Sealed:
    """What a unit built.

    ``corrections`` are (key, duplicates found, journal row up to which the count is exact now).
    ``damaged`` says what could not be read and was left where it is.
    """

    run: int
    journal: list[int] = field(default_factory=list)
    points: int = 0
    absorbed: list[int] = field(default_factory=list)
    chunks: list[NewChunk] = field(default_factory=list)
    corrections: list[tuple[int, int, int]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Placed:
    """A chunk's place in its series."""

    id: int
    count: int
    first: Position
    last: Position


async def build(reader: Reader, run: int) -> Sealed:
    """Everything of one unit, read in one snapshot.  Raises nothing for damaged rows."""
    sealed = Sealed(run)
    rows = await _read_unit(reader, run, sealed)
    if not rows:
        return sealed
    newest = sealed.journal[-1]
    late = {key for key, _ in await reader.fetch(sql.late_series, (run,))}
    series = dict(_by_series(rows))
    places = await _places(reader, run, list(series))
    for key, points in series.items():
        await _seal_series(reader, sealed, (key, newest, key in late), points, places.get(key, []))
    return sealed


async def _read_unit(reader: Reader, run: int, sealed: Sealed) -> list[Journaled]:
    meta = await reader.fetch(sql.meta, ("counted",))
    counted = meta[0][0] if meta else 0
    sizes = await reader.fetch(sql.journal_sizes, (run, counted, MAX_UNIT_ROWS))
    total, until = 0, None
    for number, points in sizes:
        if total and total + points > MAX_UNIT_POINTS:
            break
        total, until = total + points, number
    if until is None:
        return []
    rows = []
    for number, points, payload in await reader.fetch(sql.journal_rows, (run, until)):
        try:
            rows.append(decode_row(payload))
        except Corrupt as error:
            sealed.damaged.append(f"journal row {number}: {error.reason}")
            continue
        sealed.journal.append(number)
        sealed.points += points
    return rows


def _by_series(rows: Sequence[Journaled]) -> Iterator[tuple[int, Points]]:
    """The rows' points series by series, as logged."""
    keys = np.concatenate([row.keys for row in rows])
    counts = np.concatenate([row.counts for row in rows])
    whole = Points(
        np.concatenate([row.steps for row in rows]),
        np.concatenate([row.timestamps for row in rows]),
        np.concatenate([row.values for row in rows]),
    )
    if (keys == keys[0]).all():
        yield int(keys[0]), whole
        return
    owner = np.repeat(keys, counts)
    order = np.argsort(owner, kind="stable")
    owner, whole = owner[order], whole[order]
    starts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
    for start, end in zip(starts, np.append(starts[1:], len(owner)), strict=True):
        yield int(owner[start]), whole[start:end]


async def _places(reader: Reader, run: int, keys: Sequence[int]) -> dict[int, list[Placed]]:
    """The chunks of some series, in order."""
    places: dict[int, list[Placed]] = {}
    for page in pages(keys):
        statement = in_list(sql.chunks_of_run, len(page))
        for key, number, count, *ends in await reader.fetch(statement, (run, *page)):
            placed = Placed(number, count, Position(*ends[:3]), Position(*ends[3:]))
            places.setdefault(key, []).append(placed)
    for chunks in places.values():
        chunks.sort(key=lambda placed: placed.first)
    return places


async def _seal_series(
    reader: Reader,
    sealed: Sealed,
    what: tuple[int, int, bool],
    logged: Points,
    places: list[Placed],
) -> None:
    key, newest, is_late = what
    points, absorbed = merge([logged]), []
    try:
        overlapping = [
            placed
            for placed in places
            if placed.last >= points.position(0) and placed.first <= points.position(-1)
        ][:MAX_ABSORBED]
        if overlapping:
            points = merge([points, *await _load(reader, overlapping)])
            absorbed += overlapping
        while before := _crumb_before(points, places, absorbed):
            points = merge([*await _load(reader, [before]), points])
            absorbed.append(before)
    except Corrupt as error:  # a damaged chunk stays where it is; the new points get their own
        sealed.damaged.append(f"key {key}: {error.reason}")
        points, absorbed = merge([logged]), []
    gone = len(logged) + sum(placed.count for placed in absorbed) - len(points)
    sealed.absorbed += [placed.id for placed in absorbed]
    left = [placed for placed in places if placed not in absorbed]
    for piece in split(points):
        chunk = encode_chunk(piece)
        left.append(Placed(0, len(piece), chunk.first, chunk.last))
        ends = (*chunk.first, *chunk.last)
        sealed.chunks.append(NewChunk(key, len(piece), *ends, chunk.summary, chunk.data))
    if gone or (is_late and is_disjoint(left)):
        sealed.corrections.append((key, gone, newest if is_disjoint(left) else 0))


async def _load(reader: Reader, chunks: Sequence[Placed]) -> list[Points]:
    loaded = []
    for page in pages([placed.id for placed in chunks]):
        for _, data in await reader.fetch(in_list(sql.chunk_data, len(page)), page):
            loaded.append(decode_chunk(data))
    return loaded


def _crumb_before(
    points: Points, places: Sequence[Placed], absorbed: Sequence[Placed]
) -> Placed | None:
    """The chunk right before the points, if it is small beside them."""
    if len(absorbed) >= MAX_ABSORBED:
        return None
    start = points.position(0)
    before = [placed for placed in places if placed.last < start and placed not in absorbed]
    if not before:
        return None
    nearest = max(before, key=lambda placed: placed.last)
    small = nearest.count < CHUNK_POINTS and nearest.count <= 2 * len(points)
    return nearest if small else None


def split(points: Points) -> Iterator[Points]:
    """Pieces of 8,192 points; a rest that would be a crumb goes with the last of them."""
    start, length = 0, len(points)
    while length - start >= CHUNK_POINTS + CRUMB_POINTS:
        yield points[start : start + CHUNK_POINTS]
        start += CHUNK_POINTS
    if start < length:
        yield points[start:]


def is_disjoint(chunks: Sequence[Placed]) -> bool:
    """Whether no point of one chunk lies within another."""
    ordered = sorted(chunks, key=lambda placed: placed.first)
    return all(
        before.last < after.first for before, after in zip(ordered, ordered[1:], strict=False)
    )
