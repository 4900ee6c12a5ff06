"""The statistics of every series, kept behind the journal and caught up in one pass.

Appending never looks a series up and never updates one.  What was committed since the last flush
stands in a :class:`Window`; a flush sums it up per series with NumPy and merges the sums into the
``series`` table, before any read that needs them, before each compaction, and about once a
second.  ``meta.counted`` says up to which journal row that was done, in the same transaction: after
a crash the rows beyond it are read back into a window.  That a number can stand for "all rows up to
here" holds because one committer numbers and commits a tenant's rows in order.

The journal's index by run, ``journal_run``, is caught up with them.  Kept by every commit it was
nine tenths of what a commit of small batches of many runs wrote: a page for each run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt

from stepwell_storage.database import Transaction
from stepwell_storage.places import place
from stepwell_storage.points import FLOAT64, INT64, Ints, ordered, to_ordered
from stepwell_storage.statements import sql

_NAN = ordered(float("nan"))
_MIN = np.iinfo(np.int64).min
_MAX = np.iinfo(np.int64).max
_MANY_STRETCHES = 10_000
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


@dataclass(slots=True)
class Window:
    """Committed, not counted yet."""

    entries: list[Entry] = field(default_factory=list)
    heartbeats: dict[int, int] = field(default_factory=dict)
    writers: dict[tuple[int, int], int] = field(default_factory=dict)
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.entries or self.heartbeats)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.bytes += 3 * len(entry.steps)

    def keys_of(self, run: int) -> set[int]:
        """The series of a run that only the window knows of, and maybe others."""
        return {int(key) for entry in self.entries if entry.run == run for key in entry.keys}

    async def flush(self, tx: Transaction) -> None:
        """Merge the window into the tables.  Forget it with :meth:`clear` once committed."""
        if self.entries:
            newest = self.entries[-1].journal
            await tx.executemany(sql.list_journal, [(newest,)])
            await tx.executemany(sql.set_meta, [("counted", newest)])
            # Of narrow steps it takes a millisecond; of many series so long that others are due.
            if sum(len(entry.counts) for entry in self.entries) > _MANY_STRETCHES:
                rows = await asyncio.to_thread(summarize, self.entries)
            else:
                rows = summarize(self.entries)
            await tx.executemany(sql.merge_series, rows)
        beats = [(at, run, at) for run, at in self.heartbeats.items()]
        await tx.executemany(sql.heartbeat, beats)
        if self.writers:
            rows = [(run, rank, at) for (run, rank), at in self.writers.items()]
            await tx.executemany(sql.writer_heartbeat, rows)

    def clear(self) -> None:
        self.entries.clear()
        self.heartbeats.clear()
        self.writers.clear()
        self.bytes = 0


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


def summarize(entries: Sequence[Entry]) -> list[tuple[int | None, ...]]:
    """The rows of ``merge_series``, sorted by (key, run): one for each series of the entries.

    ``late`` is the number of the last entry where the entries themselves are not an ascending
    chain, so that points may repeat; the statement adds what it finds against the table, as of
    the last row that is counted now.
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
    columns = [
        place(keys[starts], runs[starts]).tolist(),
        keys[starts].tolist(),
        runs[starts].tolist(),
        np.add.reduceat(seg.counts[order], starts).tolist(),
        np.where(disordered, newest, 0).tolist(),
        *[column.tolist() for column in (*firsts, *lasts)],
        *_nullable(low, low_step, _NAN),
        *_nullable(high, high_step, _MIN),
    ]
    return list(zip(*columns, strict=True))


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
