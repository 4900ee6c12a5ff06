"""Journal rows into chunks: what one unit of compaction builds.  Reads only; see writer.seal.

A unit is the oldest journal rows of one run.  Chunks of the same series that overlap the new
points are absorbed, and so are smaller ones right before them once there are some: late points
cost log rewrites, and no crumbs stay.  Both are bounded; readers merge what remains.

A run may have 50,000 series, so nothing is done series by series that can be done to all at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

import numpy as np

from stepwell_storage.codec import NARROW_BELOW, decode_each, encode_each
from stepwell_storage.database import Bind, Reader, in_list
from stepwell_storage.errors import Corrupt
from stepwell_storage.names import pages
from stepwell_storage.payloads import ByKey, Journaled, decode_each as decode_each_row
from stepwell_storage.points import INT64, Ints, Points, to_ordered
from stepwell_storage.statements import sql
from stepwell_storage.stretches import Stretches, gather, merge_each

CHUNK_POINTS = 8_192
CRUMB_POINTS = 512
MAX_UNIT_POINTS = 1_000_000
MAX_UNIT_ROWS = 20_000
MAX_ABSORBED = 64
"""Chunks of one series.  And of all series of a unit as many small ones as keep up with those that
it makes, and no more: thousands of series come to their turn in the same unit."""
MANY_ABSORBED = 4_096
FAN = 4
"""Chunks of a size that become one.  Fewer rewrite a point more often, more stay longer."""
MAX_GROUP_POINTS = 1_000_000
"""Of series that are sealed together, absorbed chunks included."""
MANY_SERIES = 64
"""In a unit of more series, pcodec has to be worth its 0.3 ms a chunk."""
MANY_NARROW_BELOW = 1_024


@dataclass(slots=True)
class NewChunks:
    """The columns of ``insert_chunk`` after the run, one entry a chunk; ``ends`` are six, those of
    the first and the last point."""

    keys: list[int] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    ends: list[list[int]] = field(default_factory=lambda: [[] for _ in range(6)])
    summaries: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, numbers: Sequence[int], run: int) -> Iterator[tuple[Bind, ...]]:
        """Whole rows of the table."""
        columns = (self.keys, self.points, *self.ends, self.summaries, self.data)
        return zip(numbers, repeat(run, len(numbers)), *columns, strict=True)


@dataclass(slots=True)
class Sealed:
    """What a unit built.

    ``corrections`` are (key, duplicates found, journal row up to which the count is exact now).
    ``damaged`` says what could not be read and was left where it is.
    """

    run: int
    journal: list[int] = field(default_factory=list)
    upto: int = 0
    """All of the run's rows up to this number are in the unit, except the damaged ones."""
    points: int = 0
    absorbed: list[int] = field(default_factory=list)
    chunks: NewChunks = field(default_factory=NewChunks)
    corrections: list[tuple[int, int, int]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


class Placed(NamedTuple):
    """A chunk's place in its series: a row of ``chunks_of_run``."""

    key: int
    id: int
    points: int
    first_step: int
    first_timestamp: int
    first_value: int
    last_step: int
    last_timestamp: int
    last_value: int


@dataclass(slots=True)
class Series:
    """One series of a unit: where its new points lie, and what they take along."""

    key: int
    count: int
    places: Sequence[Placed]
    absorbed: list[Placed]

    @property
    def points(self) -> int:
        return self.count + sum(placed.points for placed in self.absorbed)


@dataclass(frozen=True, slots=True)
class Logged:
    """A unit's new points, series by series: ordered, each once."""

    keys: Ints
    points: Points
    series: Stretches
    repeated: Ints
    """How many of each were there more than once."""


async def build(reader: Reader, run: int) -> Sealed:
    """Everything of one unit, read in one snapshot.  Raises nothing for damaged rows."""
    sealed = Sealed(run)
    rows = await _read_unit(reader, run, sealed)
    if not rows:
        return sealed
    logged = _logged(rows)
    rows.clear()
    late = {key for key, _ in await reader.fetch(sql.late_series, (run,))}
    places = await _places(reader, run, logged.keys.tolist())
    work = _Sealing(reader, sealed, late, narrow_below=_narrow_below(len(logged.keys)))
    start = 0
    for group in _groups(_series(logged, places)):
        await work.seal(group, logged, start)
        start += len(group)
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
    sealed.upto = counted if len(sizes) < MAX_UNIT_ROWS and until == sizes[-1][0] else until
    stored = await reader.fetch(sql.journal_rows, (run, until))
    rows = []
    for (number, points, _), row in zip(
        stored, decode_each_row([payload for *_, payload in stored]), strict=True
    ):
        if isinstance(row, Corrupt):
            sealed.damaged.append(f"journal row {number}: {row.reason}")
            continue
        rows.append(row)
        sealed.journal.append(number)
        sealed.points += points
    return rows


def _logged(rows: Sequence[Journaled]) -> Logged:
    by_key = ByKey.of_rows(rows)
    points, series = merge_each(by_key.points, by_key.series)
    return Logged(by_key.keys, points, series, by_key.series.counts - series.counts)


def _narrow_below(series: int) -> int:
    return NARROW_BELOW if series <= MANY_SERIES else MANY_NARROW_BELOW


async def _places(reader: Reader, run: int, keys: Sequence[int]) -> dict[int, list[Placed]]:
    """The chunks of some series, in order."""
    places: dict[int, list[Placed]] = {}
    for page in pages(keys):
        statement = in_list(sql.chunks_of_run, len(page))
        for placed in map(Placed._make, await reader.fetch(statement, (run, *page))):
            places.setdefault(placed.key, []).append(placed)
    for chunks in places.values():
        chunks.sort(key=_by_first)
    return places


def _by_first(placed: Placed) -> tuple[int, ...]:
    return placed[3:6]


def _by_last(placed: Placed) -> tuple[int, ...]:
    return placed[6:9]


def _series(logged: Logged, places: dict[int, list[Placed]]) -> Iterator[Series]:
    points, series = logged.points, logged.series
    ends = [_positions(points[rows]) for rows in (series.starts, series.ends)]
    left = max(MANY_ABSORBED, 3 * len(series) // 2)
    for key, count, *ends_of in zip(
        logged.keys.tolist(), series.counts.tolist(), *ends, strict=True
    ):
        there = places.get(key)
        if not there:
            yield Series(key, count, (), [])
            continue
        overlapping = _overlapping(there, *ends_of)
        small = _small_before(there, overlapping, ends_of[0], count)[-left:] if left > 0 else []
        left -= len(small)
        yield Series(key, count, there, [*small, *overlapping])


def _positions(points: Points) -> Iterator[tuple[int, int, int]]:
    values = to_ordered(points.values)
    return zip(points.steps.tolist(), points.timestamps.tolist(), values.tolist(), strict=True)


def _overlapping(
    places: Sequence[Placed], first: tuple[int, ...], last: tuple[int, ...]
) -> list[Placed]:
    """The chunks that reach into the new points."""
    if all(placed.last_step < first[0] for placed in places):
        return []
    return [placed for placed in places if _by_last(placed) >= first and _by_first(placed) <= last][
        :MAX_ABSORBED
    ]


def _small_before(
    places: Sequence[Placed], overlapping: Sequence[Placed], first: tuple[int, ...], count: int
) -> Sequence[Placed]:
    """The small chunks right before the new points whose turn it is: as many of about a size as
    make one that is worth it."""
    if overlapping:
        first = min([first, *map(_by_first, overlapping)])
        count += sum(placed.points for placed in overlapping)
    places = [
        placed for placed in places if placed.last_step < first[0] or _by_last(placed) < first
    ]
    taken, room = 0, MAX_ABSORBED - len(overlapping)
    for number, placed in enumerate(reversed(places[max(0, len(places) - room) :]), 1):
        if placed.points >= CHUNK_POINTS:
            break
        if placed.points * (FAN - 1) <= count:
            taken = number
        count += placed.points
    return places[len(places) - taken :]


def _groups(series: Iterator[Series]) -> Iterator[list[Series]]:
    """Series that are sealed together: as many as fit into memory."""
    group: list[Series] = []
    points = 0
    for one in series:
        more = one.points
        if group and points + more > MAX_GROUP_POINTS:
            yield group
            group, points = [], 0
        group.append(one)
        points += more
    if group:
        yield group


class _Sealing:
    """Seals groups of series into ``sealed``."""

    def __init__(
        self, reader: Reader, sealed: Sealed, late: set[int], *, narrow_below: int
    ) -> None:
        self._reader = reader
        self._sealed = sealed
        self._late = late
        self._narrow_below = narrow_below

    async def seal(self, group: list[Series], logged: Logged, start: int) -> None:
        """``start`` is the number of the group's first series among those logged."""
        part = slice(start, start + len(group))
        counts = logged.series.counts[part]
        first_row = int(logged.series.starts[start])
        points = logged.points[first_row : first_row + int(counts.sum())]
        owners, sizes, loaded = await self._load(group)
        if len(owners):  # in front, where most of them belong
            owners = np.concatenate([owners, np.arange(len(group))])
            counts = np.concatenate([sizes, counts])
            loaded = Points.concat([loaded, points])
            _, gathered, points = gather(owners, Stretches.of(counts), loaded)
            counts = gathered.counts
        points, series = merge_each(points, Stretches.of(counts))
        pieces, chunks = split(series.counts)
        self._add(group, points, pieces, chunks)
        self._correct(group, counts - series.counts + logged.repeated[part], pieces)

    async def _load(self, group: list[Series]) -> tuple[Ints, Ints, Points]:
        """The absorbed chunks: the number of the series of each, its points and all of them.

        Where one is damaged it stays where it is, and its series' new points get their own.
        """
        data: dict[int, bytes] = {}
        for page in pages([placed.id for one in group for placed in one.absorbed]):
            data.update(await self._reader.fetch(in_list(sql.chunk_data, len(page)), page))
        while True:
            wanted = [(number, placed.id) for number, one in enumerate(group)
                      for placed in one.absorbed]  # fmt: skip
            try:
                points, sizes = decode_each([data[chunk] for _, chunk in wanted])
            except Corrupt as error:
                one = group[wanted[int(str(error.place["index"]))][0]]
                self._sealed.damaged.append(f"key {one.key}: {error.reason}")
                one.absorbed = []
                continue
            return np.array([number for number, _ in wanted], INT64), sizes, points

    def _add(self, group: list[Series], points: Points, pieces: Ints, chunks: Stretches) -> None:
        sealed = self._sealed
        sealed.absorbed += [placed.id for one in group for placed in one.absorbed]
        into = sealed.chunks
        into.keys += np.repeat([one.key for one in group], pieces).tolist()
        into.points += chunks.counts.tolist()
        for columns, rows in ((into.ends[:3], chunks.starts), (into.ends[3:], chunks.ends)):
            for column, more in zip(
                columns, zip(*_positions(points[rows]), strict=True), strict=True
            ):
                column += more
        for data, summary in encode_each(points, chunks, narrow_below=self._narrow_below):
            into.data.append(data)
            into.summaries.append(summary)

    def _correct(self, group: list[Series], gone: Ints, pieces: Ints) -> None:
        """Counts that are too high, and those that are known to be exact from now on."""
        sealed, into = self._sealed, self._sealed.chunks
        newest = sealed.upto
        ends = len(into) - int(pieces.sum()) + np.cumsum(pieces)
        for number, one in enumerate(group):
            is_late = one.key in self._late
            if not is_late and not gone[number]:
                continue
            new = range(int(ends[number] - pieces[number]), int(ends[number]))
            absorbed = {placed.id for placed in one.absorbed}
            left = [placed for placed in one.places if placed.id not in absorbed]
            left += [
                Placed(one.key, 0, into.points[chunk], *[column[chunk] for column in into.ends])
                for chunk in new
            ]
            disjoint = is_disjoint(left)
            if gone[number] or disjoint:
                exact_until = newest if disjoint else 0
                sealed.corrections.append((one.key, int(gone[number]), exact_until))


def split(counts: Ints) -> tuple[Ints, Stretches]:
    """Pieces of 8,192 points; a rest that would be a crumb goes with the last of them.

    How many each of the series falls into, and all of the pieces.
    """
    full = np.maximum(0, (counts - CRUMB_POINTS) // CHUNK_POINTS)
    pieces = full + 1
    sizes = np.full(int(pieces.sum()), CHUNK_POINTS, INT64)
    sizes[np.cumsum(pieces) - 1] = counts - CHUNK_POINTS * full
    return pieces, Stretches.of(sizes)


def is_disjoint(chunks: Sequence[Placed]) -> bool:
    """Whether no point of one chunk lies within another."""
    ordered = sorted(chunks, key=_by_first)
    return all(
        _by_last(before) < _by_first(after)
        for before, after in zip(ordered, ordered[1:], strict=False)
    )
