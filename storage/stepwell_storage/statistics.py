"""What journal rows say of each series: how many points, the first, the last and the extremes.

Of thousands of series by one pass of NumPy.  Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from stepwell_storage.places import place
from stepwell_storage.points import FLOAT64, INT64, Ints, ordered, to_ordered

_NAN = ordered(float("nan"))
_MIN = np.iinfo(np.int64).min
_MAX = np.iinfo(np.int64).max
_WIDE = 64
"""Keys of an entry from which on it is worth a look whether it has those of others."""
_FEW = 16
Numbers = Sequence[int] | Ints


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal row's points: series by series, each sorted and without duplicates."""

    journal: int
    run: int
    keys: Numbers
    counts: Numbers
    steps: bytes
    timestamps: bytes
    values: bytes


@dataclass(slots=True, eq=False)
class Sums:
    """Rows of ``merge_series`` as columns, a row a series, in the order of their places.

    ``upto`` is the newest journal row in them, ``written`` how many rows are in the table already.
    """

    columns: tuple[Ints, ...]
    upto: int
    written: int = 0

    def __len__(self) -> int:
        return len(self.columns[0])

    def rows(self, start: int = 0, end: int | None = None) -> list[tuple[int | None, ...]]:
        *plain, low, low_step, high, high_step = [column[start:end] for column in self.columns]
        extremes = (*_nullable(low, low_step, _NAN), *_nullable(high, high_step, _MIN))
        return list(zip(*[column.tolist() for column in plain], *extremes, strict=True))

    def keys_of(self, run: int) -> set[int]:
        _, keys, runs, *_ = self.columns
        return set(keys[runs == run].tolist())


@dataclass(frozen=True, slots=True)
class _Segments:
    """Points of one series each, from one journal row or from several that follow each other: how
    many, where they begin and end, their extremes.  ``journals`` are the newest of the rows."""

    keys: Ints
    runs: Ints
    journals: Ints
    counts: Ints
    first: tuple[Ints, Ints, Ints]
    last: tuple[Ints, Ints, Ints]
    low: Ints
    low_step: Ints
    high: Ints
    high_step: Ints

    @classmethod
    def concat(cls, parts: Sequence[_Segments]) -> _Segments:
        if len(parts) == 1:
            return parts[0]
        columns = zip(*[part.columns() for part in parts], strict=True)
        keys, runs, journals, counts, *rest = [np.concatenate(column) for column in columns]
        first, last, extremes = tuple(rest[:3]), tuple(rest[3:6]), rest[6:]
        return cls(keys, runs, journals, counts, first, last, *extremes)  # type: ignore[arg-type]  # three each

    def columns(self) -> tuple[Ints, ...]:
        heads = (self.keys, self.runs, self.journals, self.counts)
        extremes = (self.low, self.low_step, self.high, self.high_step)
        return (*heads, *self.first, *self.last, *extremes)


def _segments(entries: Sequence[Entry]) -> _Segments:
    sizes = np.array([len(e.counts) for e in entries])
    counts = _joined([e.counts for e in entries])
    heads = (
        _joined([e.keys for e in entries]),
        np.repeat(np.array([e.run for e in entries], INT64), sizes),
        np.repeat(np.array([e.journal for e in entries], INT64), sizes),
        counts,
    )
    steps, times, values = _points(entries)
    ends = np.cumsum(counts)
    starts, lasts = ends - counts, ends - 1
    first = (steps[starts], times[starts], values[starts])
    last = (steps[lasts], times[lasts], values[lasts])
    # NaN is the greatest, so the lowest skips it by itself.
    numbers = np.where(values == _NAN, _MIN, values)
    if len(counts) == len(steps):
        return _Segments(*heads, first, last, values, steps, numbers, steps)
    low = np.minimum.reduceat(values, starts)
    high = np.maximum.reduceat(numbers, starts)
    at_low = np.where(values == np.repeat(low, counts), steps, _MAX)
    at_high = np.where(numbers == np.repeat(high, counts), steps, _MAX)
    low_step = np.minimum.reduceat(at_low, starts)
    high_step = np.minimum.reduceat(at_high, starts)
    return _Segments(*heads, first, last, low, low_step, high, high_step)


def _points(entries: Sequence[Entry]) -> tuple[Ints, Ints, Ints]:
    """Steps, timestamps and ordered values."""
    return (
        np.frombuffer(b"".join([e.steps for e in entries]), INT64),
        np.frombuffer(b"".join([e.timestamps for e in entries]), INT64),
        to_ordered(np.frombuffer(b"".join([e.values for e in entries]), FLOAT64)),
    )


def _parts(entries: Sequence[Entry]) -> Iterator[_Segments]:
    """Wide steps summed one below the other: entries of one run with the same keys and a point of
    each.  All other entries are the last part.

    A series is in one part only, so its segments stay in the order in which they came.
    """
    runs: dict[int, dict[tuple[int, ...], list[Entry]]] = {}
    for entry in entries:
        wide = len(entry.keys) >= _WIDE and len(entry.steps) == 8 * len(entry.keys)
        steps = runs.setdefault(entry.run, {})
        steps.setdefault(tuple(entry.keys) if wide else (), []).append(entry)
    rest: list[Entry] = []
    for steps in runs.values():
        apart = () not in steps and len(set().union(*steps)) == sum(map(len, steps))
        if apart:
            yield from map(_steps, steps.values())
        else:
            rest += [entry for bundle in steps.values() for entry in bundle]
    if rest:
        yield _segments(sorted(rest, key=lambda entry: entry.journal))


