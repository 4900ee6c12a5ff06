"""What a chart needs of a chunk, without its points: four points of every 256, exact.

A summary stands beside its chunk and is read alone: a chart of a million points reads 4,000 blocks
and no chunk.  Layout in docs/format.md.  Pure: no I/O.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stepwell_storage.columns import EQUAL, PLAIN, SINGLE, seal
from stepwell_storage.errors import Corrupt
from stepwell_storage.points import (
    FLOAT32,
    FLOAT64,
    INT64,
    INT64_MAX,
    Floats,
    Ints,
    Points,
    canonical,
    float32,
    float64,
    to_ordered,
)

FORMAT = 1
BLOCK = 256
"""Points of a block; only the last one of a chunk may hold fewer."""

MAX_POINTS = 65_536
"""Of one chunk.  Bounds what a damaged count can allocate."""

_INT64_MIN = -INT64_MAX - 1
# format, form of the values, widths: steps, timestamps, step offsets, timestamp offsets,
# non-finite counts; points
_HEADER = struct.Struct("<BBBBBBBI")
_SHAPE_BYTES = _HEADER.size - 4
_WIDTHS = (0, 1, 2, 4, 8)
_FORMS = (PLAIN, EQUAL, SINGLE)
_CRC_BYTES = 4

_STARTS = struct.Struct("<qq")
_THREE = {
    width: struct.Struct(f"<3{code}") for width, code in zip((1, 2, 4, 8), "BHIQ", strict=True)
}
_DOUBLES, _SINGLES = struct.Struct("<4d"), struct.Struct("<4f")
_NEGATIVE_ZERO = struct.pack("<d", -0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Blocks of one chunk or of several, one entry per block, in the chunks' order.

    ``sizes`` has one entry per chunk: how many blocks it has.  ``nonfinite`` counts a block's NaNs
    and infinities.  ``steps``, ``timestamps`` and ``values`` are [4, blocks]: the first, last,
    lowest and highest point.  Lowest and highest skip NaN and are the earliest such point; where
    their value is NaN, the block holds nothing else, and they are the first point.
    """

    sizes: Ints
    counts: Ints
    nonfinite: Ints
    steps: Ints
    timestamps: Ints
    values: Floats

    @property
    def first(self) -> Points:
        return self._points(0)

    @property
    def last(self) -> Points:
        return self._points(1)

    @property
    def lowest(self) -> Points:
        return self._points(2)

    @property
    def highest(self) -> Points:
        return self._points(3)

    @property
    def count(self) -> int:
        """Points."""
        return int(self.counts.sum())

    def __len__(self) -> int:
        """Blocks."""
        return len(self.counts)

    def __eq__(self, other: object) -> bool:
        """Equal entry by entry, values bit for bit."""
        if not isinstance(other, Summary):
            return NotImplemented
        return (
            np.array_equal(self.sizes, other.sizes)
            and np.array_equal(self.counts, other.counts)
            and np.array_equal(self.nonfinite, other.nonfinite)
            and np.array_equal(self.steps, other.steps)
            and np.array_equal(self.timestamps, other.timestamps)
            and np.array_equal(self.values.view(INT64), other.values.view(INT64))
        )

    __hash__ = None  # type: ignore[assignment]  # arrays are compared, never looked up

    def _points(self, row: int) -> Points:
        return Points(self.steps[row], self.timestamps[row], self.values[row])


def summarise(points: Points) -> Summary:
    """The blocks of one chunk; ``points`` are at least one, and ordered."""
    count = len(points)
    values = canonical(points.values)
    keys = top = to_ordered(values)
    infinite = ~np.isfinite(values)
    starts = np.arange(0, count, BLOCK)
    rows = np.empty((4, len(starts)), INT64)
    rows[0] = starts
    rows[1, :-1] = starts[1:] - 1
    rows[1, -1] = count - 1
    if infinite.any():
        nonfinite = np.add.reduceat(infinite.astype(INT64), starts)
        # Among the keys NaN is the greatest, so that only a block of nothing else has it lowest.
        top = np.where(np.isnan(values), _INT64_MIN, keys)
    else:
        nonfinite = np.zeros(len(starts), INT64)
    rows[2] = starts + _blocks(keys, INT64_MAX).argmin(axis=1)
    rows[3] = starts + _blocks(top, _INT64_MIN).argmax(axis=1)
    return Summary(
        sizes=np.array([len(starts)], INT64),
        counts=rows[1] - rows[0] + 1,
        nonfinite=nonfinite,
        steps=points.steps[rows],
        timestamps=points.timestamps[rows],
        values=values[rows],
    )


