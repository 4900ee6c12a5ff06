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
    float32,
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
_STARTS = struct.Struct("<qq")
_DOUBLES, _SINGLES = struct.Struct("<4d"), struct.Struct("<4f")
_FEW = 32
_MASK = (1 << 64) - 1
_FORMS = (PLAIN, EQUAL, SINGLE)


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Blocks of one chunk or of several, one entry per block, in the chunks' order.

    ``sizes`` has one entry per chunk: how many blocks it has.  ``lowest`` and ``highest`` skip NaN
    and are the earliest such point; where their value is NaN the block holds nothing but NaN.
    ``nonfinite`` counts NaN and infinities.
    """

    sizes: Ints
    counts: Ints
    nonfinite: Ints
    first: Points
    last: Points
    lowest: Points
    highest: Points

    def __len__(self) -> int:
        """Blocks."""
        return len(self.counts)

    @property
    def count(self) -> int:
        """Points."""
        return int(self.counts.sum())


def summarise(points: Points) -> Summary:
    """The blocks of one chunk; ``points`` are at least one, ordered, their NaNs canonical."""
    count = len(points)
    blocks = -(-count // BLOCK)
    starts = np.arange(0, count, BLOCK)
    counts = np.full(blocks, BLOCK, INT64)
    counts[-1] = count - BLOCK * (blocks - 1)
    values = points.values
    keys = to_ordered(values)
    infinite = ~np.isfinite(values)
    if infinite.any():
        nonfinite = np.add.reduceat(infinite.astype(INT64), starts)
        top = np.where(np.isnan(values), _INT64_MIN, keys)
    else:
        nonfinite = np.zeros(blocks, INT64)
        top = keys
    # The order of NaN as the greatest leaves it to a block that holds nothing else.
    lowest = starts + _padded(keys, blocks, INT64_MAX).argmin(axis=1)
    highest = starts + _padded(top, blocks, _INT64_MIN).argmax(axis=1)
    return Summary(
        sizes=np.array([blocks], INT64),
        counts=counts,
        nonfinite=nonfinite,
        first=points[starts],
        last=points[starts + counts - 1],
        lowest=points[lowest],
        highest=points[highest],
    )


def encode(summary: Summary) -> bytes:
    """The summary of one chunk as bytes."""
    firsts = summary.first
    step_width, step_column = _pack_firsts(firsts.steps)
    time_width, time_column = _pack_firsts(firsts.timestamps)
    others = (summary.last, summary.lowest, summary.highest)
    step_offsets = np.concatenate([other.steps - firsts.steps for other in others])
    time_offsets = np.concatenate([other.timestamps - firsts.timestamps for other in others])
    offset_width, offset_column = _pack_offsets(step_offsets)
    delay_width, delay_column = _pack_offsets(time_offsets)
    odd_width, odd_column = _pack_offsets(summary.nonfinite)
    values = np.concatenate([firsts.values, *(other.values for other in others)])
    form, value_column = _pack_values(values)
    widths = (step_width, time_width, offset_width, delay_width, odd_width)
    head = _HEADER.pack(FORMAT, form, *widths, summary.count)
    columns = (step_column, time_column, offset_column, delay_column, odd_column, value_column)
    return seal(b"".join((head, *columns)))


def encode_points(points: Points) -> bytes:
    """What ``encode(summarise(points))`` gives, sooner when there are few points."""
    few = _encode_few(points) if len(points) <= _FEW else None
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
        rows = ((ends[members] - blocks)[:, None] + np.arange(blocks)).ravel()
        ints[:, rows] = columns.ints().transpose(1, 0, 2).reshape(9, -1)
        values[:, rows] = columns.values().transpose(1, 0, 2).reshape(4, -1)
    four = [Points(ints[i], ints[4 + i], values[i]) for i in range(4)]
    return Summary(sizes, counts, ints[8], *four)


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
        """int64[summaries, 9, blocks]: steps of the four points, timestamps, non-finite counts."""
        blocks = self._blocks
        table = np.zeros((len(self._bytes), 9, blocks), INT64)
        for row, width in zip((0, 4), self._widths[:2], strict=True):
            self._take_firsts(width, table[:, row])
        for row, width in zip((0, 4), self._widths[2:4], strict=True):
            table[:, row + 1 : row + 4] = table[:, row : row + 1]
            if width:
                offsets = self._take(3 * blocks, f"<u{width}").reshape(-1, 3, blocks)
                table[:, row + 1 : row + 4] += offsets.astype(INT64)
        if width := self._widths[4]:
            table[:, 8] = self._take(blocks, f"<u{width}")
        return table

    def values(self) -> Floats:
        """float64[summaries, 4, blocks]; taken after ``ints``."""
        blocks = self._blocks
        if self._form == EQUAL:
            return np.tile(self._take(1, FLOAT64)[:, :, None], (1, 4, blocks))
        dtype = FLOAT32 if self._form == SINGLE else FLOAT64
        return self._take(4 * blocks, dtype).reshape(-1, 4, blocks).astype(FLOAT64)

    def _expected_size(self) -> int:
        step, time, offset, delay, odd = self._widths
        starts = 16 if self._blocks == 1 else 32 + (step + time) * (self._blocks - 1)
        values = 8 if self._form == EQUAL else 4 * self._blocks * (4 if self._form == SINGLE else 8)
        return _HEADER.size + starts + (3 * (offset + delay) + odd) * self._blocks + values + 4

    def _take_firsts(self, width: int, out: Ints) -> None:
        out[:, 0] = self._take(1, INT64)[:, 0]
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


def _encode_few(points: Points) -> bytes | None:
    """The same bytes in plain Python, where NumPy's calls would cost ten times the work.

    None where a non-finite value or a negative zero asks for the order of bits.
    """
    steps, times = points.steps.tolist(), points.timestamps.tolist()
    values = points.values.tolist()
    low, high = min(values), max(values)
    total = sum(values)
    if total - total != 0.0 or (
        not (low and high) and b"\0\0\0\0\0\0\0\x80" in points.values.tobytes()
    ):
        return None
    rows = (-1, values.index(low), values.index(high))
    offset_width, offsets = _pack_three([_wrapped(steps[row] - steps[0]) for row in rows])
    delay_width, delays = _pack_three([_wrapped(times[row] - times[0]) for row in rows])
    form, shown = _pack_four(values[0], values[-1], low, high)
    head = _HEADER.pack(FORMAT, form, 0, 0, offset_width, delay_width, 0, len(steps))
    starts = _STARTS.pack(steps[0], times[0])
    return seal(b"".join((head, starts, offsets, delays, shown)))


def _pack_three(offsets: list[int]) -> tuple[int, bytes]:
    width = 8 if min(offsets) < 0 else _width(max(offsets))
    return width, b"".join([(offset & _MASK).to_bytes(width, "little") for offset in offsets])


def _wrapped(difference: int) -> int:
    """As int64 subtraction leaves it."""
    return ((difference - _INT64_MIN) & _MASK) + _INT64_MIN


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


def _count(encoded: bytes, index: int) -> int:
    """The points of a summary whose seal and head are whole."""
    end = len(encoded) - 4
    if end < _HEADER.size:
        raise Corrupt("chunk summary: cut short", index=index)
    if zlib.crc32(encoded[:end]) != int.from_bytes(encoded[end:], "little"):
        raise Corrupt("chunk summary: wrong checksum", index=index)
    if encoded[0] != FORMAT:
        raise Corrupt(
            f"chunk summary: format {encoded[0]} is not known to this version", index=index
        )
    count = int.from_bytes(encoded[_SHAPE_BYTES : _HEADER.size], "little")
    if not 0 < count <= MAX_POINTS:
        raise Corrupt(f"chunk summary: {count} points", index=index)
    return count


def _padded(keys: Ints, blocks: int, fill: int) -> Ints:
    """int64[blocks, ...], the last row filled up."""
    if blocks > 1 and len(keys) < blocks * BLOCK:
        keys = np.concatenate([keys, np.full(blocks * BLOCK - len(keys), fill, INT64)])
    return keys.reshape(blocks, -1)


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
