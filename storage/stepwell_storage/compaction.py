"""Journal rows into chunks: what one unit of compaction builds.  Reads only; see writer.seal.

A unit is the oldest journal rows of one run, or of many that are small: a transaction each would
cost more than their points.  Chunks of the same series that overlap the new points are absorbed,
and so are smaller ones right before them once there are some: late points cost log rewrites, and
no crumbs stay.  Both are bounded; readers merge what remains.

A run may have 50,000 series, so nothing is done series by series that can be done to all at once.
Within a unit a series is known by its place: that of its key and its run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from stepwell_storage.codec import NARROW_BELOW, decode_each, encode_each
from stepwell_storage.database import Reader, in_list
from stepwell_storage.errors import Corrupt
from stepwell_storage.names import pages
from stepwell_storage.payloads import ByKey, Journaled, decode_each as decode_each_row
from stepwell_storage.places import key_and_run, place
from stepwell_storage.points import INT64, Ints, Points, to_ordered
from stepwell_storage.sealed import Sealed, Taken
from stepwell_storage.statements import sql
from stepwell_storage.stretches import Stretches, gather, merge_each
from stepwell_storage.window import Counted

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


class Placed(NamedTuple):
    """A chunk's place in its series: a row of ``chunks_of_run`` after the key."""

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

    place: int
    count: int
    places: Sequence[Placed]
    absorbed: list[Placed]

    @property
    def points(self) -> int:
        return self.count + sum(placed.points for placed in self.absorbed)


@dataclass(frozen=True, slots=True)
class Logged:
    """A unit's new points, series by series: ordered, each once."""

    places: Ints
    points: Points
    series: Stretches
    repeated: Ints
    """How many of each were there more than once."""


async def build(reader: Reader, runs: Sequence[int]) -> Sealed:
    """Everything of one unit, read in one snapshot.  Raises nothing for damaged rows.

    Of the runs those that fit into a unit, at least one.
    """
    sealed = Sealed()
    rows = await _read_unit(reader, runs, sealed)
    if not rows:
        return sealed
    logged = _logged(rows)
    rows.clear()
    late = await reader.fetch(in_list(sql.late_series, len(runs)), runs)
    chunks = await _chunks(reader, logged.places)
    narrow_below = _narrow_below(len(logged.places))
    work = _Sealing(reader, sealed, {place(*row) for row in late}, narrow_below=narrow_below)
    start = 0
    for group in _groups(_series(logged, chunks)):
        await work.seal(group, logged, start)
        start += len(group)
    return sealed


async def _read_unit(reader: Reader, runs: Sequence[int], sealed: Sealed) -> list[Journaled]:
    """The unit's rows, whose keys are places."""
    counted = (await Counted.read(reader)).upto
    sizes = await reader.fetch(
        in_list(sql.journal_sizes, len(runs)), (*runs, counted, MAX_UNIT_ROWS + 1)
    )
    fitting = _fitting([points for *_, points in sizes])
    upto = dict.fromkeys(runs, counted)
    if fitting < len(sizes):
        upto = {run: counted for run, *_ in sizes[:fitting]}
        (run, last, _), (next_run, *_) = sizes[fitting - 1 : fitting + 1]
        if run == next_run:
            upto[run] = last
    sealed.taken = {run: Taken(number) for run, number in upto.items()}
    rows: list[Journaled] = []
    for number in sorted({*upto.values()}):
        some = [run for run in upto if upto[run] == number]
        stored = await reader.fetch(in_list(sql.journal_rows, len(some)), (*some, number))
        rows += _decoded(stored, sealed)
    return rows


def _fitting(points: Sequence[int]) -> int:
    """How many rows fit into a unit, at least one if any."""
    total = 0
    for number, more in enumerate(points[:MAX_UNIT_ROWS]):
        if total and total + more > MAX_UNIT_POINTS:
            return number
        total += more
    return min(len(points), MAX_UNIT_ROWS)


