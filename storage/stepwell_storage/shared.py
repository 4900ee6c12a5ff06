"""What the series of one request share: a snapshot, and what is read for many of them at once.

A statement costs two switches of threads, as much as the summaries of thirty chunks: what charts
need of some runs and some keys is read by one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from operator import lt
from typing import Any, NamedTuple

from stepwell_storage.database import Reader, in_list
from stepwell_storage.names import pages
from stepwell_storage.payloads import ByKey, extract
from stepwell_storage.points import Points, between, merge
from stepwell_storage.statements import sql

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_CHUNKS_PER_READ = 64
_MAX_GATHERED_POINTS = 1 << 20
"""Of chunks whose data is read before the turn of their series: a few MB."""
_ROWS_AT_ONCE = 64
"""Journal rows beyond which looking for a key in them leaves the event loop free."""

Place = tuple[int, int, int]
"""Step, timestamp and ordered value of a point: a Position, as its row has it."""


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


class Piece(NamedTuple):
    """A chunk's place, or the journal's tail, which is at hand already."""

    first: Place
    last: Place
    points: int
    chunk: int
    tail: Points | None = None
    summary: bytes = b""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The chunks of one series, rows of ``chart_chunks``, in no order."""

    rows: Sequence[tuple[Any, ...]] = ()

    @property
    def points(self) -> int:
        return sum([row[3] for row in self.rows])

    @property
    def pieces(self) -> list[Piece]:
        return [Piece(row[4:7], row[7:10], row[3], row[2], None, row[10]) for row in self.rows]

    def in_line(self, steps: Steps, tail: Points) -> bool:
        """Whether the rows stand in order, each chunk ends at a step before that at which the next
        one or the tail begins, and all lie within the steps.

        So it is, as a rule, and then nothing has to be made of each of thousands of rows.
        """
        firsts = [row[4] for row in self.rows] + tail.steps[:1].tolist()
        lasts = [row[7] for row in self.rows]
        return (
            firsts[0] >= steps.start and lasts[-1] <= steps.end and all(map(lt, lasts, firsts[1:]))
        )


class Shared:
    """Of one request for series of these keys."""

    def __init__(self, reader: Reader, keys: Sequence[str]) -> None:
        self._reader = reader
        self._keys = keys
        self._numbers: dict[str, int] | None = None
        self._payloads: dict[int, list[bytes]] = {}
        self._sorted: dict[int, ByKey] = {}
        self._chunks: dict[tuple[int, int], Gathered] = {}
        self._data: dict[int, bytes] = {}

    async def number(self, key: str) -> int | None:
        if self._numbers is None:
            self._numbers = {}
            for page in pages(self._keys):
                statement = in_list(sql.names_by_text, len(page))
                self._numbers.update(await self._reader.fetch(statement, page))
        return self._numbers.get(key)

    async def gather(
        self, runs: Sequence[int], keys: Sequence[str], steps: Steps, few: int
    ) -> None:
        """Read what charts of these need: where their chunks lie, with the summaries; the data of
        series of at most ``few`` points; the runs' journal.  What was gathered before is forgotten.
        """
        self._chunks, self._data = {}, {}
        self._payloads = {run: rows for run, rows in self._payloads.items() if run in runs}
        self._sorted = {run: by_key for run, by_key in self._sorted.items() if run in runs}
        numbers = [number for key in keys if (number := await self.number(key)) is not None]
        if not numbers:
            return
        await self._read_journal([run for run in runs if run not in self._payloads])
        rows = await self._reader.fetch(
            in_list(sql.chart_chunks, len(runs), len(numbers)),
            (*runs, *numbers, steps.end, steps.start),
        )
        by_series: dict[tuple[int, int], list[tuple[Any, ...]]] = {}
        for row in rows:
            by_series.setdefault(row[:2], []).append(row)
        self._chunks = {series: Gathered(found) for series, found in by_series.items()}
        self._data = dict(await self.data(self._of_few(few)))

    def _of_few(self, few: int) -> list[int]:
        """The chunks of series of few points, as far as their data is not much."""
        chosen: list[int] = []
        room = _MAX_GATHERED_POINTS
        for gathered in self._chunks.values():
            points = gathered.points
            if points <= min(few, room):
                room -= points
                chosen += [row[2] for row in gathered.rows]
        return chosen

    def gathered(self, run: int, key: int) -> Gathered:
        return self._chunks.get((run, key), Gathered())

    async def places(self, run: int, key: int, steps: Steps) -> list[Piece]:
        """The chunks of one series that reach into the steps, without summaries."""
        binds = (run, key, steps.end, steps.start)
        rows = await self._reader.fetch(sql.series_ranges, binds)
        return [Piece(row[2:5], row[5:8], row[1], row[0]) for row in rows]

    async def data(self, chunks: Sequence[int]) -> list[tuple[int, bytes]]:
        """The number and the data of each of some chunks, in no order."""
        found = [(chunk, self._data[chunk]) for chunk in chunks if chunk in self._data]
        if len(found) < len(chunks):
            missing = [chunk for chunk in chunks if chunk not in self._data]
            for page in pages(missing, _CHUNKS_PER_READ):
                found += await self._reader.fetch(in_list(sql.chunk_data, len(page)), page)
        return found

    async def tail(self, run: int, key: int) -> Points:
        """A series' points in the journal, ordered.  Raises Corrupt."""
        if run not in self._payloads:
            await self._read_journal([run])
        payloads = self._payloads[run]
        if len(self._keys) == 1 or not payloads:
            if len(payloads) <= _ROWS_AT_ONCE:
                return _extracted(payloads, key)
            return await asyncio.to_thread(_extracted, payloads, key)
        if run not in self._sorted:
            wanted = list((self._numbers or {}).values())
            self._sorted[run] = await asyncio.to_thread(ByKey.of, payloads, wanted)
        return merge([self._sorted[run].points_of(key)])

    async def _read_journal(self, runs: Sequence[int]) -> None:
        if runs:
            self._payloads.update((run, []) for run in runs)
            statement = in_list(sql.journal_of_runs, len(runs))
            for run, _, payload in await self._reader.fetch(statement, runs):
                self._payloads[run].append(payload)


def _extracted(payloads: Sequence[bytes], key: int) -> Points:
    parts = [extract(payload, key) for payload in payloads]
    return merge([part for part in parts if part is not None])
