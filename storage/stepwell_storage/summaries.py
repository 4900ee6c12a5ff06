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
    float64,
    to_float32,
    to_ordered,
)
from stepwell_storage.stretches import Mask, Stretches

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
_SHAPE_BASE = 512  # above each number of a shape: forms, widths, and blocks of a chunk
_CRC_BYTES = 4
_LEAST_BYTES = _HEADER.size + _CRC_BYTES
_SEALED = 0x2144DF1C
"""The checksum of whatever ends with its own."""


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
    return summarise_each(points, Stretches.of([len(points)]))


def summarise_each(points: Points, chunks: Stretches) -> Summary:
    """The blocks of several chunks, each at least one point, and ordered."""
    values = canonical(points.values)
    sizes = -(-chunks.counts // BLOCK)
    of_chunk = Stretches.of(sizes)
    counts = np.full(int(sizes.sum()), BLOCK, INT64)
    counts[of_chunk.ends] = chunks.counts - BLOCK * (sizes - 1)
    blocks = Stretches.of(counts)
    keys = top = to_ordered(values)
    infinite = ~np.isfinite(values)
    if infinite.any():
        nonfinite = blocks.total(infinite)
        # Among the keys NaN is the greatest, so that only a block of nothing else has it lowest.
        top = np.where(np.isnan(values), _INT64_MIN, keys)
    else:
        nonfinite = np.zeros(len(blocks), INT64)
    low, high = blocks.first_row(np.minimum, keys), blocks.first_row(np.maximum, top)
    rows = np.stack([blocks.starts, blocks.ends, low, high])
    return Summary(
        sizes=sizes,
        counts=counts,
        nonfinite=nonfinite,
        steps=points.steps[rows],
        timestamps=points.timestamps[rows],
        values=values[rows],
    )


def encode(summary: Summary) -> bytes:
    """The summary of one chunk as bytes."""
    return encode_each(summary)[0]


def encode_each(summary: Summary) -> list[bytes]:
    """The summary of each chunk as bytes.  Those of one shape are written as one matrix."""
    chunks = Stretches.of(summary.sizes)
    columns = _Written(summary, chunks)
    shapes = np.column_stack([*columns.shape(), chunks.counts])
    codes = shapes @ (_SHAPE_BASE ** np.arange(shapes.shape[1]))
    _, examples, kinds = np.unique(codes, return_index=True, return_inverse=True)
    encoded = [b""] * len(chunks)
    for kind, example in enumerate(examples.tolist()):
        members = np.flatnonzero(kinds == kind)
        body = columns.rows(members, shapes[example].tolist())
        whole, size = body.tobytes(), body.shape[1]
        for row, index in enumerate(members.tolist()):
            encoded[index] = seal(whole[row * size : (row + 1) * size])
    return encoded


class _Written:
    """What is written of several chunks' summaries, one entry or row per chunk."""

    def __init__(self, summary: Summary, chunks: Stretches) -> None:
        self._summary = summary
        self._chunks = chunks
        self._points = chunks.total(summary.counts)
        self._firsts = [
            _differences(column[0], chunks) for column in (summary.steps, summary.timestamps)
        ]
        self._offsets = [column[1:] - column[0] for column in (summary.steps, summary.timestamps)]

    def shape(self) -> tuple[npt.NDArray[Any], ...]:
        """Form of the values and the widths of the other columns, as the header has them."""
        chunks, summary = self._chunks, self._summary
        differences = [_widths(span) for _, _, span in self._firsts]
        offsets = [
            _widths(
                chunks.greatest(column.max(axis=0)),
                negative=chunks.least(column.min(axis=0)) < 0,
            )
            for column in self._offsets
        ]
        odd = _widths(chunks.greatest(summary.nonfinite))
        return (self._forms(), *differences, *offsets, odd)

    def _forms(self) -> npt.NDArray[Any]:
        chunks, values = self._chunks, self._summary.values
        bits = values.view(INT64)
        equal = chunks.all((bits == chunks.spread(bits[0][chunks.starts])).all(axis=0))
        same = float64(to_float32(values)).view(INT64) == bits
        single = chunks.all(same.all(axis=0))
        return np.where(equal, EQUAL, np.where(single, SINGLE, PLAIN))

    def rows(self, members: Ints, shape: list[int]) -> npt.NDArray[np.uint8]:
        """uint8[members, bytes]: everything but the seal, of chunks that have this shape."""
        form, *widths, blocks = shape
        summary = self._summary
        starts = self._chunks.starts[members]
        at = starts[:, None] + np.arange(blocks)
        head = np.empty((len(members), _SHAPE_BYTES), np.uint8)
        head[:] = (FORMAT, form, *widths)
        parts = [head, _as_bytes(self._points[members, None], "<u4")]
        for (least, beyond, _), column, width in zip(
            self._firsts, (summary.steps, summary.timestamps), widths[:2], strict=True
        ):
            parts.append(_as_bytes(column[0, starts, None], INT64))
            if blocks > 1:
                parts.append(_as_bytes(least[members, None], INT64))
                parts.append(_as_bytes(beyond[at[:, 1:]], f"<u{width}"))
        for column, width in zip(self._offsets, widths[2:4], strict=True):
            parts.append(_as_bytes(column[:, at].swapaxes(0, 1), f"<u{width}"))
        parts.append(_as_bytes(summary.nonfinite[at], f"<u{widths[4]}"))
        values = summary.values[:, at].swapaxes(0, 1)
        if form == EQUAL:
            parts.append(_as_bytes(values[:, 0, :1], FLOAT64))
        else:
            parts.append(_as_bytes(values, FLOAT32 if form == SINGLE else FLOAT64))
        return np.concatenate(parts, axis=1)


def _differences(firsts: Ints, chunks: Stretches) -> tuple[Ints, Ints, Ints]:
    """From block to block of a chunk: the least, by how much each is greater, the most of that."""
    differences = chunks.differences(firsts)
    least = chunks.least(differences)
    span = chunks.greatest(differences) - least
    return least, differences - chunks.spread(least), span


def _widths(greatest: Ints, *, negative: Mask | bool = False) -> Ints:
    """Bytes for entries from 0 up to ``greatest``, which wraps where it is over int64."""
    unsigned = greatest.view(np.uint64)
    fits = [unsigned < 1 << 8 * width for width in _WIDTHS[:-1]]
    return np.where(negative, 8, np.select(fits, _WIDTHS[:-1], 8))


def _as_bytes(entries: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[np.uint8]:
    """The low bytes of each, which is also where an entry that wrapped stands; a row a chunk."""
    if dtype == "<u0":
        return np.empty((len(entries), 0), np.uint8)
    narrow = entries.astype(dtype, order="C").reshape(len(entries), -1)
    return narrow.view(np.uint8)


def decode(encoded: bytes) -> Summary:
    """The summary of one chunk.  Raises Corrupt on any damage."""
    return decode_all([encoded])


def decode_all(encoded: Sequence[bytes]) -> Summary:
    """The summaries of many chunks, one behind the other, at a few microseconds each.

    Raises Corrupt, whose place has the ``index`` of the damaged summary.
    """
    points = _counts(encoded)
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
        rows = _rows(ends[members] - blocks, blocks)
        ints[:, rows] = columns.ints().reshape(9, -1)
        values[:, rows] = columns.values().reshape(4, -1)
    return Summary(sizes, counts, ints[8], ints[:4], ints[4:8], values)


def _rows(starts: Ints, blocks: int) -> Ints | slice:
    """The rows of so many blocks from each start on; as a slice, which is copied at once, where
    they follow each other: all of a long series but its last chunk do."""
    if starts[-1] - starts[0] == blocks * (len(starts) - 1):
        return slice(int(starts[0]), int(starts[-1]) + blocks)
    rows: Ints = (starts[:, None] + np.arange(blocks)).ravel()
    return rows


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


def _counts(encoded: Sequence[bytes]) -> Ints:
    """The points of each.  Raises Corrupt where a seal or a head is not whole."""
    if set(map(zlib.crc32, encoded)) == {_SEALED} and min(map(len, encoded)) >= _LEAST_BYTES:
        joined = b"".join([one[: _HEADER.size] for one in encoded])
        heads = np.frombuffer(joined, np.uint8).reshape(len(encoded), _HEADER.size)
        counts = heads[:, _SHAPE_BYTES:].copy().view("<u4")[:, 0].astype(INT64)
        if (heads[:, 0] == FORMAT).all() and counts.min() > 0 and counts.max() <= MAX_POINTS:
            return counts
    return np.array([_count(one, index) for index, one in enumerate(encoded)], INT64)


def _count(encoded: bytes, index: int) -> int:
    """The points of a summary whose seal and head are whole."""
    end = len(encoded) - _CRC_BYTES
    if len(encoded) < _LEAST_BYTES:
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
