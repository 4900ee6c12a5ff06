"""Charts: a series in buckets that keep every extreme.

A block is a stretch of points of which only the count, the ends and the extremes are known; a
chunk's summary holds one for each 256 points.  A bucket is a run of whole blocks, so it is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stepwell_storage.points import Ints, Points, to_ordered
from stepwell_storage.stretches import Mask, Stretches
from stepwell_storage.summaries import BLOCK, Summary, decode_all

_LEAST = np.iinfo(np.int64).min


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
        parts = Stretches(np.diff(np.append(starts, len(points))), starts)
        keys = to_ordered(points.values)
        top = np.where(np.isnan(points.values), _LEAST, keys)
        lowest = parts.first_row(np.minimum, keys)
        highest = parts.first_row(np.maximum, top)
        return cls(
            parts.counts, points[starts], points[parts.ends], points[lowest], points[highest]
        )

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
    parts = Stretches(np.diff(np.append(starts, total)), starts)
    low_keys = to_ordered(blocks.lowest.values)  # NaN is the greatest
    high_keys = to_ordered(blocks.highest.values)
    empty = np.isnan(blocks.lowest.values)
    any_empty = bool(empty.any())
    if any_empty:
        high_keys = np.where(empty, _LEAST, high_keys)
    low = blocks.lowest[parts.first_row(np.minimum, low_keys)]
    high = blocks.highest[parts.first_row(np.maximum, high_keys)]
    first, last = blocks.first[starts], blocks.last[parts.ends]
    if any_empty:
        barren = parts.all(empty)
        low, high = _choose(barren, first, low), _choose(barren, last, high)
    four = (first, low, high, last)
    points = Points(
        np.stack([p.steps for p in four], axis=1).ravel(),
        np.stack([p.timestamps for p in four], axis=1).ravel(),
        np.stack([p.values for p in four], axis=1).ravel(),
    )
    return points, parts.total(blocks.counts)


def _choose(where: Mask, this: Points, other: Points) -> Points:
    return Points(
        np.where(where, this.steps, other.steps),
        np.where(where, this.timestamps, other.timestamps),
        np.where(where, this.values, other.values),
    )