def _steps(entries: Sequence[Entry]) -> _Segments:
    """Entries with the same keys and a point of each, as one matrix if they ascend."""
    size = len(entries[0].keys)
    steps, times, values = (column.reshape(-1, size) for column in _points(entries))
    if not (steps[1:] > steps[:-1]).all():
        return _segments(entries)
    numbers = np.where(values == _NAN, _MIN, values)
    lowest, highest, each = values.argmin(axis=0), numbers.argmax(axis=0), np.arange(size)
    return _Segments(
        np.asarray(entries[0].keys, INT64),
        np.full(size, entries[0].run, INT64),
        np.full(size, entries[-1].journal, INT64),
        np.full(size, len(entries), INT64),
        (steps[0], times[0], values[0]),
        (steps[-1], times[-1], values[-1]),
        values[lowest, each],
        steps[lowest, each],
        numbers[highest, each],
        steps[highest, each],
    )


def summarize(entries: Sequence[Entry]) -> Sums:
    """One row for each series of the entries, which are at least one.

    ``late`` is the number of the last entry where the entries themselves are not an ascending
    chain, so that points may repeat; the statement adds what it finds against the table, as of
    the last row that is counted then.
    """
    seg = _Segments.concat(list(_parts(entries)))
    keys, runs, journals = seg.keys, seg.runs, seg.journals
    order = np.lexsort((runs, keys))
    keys, runs, journals = keys[order], runs[order], journals[order]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (keys[1:] != keys[:-1]) | (runs[1:] != runs[:-1])
    starts = np.flatnonzero(fresh)
    sizes = np.diff(np.append(starts, len(order)))
    first = [column[order] for column in seg.first]
    last = [column[order] for column in seg.last]
    broken = np.zeros(len(order), np.bool_)
    broken[1:] = ~_greater(first, last) & ~fresh[1:]
    disordered = np.logical_or.reduceat(broken, starts)
    newest = np.maximum.reduceat(journals, starts)

    firsts = [column[starts] for column in first]
    lasts = [column[starts + sizes - 1] for column in last]
    if disordered.any():
        groups = np.repeat(np.arange(len(starts)), sizes)
        rows = np.flatnonzero(disordered[groups])
        _mend(firsts, disordered, [column[rows] for column in first], groups[rows], 0)
        _mend(lasts, disordered, [column[rows] for column in last], groups[rows], -1)

    low, low_step = _extreme(np.minimum, seg.low[order], seg.low_step[order], starts, sizes)
    high, high_step = _extreme(np.maximum, seg.high[order], seg.high_step[order], starts, sizes)
    columns = (
        place(keys[starts], runs[starts]),
        keys[starts],
        runs[starts],
        np.add.reduceat(seg.counts[order], starts),
        np.where(disordered, newest, 0),
        *(*firsts, *lasts),
        *(low, low_step, high, high_step),
    )
    return Sums(columns, entries[-1].journal)


def _mend(
    ends: Sequence[Ints],
    disordered: npt.NDArray[np.bool_],
    columns: Sequence[Ints],
    groups: Ints,
    which: int,
) -> None:
    """Put in the least (0) or the greatest (-1) of each disordered group; ``columns`` are those of
    its rows, ``groups`` say whose, ascending."""
    order = np.lexsort((*reversed(columns), groups))
    begins = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
    rows = order[begins if which == 0 else np.append(begins[1:], len(groups)) - 1]
    for end, column in zip(ends, columns, strict=True):
        end[disordered] = column[rows]


def _joined(parts: Sequence[Numbers]) -> Ints:
    total = sum(map(len, parts))
    if total < _FEW * len(parts):  # an array costs a microsecond, whatever is in it
        return np.fromiter(chain.from_iterable(parts), INT64, total)
    return np.concatenate([np.asarray(part, INT64) for part in parts])


def _greater(first: Sequence[Ints], last: Sequence[Ints]) -> npt.NDArray[np.bool_]:
    """Whether each segment begins after the one before it ends."""
    (step, time, value), (last_step, last_time, last_value) = (
        [column[1:] for column in first],
        [column[:-1] for column in last],
    )
    greater: npt.NDArray[np.bool_] = (step > last_step) | (
        (step == last_step) & ((time > last_time) | ((time == last_time) & (value > last_value)))
    )
    return greater


def _extreme(
    reduce: np.ufunc, values: Ints, steps: Ints, starts: Ints, sizes: npt.NDArray[np.int64]
) -> tuple[Ints, Ints]:
    """The extreme of each group of segments and the least step that has it."""
    if len(starts) == len(values):
        return values, steps
    best = reduce.reduceat(values, starts)
    at_best = np.where(values == np.repeat(best, sizes), steps, _MAX)
    return best, np.minimum.reduceat(at_best, starts)


def _nullable(values: Ints, steps: Ints, nothing: int) -> tuple[list[int | None], list[int | None]]:
    """Lists in which a series without a number has nulls."""
    value_list: list[int | None] = values.tolist()
    step_list: list[int | None] = steps.tolist()
    for row in np.flatnonzero(values == nothing).tolist():
        value_list[row] = step_list[row] = None
    return value_list, step_list
