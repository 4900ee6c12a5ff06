"""Columns of points: their order, their identity, and how sorted pieces become one series.

Points are ordered by (step, timestamp, value), values by ``to_ordered``:
-Inf < finite < +Inf < NaN, and -0.0 < 0.0.  Two points are one when all three are equal bit for
bit; there is one NaN.  Nothing here does I/O, and no function changes an array that it was given.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stepwell_storage.records import Position

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

INT64 = np.dtype("<i8")
FLOAT64 = np.dtype("<f8")
FLOAT32 = np.dtype("<f4")

NAN_BITS = 0x7FF8_0000_0000_0000
INT64_MAX = 0x7FFF_FFFF_FFFF_FFFF

_NAN = struct.unpack("<d", struct.pack("<Q", NAN_BITS))[0]
_DOUBLE = struct.Struct("<d")
_LONG = struct.Struct("<q")


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Three columns of equal length; ``timestamps`` are ms since the epoch.

    The arrays may be read-only views of a larger buffer: copy before changing one.
    """

    steps: Ints
    timestamps: Ints
    values: Floats

    @classmethod
    def empty(cls) -> Points:
        return cls(np.empty(0, INT64), np.empty(0, INT64), np.empty(0, FLOAT64))

    @classmethod
    def of(cls, steps: npt.ArrayLike, timestamps: npt.ArrayLike, values: npt.ArrayLike) -> Points:
        """Takes anything that NumPy makes columns of; every NaN becomes the one NaN."""
        columns = (
            np.asarray(steps, INT64),
            np.asarray(timestamps, INT64),
            canonical(np.asarray(values, FLOAT64)),
        )
        if any(column.ndim != 1 or len(column) != len(columns[0]) for column in columns):
            raise ValueError("the three columns must be flat and of equal length")
        return cls(*columns)

    @classmethod
    def concat(cls, parts: Sequence[Points]) -> Points:
        """The parts one after the other, in the order given."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty()
        return cls(
            np.concatenate([part.steps for part in parts]),
            np.concatenate([part.timestamps for part in parts]),
            np.concatenate([part.values for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, rows: slice | Ints | npt.NDArray[np.bool_]) -> Points:
        """Some rows: a view for a slice, a copy for numbers of rows or a mask."""
        return Points(self.steps[rows], self.timestamps[rows], self.values[rows])

    def __eq__(self, other: object) -> bool:
        """Equal point by point, values bit for bit."""
        if not isinstance(other, Points):
            return NotImplemented
        return (
            np.array_equal(self.steps, other.steps)
            and np.array_equal(self.timestamps, other.timestamps)
            and np.array_equal(self.values.view(INT64), other.values.view(INT64))
        )

    __hash__ = None  # type: ignore[assignment]  # arrays are compared, never looked up

    def position(self, row: int) -> Position:
        """Where a row stands in the order; negative rows count from the end."""
        return Position(
            self.steps.item(row), self.timestamps.item(row), ordered(self.values.item(row))
        )


def canonical(values: Floats) -> Floats:
    """The same array when it holds no NaN, else a copy in which each NaN is the one NaN."""
    missing = np.isnan(values)
    if not np.count_nonzero(missing):
        return values
    copy = values.copy()
    copy[missing] = _NAN
    return copy


def float32(values: Floats) -> Singles | None:
    """The values as float32, when each of them comes back bit for bit; None otherwise."""
    bits = values.view(INT64)
    # Most values that are no float32 give themselves away by the lowest bits of their fraction.
    if len(bits) and int(bits[len(bits) // 2] | bits[0] | bits[-1]) & 1:
        return None
    short = to_float32(values)
    same = np.count_nonzero(float64(short).view(INT64) == bits)
    return short if same == len(bits) else None


def to_float32(values: Floats) -> Singles:
    """The values rounded to float32, without a warning where one is too great for it."""
    with np.errstate(all="ignore"):
        return values.astype(FLOAT32)


def float64(values: Singles) -> Floats:
    """float32 values as they were.  Damage may have left signalling NaNs there: no warning."""
    with np.errstate(invalid="ignore"):
        return values.astype(FLOAT64)


def to_ordered(values: Floats) -> Ints:
    """int64[n] that compare as the values are ordered; equal exactly where the bits are."""
    bits = canonical(values).view(INT64)
    return bits ^ ((bits >> 63) & INT64_MAX)


def from_ordered(keys: Ints) -> Floats:
    """The inverse of ``to_ordered``."""
    return (keys ^ ((keys >> 63) & INT64_MAX)).view(FLOAT64)


def ordered(value: float) -> int:
    """``to_ordered`` of one value."""
    bits: int = _LONG.unpack(_DOUBLE.pack(value if value == value else _NAN))[0]
    return bits if bits >= 0 else bits ^ INT64_MAX


def unordered(key: int) -> float:
    """``from_ordered`` of one key."""
    value: float = _DOUBLE.unpack(_LONG.pack(key if key >= 0 else key ^ INT64_MAX))[0]
    return value


def is_increasing(points: Points) -> bool:
    """Whether every point is greater than the one before it: sorted and without duplicates."""
    return _in_order(points, np.greater)


def merge(parts: Sequence[Points]) -> Points:
    """All points of the parts, ordered, each once.  The parts may be in any order, even inside.

    Costs a comparison per point when the parts stand in order or are sorted and disjoint, and a
    sort otherwise.
    """
    parts = [part for part in parts if len(part)]
    points = Points.concat(parts)
    if is_increasing(points):
        return points
    if len(parts) > 1:
        in_order = sorted(parts, key=lambda part: part.position(0))
        points = Points.concat(in_order)
        if is_increasing(points):
            return points
    return _unique(_sorted(points))


def between(points: Points, start_step: int | None, end_step: int | None) -> Points:
    """The points of ordered ``points`` whose step lies in the range, both ends included."""
    low, high = 0, len(points)
    if start_step is not None:
        low = int(np.searchsorted(points.steps, start_step, "left"))
    if end_step is not None:
        high = int(np.searchsorted(points.steps, end_step, "right"))
    return points[low : max(low, high)]


def after(points: Points, position: Position) -> Points:
    """The points of ordered ``points`` that are greater than the position."""
    low, high = 0, len(points)
    for column, target in (
        (points.steps, position.step),
        (points.timestamps, position.timestamp),
    ):
        equals = column[low:high]
        high = low + int(np.searchsorted(equals, target, "right"))
        low = low + int(np.searchsorted(equals, target, "left"))
    keys = to_ordered(points.values[low:high])
    return points[low + int(np.searchsorted(keys, position.value, "right")) :]


def _in_order(points: Points, compare: np.ufunc) -> bool:
    """Whether no point is less than the one before it, and ``compare`` holds where they tie."""
    before, after_ = points.steps[:-1], points.steps[1:]
    if np.count_nonzero(after_ > before) == max(len(points) - 1, 0):
        return True
    if (after_ < before).any():
        return False
    ties = np.flatnonzero(after_ == before)
    earlier, later = points.timestamps[ties], points.timestamps[ties + 1]
    if (later < earlier).any():
        return False
    ties = ties[later == earlier]
    keys, next_keys = to_ordered(points.values[ties]), to_ordered(points.values[ties + 1])
    return bool(compare(next_keys, keys).all())


def _sorted(points: Points) -> Points:
    """By step alone first: series come nearly sorted, and steps seldom repeat."""
    points = points[np.argsort(points.steps, kind="stable")]
    if _in_order(points, np.greater_equal):
        return points
    same = points.steps[1:] == points.steps[:-1]
    tied = np.zeros(len(points), np.bool_)
    tied[1:] = same
    tied[:-1] |= same
    rows = np.flatnonzero(tied)
    ties = points[rows]
    # Rows of one step are adjacent and the steps ascend, so sorting the tied rows among themselves
    # puts each back among the places of its own step.
    places = np.arange(len(points))
    places[rows] = rows[np.lexsort((to_ordered(ties.values), ties.timestamps, ties.steps))]
    return points[places]


def _unique(points: Points) -> Points:
    keys = points.values.view(INT64)
    fresh = np.ones(len(points), np.bool_)
    fresh[1:] = (
        (points.steps[1:] != points.steps[:-1])
        | (points.timestamps[1:] != points.timestamps[:-1])
        | (keys[1:] != keys[:-1])
    )
    return points if fresh.all() else points[fresh]
