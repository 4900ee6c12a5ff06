"""Stretches: many short columns of one kind, one behind the other in a long one.

A run may have 50,000 series of a few points each, and a call of NumPy costs as much as a hundred
points.  So what is done to each of many series, chunks or blocks is done to all of them by one
call.  Pure; no function changes an array that it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stepwell_storage.points import INT64, Ints, Points, to_ordered

Mask = npt.NDArray[np.bool_]
Entry = TypeVar("Entry", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """Where each begins and how many rows it has, at least one.  Together they are all rows."""

    counts: Ints
    starts: Ints

    @classmethod
    def of(cls, counts: Ints | Sequence[int]) -> Stretches:
        counts = np.asarray(counts, INT64)
        return cls(counts, np.cumsum(counts) - counts)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def ends(self) -> Ints:
        """The last row of each."""
        return self.starts + self.counts - 1

    def spread(self, each: npt.NDArray[Entry]) -> npt.NDArray[Entry]:
        """One entry a stretch -> one a row."""
        return np.repeat(each, self.counts)

    def owners(self) -> Ints:
        """The number of its stretch for each row."""
        return np.repeat(np.arange(len(self)), self.counts)

    def least(self, column: Ints) -> Ints:
        found: Ints = np.minimum.reduceat(column, self.starts)
        return found

    def greatest(self, column: Ints) -> Ints:
        found: Ints = np.maximum.reduceat(column, self.starts)
        return found

    def total(self, column: npt.NDArray[Any]) -> Ints:
        """The sum of each; a mask counts."""
        found: Ints = np.add.reduceat(column, self.starts, dtype=INT64)
        return found

    def all(self, mask: Mask) -> Mask:
        found: Mask = np.logical_and.reduceat(mask, self.starts)
        return found

    def alike(self, column: Ints) -> Mask:
        """Whether all entries of a stretch are equal."""
        return self.all(column == self.spread(column[self.starts]))

    def first_row(self, extreme: np.ufunc, keys: Ints) -> Ints:
        """The first row of each stretch that has its ``np.minimum`` or ``np.maximum``."""
        rows: Ints = np.flatnonzero(keys == self.spread(extreme.reduceat(keys, self.starts)))
        return rows if len(rows) == len(self) else rows[np.searchsorted(rows, self.starts)]

    def differences(self, column: Ints) -> Ints:
        """From the row before to each row, modulo 2^64; at the start of a stretch it repeats the
        next one, so that it is neither the least nor the greatest; 0 where there is no next."""
        found = np.zeros(len(column), INT64)
        found[1:] = column[1:] - column[:-1]
        longer = self.counts > 1
        found[self.starts[longer]] = found[self.starts[longer] + 1]
        found[self.starts[~longer]] = 0
        return found


def gather(owners: Ints, stretches: Stretches, points: Points) -> tuple[Ints, Stretches, Points]:
    """Many stretches of each owner -> one, owners ascending; those of one stay in their order."""
    order = np.argsort(owners, kind="stable")
    counts, ascending = stretches.counts[order], owners[order]
    fresh = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
    if (order[1:] < order[:-1]).any():
        into = np.cumsum(counts) - counts
        moves = stretches.starts[order] - into
        points = points[np.arange(len(points)) + np.repeat(moves, counts)]
    return ascending[fresh], Stretches.of(np.add.reduceat(counts, fresh)), points


def out_of_order(points: Points, stretches: Stretches) -> Ints:
    """The rows that are not greater than the row before them in their stretch."""
    suspect = np.zeros(len(points), np.bool_)
    suspect[1:] = points.steps[1:] <= points.steps[:-1]
    suspect[stretches.starts] = False
    rows = np.flatnonzero(suspect)
    if not len(rows):
        return rows
    here, before = points[rows], points[rows - 1]
    later = here.timestamps > before.timestamps
    tied = here.timestamps == before.timestamps
    greater = to_ordered(here.values) > to_ordered(before.values)
    fine = (here.steps == before.steps) & (later | (tied & greater))
    wrong: Ints = rows[~fine]
    return wrong


def merge_each(points: Points, stretches: Stretches) -> tuple[Points, Stretches]:
    """What ``points.merge`` does, to each stretch: its points ordered, each once."""
    wrong = out_of_order(points, stretches)
    if not len(wrong):
        return points, stretches
    owners = stretches.owners()
    chosen = np.zeros(len(stretches), np.bool_)
    chosen[owners[wrong]] = True
    rows = np.flatnonzero(np.repeat(chosen, stretches.counts))
    part, part_of = points[rows], owners[rows]
    # By step alone first: series come nearly sorted, and steps seldom repeat.
    part = part[np.lexsort((part.steps, part_of))]
    inside = Stretches.of(stretches.counts[chosen])
    if len(out_of_order(part, inside)):
        part = part[np.lexsort((to_ordered(part.values), part.timestamps, part.steps, part_of))]
    kept = np.ones(len(points), np.bool_)
    kept[rows[out_of_order(part, inside)]] = False  # what is still no greater is a repetition
    whole = Points(
        _replaced(points.steps, rows, part.steps)[kept],
        _replaced(points.timestamps, rows, part.timestamps)[kept],
        _replaced(points.values, rows, part.values)[kept],
    )
    return whole, Stretches.of(stretches.total(kept))


def _replaced(
    column: npt.NDArray[Entry], rows: Ints, entries: npt.NDArray[Entry]
) -> npt.NDArray[Entry]:
    copy = column.copy()
    copy[rows] = entries
    return copy
