"""Reading series: their statistics, their points in order, and charts of them.

A series is its chunks and the journal's tail, merged.  Chunks are mostly disjoint; where some are
not, they are merged as they are read, so what a reader sees does not depend on compaction.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from stepwell_storage import cursors
from stepwell_storage.charts import Blocks, bucket
from stepwell_storage.codec import decode as decode_chunk
from stepwell_storage.database import Reader, in_list
from stepwell_storage.errors import Corrupt
from stepwell_storage.names import pages
from stepwell_storage.payloads import ByKey, extract
from stepwell_storage.points import Ints, Points, after, between, merge, unordered
from stepwell_storage.records import Position, SeriesPage, SeriesStats
from stepwell_storage.statements import sql
from stepwell_storage.summaries import BLOCK

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_CHUNKS_PER_READ = 64
_ROWS_AT_ONCE = 64
"""Journal rows beyond which looking for a key in them leaves the event loop free."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    points: Points
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Chart:
    """``counts`` None: ``points`` are all points.  Else four a bucket: first, lowest, highest,
    last; where a bucket holds only NaN, lowest and highest are its first and last."""

    run_id: str
    key: str
    points: Points
    counts: Ints | None
    count: int


class Steps(NamedTuple):
    """A range of steps, both ends included."""

    start: int
    end: int

    @classmethod
    def of(cls, start: int | None, end: int | None) -> "Steps":
        return cls(INT64_MIN if start is None else start, INT64_MAX if end is None else end)

    def cut(self, points: Points) -> Points:
        whole = self.start == INT64_MIN and self.end == INT64_MAX
        return points if whole else between(points, self.start, self.end)


class _Piece(NamedTuple):
    """A chunk's place, or the journal's tail, which is at hand already."""

    first: Position
    last: Position
    points: int
    chunk: int
    tail: Points | None = None
    summary: bytes = b""


class Shared:
    """What the series of one request share: a snapshot, the numbers of their keys, and the journal
    rows of their runs, each read once."""

    def __init__(self, reader: Reader, keys: Sequence[str]) -> None:
        self.reader = reader
        self._keys = keys
        self._numbers: dict[str, int] | None = None
        self._payloads: dict[int, list[bytes]] = {}
        self._sorted: dict[int, ByKey] = {}

    async def number(self, key: str) -> int | None:
        if self._numbers is None:
            self._numbers = {}
            for page in pages(self._keys):
                statement = in_list(sql.names_by_text, len(page))
                self._numbers.update(await self.reader.fetch(statement, page))
        return self._numbers.get(key)

    async def tail(self, run: int, key: int) -> Points:
        """A series' points in the journal, ordered.  Raises Corrupt."""
        if run not in self._payloads:
            rows = await self.reader.fetch(sql.journal_of_run, (run,))
            self._payloads[run] = [payload for _, payload in rows]
        payloads = self._payloads[run]
        if len(self._keys) == 1 or not payloads:
            if len(payloads) <= _ROWS_AT_ONCE:
                return _extracted(payloads, key)
            return await asyncio.to_thread(_extracted, payloads, key)
        if run not in self._sorted:
            wanted = list((self._numbers or {}).values())
            self._sorted[run] = await asyncio.to_thread(ByKey.of, payloads, wanted)
        return merge([self._sorted[run].points_of(key)])


def _extracted(payloads: Sequence[bytes], key: int) -> Points:
    parts = [extract(payload, key) for payload in payloads]
    return merge([part for part in parts if part is not None])


