"""Charts: a series in buckets that keep every extreme.

A block is a stretch of points of which only the count, the ends and the extremes are known; a
chunk's summary holds one for each 256 points.  A bucket is a run of whole blocks, so it is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stepwell_storage.points import Ints, Points, to_ordered
from stepwell_storage.summaries import BLOCK, Summary, decode_all

_LEAST, _GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Blocks:
    """One entry a block.  Where its lowest is NaN it holds nothing but NaN."""

    counts: Ints
    first: Points
    last: Points
    lowest: Points
    highest: Points

    @classmethod
    def of(cls, points: Points, size: int = BLOCK) -> Blocks:
        """The blocks of at least one point, ``size`` points each."""
        starts = np.arange(0, len(points), size)
        counts = np.diff(np.append(starts, len(points)))
        keys = to_ordered(points.values)
        top = np.where(np.isnan(points.values), _LEAST, keys)
        lowest = _where_extreme(np.minimum, keys, starts, counts)
        highest = _where_extreme(np.maximum, top, starts, counts)
        ends = starts + counts - 1
        return cls(counts, points[starts], points[ends], points[lowest], points[highest])

    @classmethod
    def of_summaries(cls, encoded: Sequence[bytes]) -> Blocks:
        """The blocks of chunks, in order.  Raises Corrupt with the ``index`` of the damaged one."""
        found: Summary = decode_all(encoded)
        return cls(found.counts, found.first, found.last, found.lowest, found.highest)

    @classmethod
    def concat(cls, parts: Sequence[Blocks]) -> Blocks:
        return cls(
            np.concatenate([part.counts for part in parts]),
            *(
                Points.concat([getattr(part, name) for part in parts])
                for name in ("first", "last", "lowest", "highest")
            ),
        )


def bucket(blocks: Blocks, buckets: int) -> tuple[Points, Ints]:
    """Blocks, in order, joined into at most ``buckets``: their points, four each, and sizes.

    The four are the first, the lowest, the highest and the last point; where there is nothing but
    NaN, lowest and highest are the first and the last.
    """
    total = len(blocks.counts)
    buckets = min(buckets, total)
    starts = np.arange(buckets) * total // buckets
    sizes = np.diff(np.append(starts, total))
    empty = np.isnan(blocks.lowest.values)
    low_keys = to_ordered(blocks.lowest.values)  # NaN is the greatest
    high_keys = np.where(empty, _LEAST, to_ordered(blocks.highest.values))
    low = blocks.lowest[_where_extreme(np.minimum, low_keys, starts, sizes)]
    high = blocks.highest[_where_extreme(np.maximum, high_keys, starts, sizes)]
    barren = np.logical_and.reduceat(empty, starts)
    first, last = blocks.first[starts], blocks.last[starts + sizes - 1]
    low, high = _choose(barren, first, low), _choose(barren, last, high)
    four = (first, low, high, last)
    points = Points(
        np.stack([p.steps for p in four], axis=1).ravel(),
        np.stack([p.timestamps for p in four], axis=1).ravel(),
        np.stack([p.values for p in four], axis=1).ravel(),
    )
    return points, np.add.reduceat(blocks.counts, starts)


def _where_extreme(extreme: np.ufunc, keys: Ints, starts: Ints, sizes: Ints) -> Ints:
    """The first row of each stretch that has its extreme."""
    best = np.repeat(extreme.reduceat(keys, starts), sizes)
    rows = np.where(keys == best, np.arange(len(keys)), _GREATEST)
    found: Ints = np.minimum.reduceat(rows, starts)
    return found


def _choose(where: Mask, this: Points, other: Points) -> Points:
    return Points(
        np.where(where, this.steps, other.steps),
        np.where(where, this.timestamps, other.timestamps),
        np.where(where, this.values, other.values),
    )
