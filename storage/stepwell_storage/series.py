"""Reading series: their statistics, their points in order, and charts of them.

A series is its chunks and the journal's tail, merged.  Chunks are mostly disjoint; where some are
not, they are merged as they are read, so what a reader sees does not depend on compaction.
"""

import asyncio
from collections.abc import Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from typing import Any

from stepwell_storage import cursors
from stepwell_storage.charts import Blocks, bucket
from stepwell_storage.codec import decode as decode_chunk
from stepwell_storage.database import Reader
from stepwell_storage.errors import Corrupt, LimitExceeded
from stepwell_storage.names import pages
from stepwell_storage.points import Ints, Points, after, merge, unordered
from stepwell_storage.records import Position, SeriesPage, SeriesStats
from stepwell_storage.runs import RunState
from stepwell_storage.shared import INT64_MAX, Gathered, Piece, Place, Shared, Steps
from stepwell_storage.statements import sql
from stepwell_storage.summaries import BLOCK

_CHUNKS_PER_READ = 64
_FEW_CHUNKS = 2
"""Up to so many are decoded where they are; more leave the event loop free."""
_SERIES_AT_ONCE = 16
"""Series whose summaries are read together: of a million points each 2 MB."""
_MOST_OF = 2
"""Names for each series of a run up to which its page is found by walking the names."""
_by_first = attrgetter("first")


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