class Series:
    """One series in one snapshot.  Raises Corrupt, with ``place``, where it is damaged."""

    def __init__(self, shared: Shared, run: int, key: str, place: dict[str, object]) -> None:
        self._reader = shared.reader
        self._run = run
        self._name = key
        self._place = place
        self._shared = shared

    async def points(self, steps: Steps) -> Points:
        """Every point within the steps."""
        pieces = await self._pieces(steps)
        return steps.cut(merge(await self._load(pieces)))

    async def page(self, steps: Steps, cursor: str | None, limit: int) -> HistoryPage:
        """At most ``limit`` points after the cursor."""
        seen = Position(*cursors.decode("history", cursor)) if cursor else None
        if seen is not None:
            steps = Steps(max(steps.start, seen.step), steps.end)
        pieces = await self._pieces(steps)
        if seen is not None:
            pieces = [piece for piece in pieces if piece.last > seen]
        wanted, horizon = _prefix(pieces, steps, seen, limit)
        points = steps.cut(merge(await self._load(wanted)))
        if seen is not None:
            points = after(points, seen)
        if horizon is not None:  # what is beyond may be incomplete
            points = points[: len(points) - len(after(points, horizon))]
        if len(points) <= limit and horizon is None:
            return HistoryPage(points, None)
        if not len(points):  # chunks that begin at one place: rare, and not to be paged
            points = steps.cut(merge(await self._load(pieces)))
            points = points if seen is None else after(points, seen)
        points = points[:limit]
        return HistoryPage(points, cursors.encode("history", *points.position(-1)))

    async def chart(self, run_id: str, steps: Steps, max_points: int | None) -> Chart:
        """At most ``max_points`` points that keep every extreme."""
        pieces = await self._pieces(steps, summaries=max_points is not None)
        total = sum(piece.points for piece in pieces)
        buckets = max(1, (max_points or total) // 4)
        coarse = [p for p in pieces if p.tail is None and p.first.step >= steps.start]
        coarse = [p for p in coarse if p.last.step <= steps.end]
        inside = sum(piece.points for piece in coarse)
        if max_points is None or total <= max_points or inside < BLOCK * buckets // 2:
            points = steps.cut(merge(await self._load(pieces)))
            if max_points is None or len(points) <= max_points:
                return Chart(run_id, self._name, points, None, len(points))
            size = -(-len(points) // buckets)
            blocks = Blocks.of(points, min(size, BLOCK))
        else:
            blocks = await self._blocks(pieces, {piece.chunk for piece in coarse}, steps)
        chart, counts = bucket(blocks, buckets)
        return Chart(run_id, self._name, chart, counts, int(counts.sum()))

    # --- pieces --------------------------------------------------------------------------------

    async def _pieces(self, steps: Steps, *, summaries: bool = False) -> list[_Piece]:
        """The chunks and the tail that reach into the steps, in order of their first points."""
        key = await self._shared.number(self._name)
        if key is None:
            return []
        statement = sql.series_summaries if summaries else sql.series_ranges
        rows = await self._reader.fetch(statement, (self._run, key, steps.end, steps.start))
        pieces = [
            _Piece(Position(*row[2:5]), Position(*row[5:8]), row[1], row[0], None, *row[8:])
            for row in rows
        ]
        try:
            tail = steps.cut(await self._shared.tail(self._run, key))
        except Corrupt as error:
            raise Corrupt(error.reason, **self._place, where="journal") from error
        if len(tail):
            pieces.append(_Piece(tail.position(0), tail.position(-1), len(tail), 0, tail))
        return sorted(pieces, key=lambda piece: piece.first)

    async def _load(self, pieces: Sequence[_Piece]) -> list[Points]:
        loaded: dict[int, Points] = {}
        chunks = [piece.chunk for piece in pieces if piece.tail is None]
        for numbers in pages(chunks, _CHUNKS_PER_READ):
            rows = await self._reader.fetch(in_list(sql.chunk_data, len(numbers)), numbers)
            if len(rows) > 1:
                loaded.update(await asyncio.to_thread(self._decode, rows))
            else:
                loaded.update(self._decode(rows))
        return [loaded[p.chunk] if p.tail is None else p.tail for p in pieces]

    def _decode(self, rows: Sequence[tuple[int, bytes]]) -> dict[int, Points]:
        decoded = {}
        for number, data in rows:
            try:
                decoded[number] = decode_chunk(data)
            except Corrupt as error:
                raise Corrupt(error.reason, **self._place, chunk=number) from error
        return decoded

    async def _blocks(self, pieces: Sequence[_Piece], whole: set[int], steps: Steps) -> Blocks:
        """Blocks of all points, in order: from summaries where a chunk lies alone and inside."""
        parts: list[Blocks] = []
        alone: list[_Piece] = []
        for cluster in clusters(pieces):
            if len(cluster) == 1 and cluster[0].chunk in whole and cluster[0].tail is None:
                alone.append(cluster[0])
                continue
            parts += self._summaries(alone)
            alone.clear()
            points = steps.cut(merge(await self._load(cluster)))
            if len(points):
                parts.append(Blocks.of(points))
        return Blocks.concat([*parts, *self._summaries(alone)])

    def _summaries(self, chunks: Sequence[_Piece]) -> list[Blocks]:
        if not chunks:
            return []
        try:
            return [Blocks.of_summaries([piece.summary for piece in chunks])]
        except Corrupt as error:
            chunk = chunks[int(str(error.place.get("index", 0)))].chunk
            raise Corrupt(error.reason, **self._place, chunk=chunk) from error


def _prefix(
    pieces: Sequence[_Piece], steps: Steps, seen: Position | None, limit: int
) -> tuple[list[_Piece], Position | None]:
    """The pieces to read for one page, and the first point of those left unread."""
    wanted: list[_Piece] = []
    sure = 0
    for piece in pieces:
        if sure > limit:
            return wanted, piece.first
        wanted.append(piece)
        # Only a piece that lies wholly in the range gives as many points as it has.
        if piece.first.step >= steps.start and piece.last.step <= steps.end:
            sure += piece.points if seen is None or piece.first > seen else 0
    return wanted, None


def clusters(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Pieces in order, those that overlap together."""
    found: list[list[_Piece]] = []
    reach: Position | None = None
    for piece in pieces:
        if reach is not None and piece.first <= reach:
            found[-1].append(piece)
            reach = max(reach, piece.last)
        else:
            found.append([piece])
            reach = piece.last
    return found


async def page(
    reader: Reader, run: int, *, prefix: str, cursor: str | None, limit: int
) -> SeriesPage:
    """A run's series by name, from the statistics."""
    after_text = cursors.decode("series", cursor)[0] if cursor else ""
    upper = prefix + "\U0010ffff" * 8 if prefix else "\U0010ffff" * 8
    rows = await reader.fetch(sql.series_page, (run, prefix, upper, after_text, limit + 1))
    total = (await reader.fetch(sql.count_series, (run, prefix, upper)))[0][0]
    found = [_stats(row) for row in rows[:limit]]
    more = len(rows) > limit
    return SeriesPage(found, cursors.encode("series", found[-1].key) if more else None, total)


def _stats(row: tuple[Any, ...]) -> SeriesStats:
    key, count, late, last_step, last_timestamp, last, low, low_step, high, high_step = row
    return SeriesStats(
        key=key,
        count=count,
        exact=late == 0,
        last_step=last_step,
        last_timestamp=last_timestamp,
        last=unordered(last),
        min=None if low is None else unordered(low),
        min_step=low_step,
        max=None if high is None else unordered(high),
        max_step=high_step,
    )