def _decoded(stored: Sequence[tuple[int, int, int, bytes]], sealed: Sealed) -> Iterator[Journaled]:
    decoded = decode_each_row([payload for *_, payload in stored])
    for (run, number, points, _), row in zip(stored, decoded, strict=True):
        if isinstance(row, Corrupt):
            sealed.damaged.append((run, f"journal row {number}: {row.reason}"))
            continue
        sealed.journal.append(number)
        sealed.taken[run].rows += 1
        sealed.taken[run].points += points
        yield replace(row, keys=place(row.keys, run))


def _logged(rows: Sequence[Journaled]) -> Logged:
    by_place = ByKey.of_rows(rows)
    points, series = merge_each(by_place.points, by_place.series)
    return Logged(by_place.keys, points, series, by_place.series.counts - series.counts)


def _narrow_below(series: int) -> int:
    return NARROW_BELOW if series <= MANY_SERIES else MANY_NARROW_BELOW


async def _chunks(reader: Reader, places: Ints) -> dict[int, list[Placed]]:
    """The chunks of some series, in order, by the places of the series."""
    found: dict[int, list[Placed]] = {}
    keys, runs = key_and_run(places)
    for run in np.unique(runs).tolist():
        for page in pages(keys[runs == run].tolist()):
            statement = in_list(sql.chunks_of_run, len(page))
            for key, *row in await reader.fetch(statement, (run, *page)):
                found.setdefault(place(key, run), []).append(Placed(*row))
    for chunks in found.values():
        chunks.sort(key=_by_first)
    return found


def _by_first(placed: Placed) -> tuple[int, ...]:
    return placed[2:5]


def _by_last(placed: Placed) -> tuple[int, ...]:
    return placed[5:8]


def _series(logged: Logged, chunks: dict[int, list[Placed]]) -> Iterator[Series]:
    points, series = logged.points, logged.series
    ends = [_positions(points[rows]) for rows in (series.starts, series.ends)]
    left = max(MANY_ABSORBED, 3 * len(series) // 2)
    for where, count, *ends_of in zip(
        logged.places.tolist(), series.counts.tolist(), *ends, strict=True
    ):
        there = chunks.get(where)
        if not there:
            yield Series(where, count, (), [])
            continue
        overlapping = _overlapping(there, *ends_of)
        small = _small_before(there, overlapping, ends_of[0], count)[-left:] if left > 0 else []
        left -= len(small)
        yield Series(where, count, there, [*small, *overlapping])


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
                key, run = key_and_run(one.place)
                self._sealed.damaged.append((run, f"key {key}: {error.reason}"))
                one.absorbed = []
                continue
            return np.array([number for number, _ in wanted], INT64), sizes, points

    def _add(self, group: list[Series], points: Points, pieces: Ints, chunks: Stretches) -> None:
        sealed = self._sealed
        sealed.absorbed += [placed.id for one in group for placed in one.absorbed]
        into = sealed.chunks
        keys, runs = key_and_run(np.repeat([one.place for one in group], pieces))
        into.keys += keys.tolist()
        into.runs += runs.tolist()
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
        ends = len(into) - int(pieces.sum()) + np.cumsum(pieces)
        for number, one in enumerate(group):
            is_late = one.place in self._late
            if not is_late and not gone[number]:
                continue
            new = range(int(ends[number] - pieces[number]), int(ends[number]))
            absorbed = {placed.id for placed in one.absorbed}
            left = [placed for placed in one.places if placed.id not in absorbed]
            left += [
                Placed(0, into.points[chunk], *[column[chunk] for column in into.ends])
                for chunk in new
            ]
            disjoint = is_disjoint(left)
            if gone[number] or disjoint:
                key, run = key_and_run(one.place)
                exact_until = sealed.taken[run].upto if disjoint else 0
                sealed.corrections.append((int(gone[number]), exact_until, key, run))


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