class Series:
    """One series in one snapshot.  Raises Corrupt, with ``place``, where it is damaged."""

    def __init__(self, shared: Shared, run: int, key: str, place: dict[str, object]) -> None:
        self._run = run
        self._name = key
        self._place = place
        self._shared = shared

    async def points(self, steps: Steps) -> Points:
        """Every point within the steps."""
        return await self._merged(await self._pieces(steps), steps)

    async def page(self, steps: Steps, cursor: str | None, limit: int) -> HistoryPage:
        """At most ``limit`` points after the cursor."""
        seen = Position(*cursors.decode("history", cursor)) if cursor else None
        if seen is not None:
            steps = Steps(max(steps.start, seen.step), steps.end)
        pieces = await self._pieces(steps)
        if seen is not None:
            pieces = [piece for piece in pieces if piece.last > seen]
        wanted, horizon = _prefix(pieces, steps, seen, limit)
        points = await self._merged(wanted, steps)
        if seen is not None:
            points = after(points, seen)
        if horizon is not None:  # what is beyond may be incomplete
            points = points[: len(points) - len(after(points, Position(*horizon)))]
        if len(points) <= limit and horizon is None:
            return HistoryPage(points, None)
        if not len(points):  # chunks that begin at one place: rare, and not to be paged
            points = await self._merged(pieces, steps)
            points = points if seen is None else after(points, seen)
        points = points[:limit]
        return HistoryPage(points, cursors.encode("history", *points.position(-1)))

    async def chart(self, run_id: str, steps: Steps, max_points: int | None) -> Chart:
        """At most ``max_points`` points that keep every extreme, of what the shared gathered."""
        key = await self._shared.number(self._name)
        if key is None:
            return Chart(run_id, self._name, Points.empty(), None, 0)
        gathered, tail = self._shared.gathered(self._run, key), await self._tail(key, steps)
        if max_points is None:
            points = await self._merged(_in_order(gathered.pieces, tail), steps)
            return Chart(run_id, self._name, points, None, len(points))
        found = await self._points_or_blocks(gathered, tail, steps, max_points)
        if isinstance(found, Points):
            return Chart(run_id, self._name, found, None, len(found))
        chart, counts = bucket(found, _buckets(max_points))
        return Chart(run_id, self._name, chart, counts, int(counts.sum()))

    async def _points_or_blocks(
        self, gathered: Gathered, tail: Points, steps: Steps, max_points: int
    ) -> Points | Blocks:
        """All points where that are no more than a chart may have, else blocks of them."""
        few = _few(max_points)
        if gathered.points >= few and gathered.in_line(steps, tail):
            parts = [self._summaries([(row[2], row[10]) for row in gathered.rows])]
            return Blocks.concat([*parts, Blocks.of(tail)] if len(tail) else parts)
        pieces = _in_order(gathered.pieces, tail)
        whole = {piece.chunk: piece.points for piece in pieces if _is_whole(piece, steps)}
        if sum(whole.values()) >= few:
            return await self._blocks(pieces, whole, steps)
        points = await self._merged(pieces, steps)
        if len(points) <= max_points:
            return points
        size = -(-len(points) // _buckets(max_points))
        return Blocks.of(points, min(size, BLOCK))

    async def _merged(self, pieces: Sequence[Piece], steps: Steps) -> Points:
        return steps.cut(merge(await self._load(pieces)))

    # --- pieces --------------------------------------------------------------------------------

    async def _pieces(self, steps: Steps) -> list[Piece]:
        """The chunks and the tail that reach into the steps, in order of their first points."""
        key = await self._shared.number(self._name)
        if key is None:
            return []
        chunks = await self._shared.places(self._run, key, steps)
        return _in_order(chunks, await self._tail(key, steps))

    async def _tail(self, key: int, steps: Steps) -> Points:
        try:
            return steps.cut(await self._shared.tail(self._run, key))
        except Corrupt as error:
            raise Corrupt(error.reason, **self._place, where="journal") from error

    async def _load(self, pieces: Sequence[Piece]) -> list[Points]:
        loaded: dict[int, Points] = {}
        chunks = [piece.chunk for piece in pieces if piece.tail is None]
        for numbers in pages(chunks, _CHUNKS_PER_READ):
            rows = await self._shared.data(numbers)
            if len(rows) > _FEW_CHUNKS:
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

    async def _blocks(self, pieces: Sequence[Piece], whole: Container[int], steps: Steps) -> Blocks:
        """Blocks of all points, in order: from summaries where a chunk lies alone and inside."""
        parts: list[Blocks] = []
        alone: list[tuple[int, bytes]] = []
        for cluster in clusters(pieces):
            if len(cluster) == 1 and cluster[0].chunk in whole and cluster[0].tail is None:
                alone.append((cluster[0].chunk, cluster[0].summary))
                continue
            if alone:
                parts.append(self._summaries(alone))
            alone = []
            points = await self._merged(cluster, steps)
            if len(points):
                parts.append(Blocks.of(points))
        return Blocks.concat([*parts, self._summaries(alone)] if alone else parts)

    def _summaries(self, chunks: Sequence[tuple[int, bytes]]) -> Blocks:
        """Blocks of chunks, given as number and summary, at least one."""
        try:
            return Blocks.of_summaries([summary for _, summary in chunks])
        except Corrupt as error:
            chunk = chunks[int(str(error.place.get("index", 0)))][0]
            raise Corrupt(error.reason, **self._place, chunk=chunk) from error


@dataclass(frozen=True, slots=True)
class ChartQuery:
    """``max_points`` None asks for every point; beyond ``most`` points in all it is refused."""

    keys: Sequence[str]
    steps: Steps
    max_points: int | None
    most: int = INT64_MAX


async def charts(
    read: Callable[[], AbstractAsyncContextManager[Reader]],
    tenant: str,
    runs: Sequence[RunState],
    query: ChartQuery,
) -> list[Chart]:
    """Every pair of a run and a key that has points.  Raises Corrupt and LimitExceeded.

    A snapshot for some runs at a time: each is consistent, and none is held for long.
    """
    found: list[Chart] = []
    left = query.most
    few = INT64_MAX if query.max_points is None else _few(query.max_points)
    for some_runs in pages(runs, max(1, _SERIES_AT_ONCE // max(1, len(query.keys)))):
        async with read() as reader:
            shared = Shared(reader, query.keys)
            for some_keys in pages(query.keys, _SERIES_AT_ONCE):
                await shared.gather([run.id for run in some_runs], some_keys, query.steps, few)
                for run, key in product(some_runs, some_keys):
                    series = Series(shared, run.id, key, place(tenant, run.run_id, key))
                    chart = await series.chart(run.run_id, query.steps, query.max_points)
                    left -= len(chart.points)
                    if left < 0:
                        raise too_many(query.most)
                    found.append(chart)
                    await asyncio.sleep(0)  # a large request lets the others in
    return [chart for chart in found if chart.count]


def place(tenant: str, run_id: str, key: str) -> dict[str, object]:
    """Where a series is, as an error says it."""
    return {"tenant": tenant, "run": run_id, "series": key}


def too_many(most: int) -> LimitExceeded:
    return LimitExceeded(
        "max_points",
        f"this is more than {most} points: ask for fewer series or points, or page through the"
        " histories",
    )


def _in_order(chunks: Sequence[Piece], tail: Points) -> list[Piece]:
    """The chunks and the tail, if it has points, in order of their first points."""
    pieces = list(chunks)
    if len(tail):
        pieces.append(Piece(tail.position(0), tail.position(-1), len(tail), 0, tail))
    return sorted(pieces, key=_by_first)


def _is_whole(piece: Piece, steps: Steps) -> bool:
    """Whether it is a chunk that lies within the steps."""
    return piece.tail is None and piece.first[0] >= steps.start and piece.last[0] <= steps.end


def _buckets(max_points: int) -> int:
    return max(1, max_points // 4)


def _few(max_points: int) -> int:
    """Points in whole chunks from which on their summaries are as fine as a chart needs."""
    return BLOCK * _buckets(max_points) // 2


def _prefix(
    pieces: Sequence[Piece], steps: Steps, seen: Position | None, limit: int
) -> tuple[list[Piece], Place | None]:
    """The pieces to read for one page, and the first point of those left unread."""
    wanted: list[Piece] = []
    sure = 0
    for piece in pieces:
        if sure > limit:
            return wanted, piece.first
        wanted.append(piece)
        # Only a piece that lies wholly in the range gives as many points as it has.
        if piece.first[0] >= steps.start and piece.last[0] <= steps.end:
            sure += piece.points if seen is None or piece.first > seen else 0
    return wanted, None


def clusters(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces in order, those that overlap together."""
    found: list[list[Piece]] = []
    reach: Place | None = None
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
    total, names = (await reader.fetch(sql.series_share, (run,)))[0]
    by_name = names <= _MOST_OF * total
    statement = sql.series_page_by_name if by_name else sql.series_page
    rows = await reader.fetch(statement, (run, prefix, upper, after_text, limit + 1))
    if prefix:
        total = (await reader.fetch(sql.count_series, (run, prefix, upper)))[0][0]
    found = [_stats(row) for row in rows[:limit]]
    more = len(rows) > limit
    return SeriesPage(found, cursors.encode("series", found[-1].key) if more else None, total)


async def keys(reader: Reader, run: int) -> list[str]:
    """The names of all of a run's series, sorted: a tenth of what their statistics cost."""
    return [key for (key,) in await reader.fetch(sql.series_keys, (run,))]


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