def encode(summary: Summary) -> bytes:
    """The summary of one chunk as bytes."""
    step_width, step_column = _pack_firsts(summary.steps[0])
    time_width, time_column = _pack_firsts(summary.timestamps[0])
    offset_width, offset_column = _pack_offsets(summary.steps[1:] - summary.steps[0])
    delay_width, delay_column = _pack_offsets(summary.timestamps[1:] - summary.timestamps[0])
    odd_width, odd_column = _pack_offsets(summary.nonfinite)
    form, value_column = _pack_values(summary.values.ravel())
    widths = (step_width, time_width, offset_width, delay_width, odd_width)
    head = _HEADER.pack(FORMAT, form, *widths, summary.count)
    columns = (step_column, time_column, offset_column, delay_column, odd_column, value_column)
    return seal(b"".join((head, *columns)))


def encode_points(points: Points) -> bytes:
    """What ``encode(summarise(points))`` gives, sooner for a single block."""
    few = _encode_few(points) if len(points) <= BLOCK else None
    return encode(summarise(points)) if few is None else few


def decode(encoded: bytes) -> Summary:
    """The summary of one chunk.  Raises Corrupt on any damage."""
    return decode_all([encoded])


def decode_all(encoded: Sequence[bytes]) -> Summary:
    """The summaries of many chunks, one behind the other, at a few microseconds each.

    Raises Corrupt, whose place has the ``index`` of the damaged summary.
    """
    points = np.array([_count(one, index) for index, one in enumerate(encoded)], INT64)
    sizes = -(-points // BLOCK)
    ends = np.cumsum(sizes)
    counts = np.full(int(sizes.sum()), BLOCK, INT64)
    counts[ends - 1] = points - BLOCK * (sizes - 1)
    alike: dict[tuple[bytes, int], list[int]] = {}
    for index, blocks in enumerate(sizes.tolist()):
        alike.setdefault((encoded[index][:_SHAPE_BYTES], blocks), []).append(index)
    ints = np.empty((9, len(counts)), INT64)
    values = np.empty((4, len(counts)), FLOAT64)
    for (shape, blocks), members in alike.items():
        columns = _Columns(shape, blocks, members, encoded)
        if len(alike) == 1:
            ints, values = columns.ints().reshape(9, -1), columns.values().reshape(4, -1)
            break
        rows = ((ends[members] - blocks)[:, None] + np.arange(blocks)).ravel()
        ints[:, rows] = columns.ints().reshape(9, -1)
        values[:, rows] = columns.values().reshape(4, -1)
    return Summary(sizes, counts, ints[8], ints[:4], ints[4:8], values)


class _Columns:
    """The columns of summaries that have one shape, a row of each matrix per summary."""

    def __init__(
        self, shape: bytes, blocks: int, members: list[int], encoded: Sequence[bytes]
    ) -> None:
        _, form, *self._widths = shape
        if form not in _FORMS or any(width not in _WIDTHS for width in self._widths):
            raise Corrupt("chunk summary: a form is not known to this version", index=members[0])
        self._form = form
        self._blocks = blocks
        self._size = self._expected_size()
        for index in members:
            if len(encoded[index]) != self._size:
                raise Corrupt("chunk summary: wrong length", index=index)
        joined = b"".join([encoded[index] for index in members])
        self._bytes = np.frombuffer(joined, np.uint8).reshape(len(members), self._size)
        self._offset = _HEADER.size

    def ints(self) -> Ints:
        """int64[9, summaries, blocks]: steps of the four points, timestamps, non-finite counts."""
        blocks = self._blocks
        table = np.zeros((9, len(self._bytes), blocks), INT64)
        for row, width in zip((0, 4), self._widths[:2], strict=True):
            self._take_firsts(width, table[row])
        for row, width in zip((0, 4), self._widths[2:4], strict=True):
            table[row + 1 : row + 4] = table[row]
            if width:
                offsets = self._take(3 * blocks, f"<u{width}").reshape(-1, 3, blocks)
                # A difference of 8 bytes may have wrapped; as int64 it wraps back.
                table[row + 1 : row + 4] += offsets.transpose(1, 0, 2).astype(INT64)
        if width := self._widths[4]:
            table[8] = self._take(blocks, f"<u{width}")
        return table

    def values(self) -> Floats:
        """float64[4, summaries, blocks]; taken after ``ints``."""
        blocks, summaries = self._blocks, len(self._bytes)
        if self._form == EQUAL:
            equal: Floats = self._take(1, FLOAT64)
            return np.tile(equal, (4, 1, blocks))
        if self._form == SINGLE:
            found = float64(self._take(4 * blocks, FLOAT32))
        else:
            found = self._take(4 * blocks, FLOAT64)
        return found.reshape(summaries, 4, blocks).transpose(1, 0, 2)

    def _expected_size(self) -> int:
        step, time, offset, delay, odd = self._widths
        starts = 16 if self._blocks == 1 else 32 + (step + time) * (self._blocks - 1)
        values = 8 if self._form == EQUAL else 4 * self._blocks * (4 if self._form == SINGLE else 8)
        offsets = (3 * (offset + delay) + odd) * self._blocks
        return _HEADER.size + starts + offsets + values + _CRC_BYTES

    def _take_firsts(self, width: int, out: Ints) -> None:
        out[:, :1] = self._take(1, INT64)
        if self._blocks == 1:
            return
        out[:, 1:] = self._take(1, INT64)
        if width:
            out[:, 1:] += self._take(self._blocks - 1, f"<u{width}").astype(INT64)
        np.cumsum(out, axis=1, out=out)

    def _take(self, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        start = self._offset
        self._offset += count * np.dtype(dtype).itemsize
        return np.ascontiguousarray(self._bytes[:, start : self._offset]).view(dtype)


def _count(encoded: bytes, index: int) -> int:
    """The points of a summary whose seal and head are whole."""
    end = len(encoded) - _CRC_BYTES
    if end < _HEADER.size:
        raise Corrupt("chunk summary: cut short", index=index)
    if zlib.crc32(encoded[:end]) != int.from_bytes(encoded[end:], "little"):
        raise Corrupt("chunk summary: wrong checksum", index=index)
    if encoded[0] != FORMAT:
        reason = f"chunk summary: format {encoded[0]} is not known to this version"
        raise Corrupt(reason, index=index)
    count = int.from_bytes(encoded[_SHAPE_BYTES : _HEADER.size], "little")
    if not 0 < count <= MAX_POINTS:
        raise Corrupt(f"chunk summary: {count} points", index=index)
    return count


def _blocks(keys: Ints, fill: int) -> Ints:
    """int64[blocks, BLOCK], the last row filled up; a single row is as long as it is."""
    odd = len(keys) % BLOCK
    if odd and len(keys) > BLOCK:
        keys = np.concatenate([keys, np.full(BLOCK - odd, fill, INT64)])
    return keys.reshape(-1, min(len(keys), BLOCK))


def _pack_firsts(column: Ints) -> tuple[int, bytes]:
    """The first entry; behind it the smallest difference and by how much each is greater."""
    start = column[:1].tobytes()
    if len(column) == 1:
        return 0, start
    differences = column[1:] - column[:-1]
    least = int(differences.min())
    width = _width(int(differences.max()) - least)
    least_bytes = least.to_bytes(8, "little", signed=True)
    return width, start + least_bytes + _narrow(differences - least, width)


def _pack_offsets(offsets: Ints) -> tuple[int, bytes]:
    width = 8 if int(offsets.min()) < 0 else _width(int(offsets.max()))
    return width, _narrow(offsets, width)


def _pack_values(values: Floats) -> tuple[int, bytes]:
    bits = values.view(INT64)
    if (bits == bits[0]).all():
        return EQUAL, values[:1].tobytes()
    single = float32(values)
    return (PLAIN, values.tobytes()) if single is None else (SINGLE, single.tobytes())


def _width(greatest: int) -> int:
    return next(width for width in _WIDTHS if greatest < 1 << 8 * width)


def _narrow(entries: Ints, width: int) -> bytes:
    """The low bytes of each, which is also where an entry that wrapped stands."""
    return entries.astype(f"<u{width}").tobytes() if width else b""


def _encode_few(points: Points) -> bytes | None:
    """The same bytes in plain Python, where NumPy's calls would cost many times the work.

    None where anything is unusual: values that are not finite, negative zeros, late timestamps.
    """
    steps, times = points.steps.tolist(), points.timestamps.tolist()
    values = points.values.tolist()
    low, high = min(values), max(values)
    total = sum(values)
    if total - total != 0.0 or (not (low and high) and _NEGATIVE_ZERO in points.values.tobytes()):
        return None
    low_row, high_row = values.index(low), values.index(high)
    step, time = steps[0], times[0]
    packed_steps = _pack_three(steps[-1] - step, steps[low_row] - step, steps[high_row] - step)
    packed_times = _pack_three(times[-1] - time, times[low_row] - time, times[high_row] - time)
    if packed_steps is None or packed_times is None:
        return None
    offset_width, offsets = packed_steps
    delay_width, delays = packed_times
    form, shown = _pack_four(values[0], values[-1], low, high)
    head = _HEADER.pack(FORMAT, form, 0, 0, offset_width, delay_width, 0, len(steps))
    return seal(b"".join((head, _STARTS.pack(step, time), offsets, delays, shown)))


def _pack_three(*offsets: int) -> tuple[int, bytes] | None:
    if not any(offsets):
        return 0, b""
    if min(offsets) < 0:
        return None
    greatest = max(offsets)
    width = 1 if greatest < 1 << 8 else 2 if greatest < 1 << 16 else _width(greatest)
    return width, _THREE[width].pack(*offsets)


def _pack_four(*values: float) -> tuple[int, bytes]:
    doubles = _DOUBLES.pack(*values)
    if doubles == doubles[:8] * 4:
        return EQUAL, doubles[:8]
    try:
        singles = _SINGLES.pack(*values)
    except OverflowError:
        return PLAIN, doubles
    same = _DOUBLES.pack(*_SINGLES.unpack(singles)) == doubles
    return (SINGLE, singles) if same else (PLAIN, doubles)
