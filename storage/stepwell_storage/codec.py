"""A chunk: the sealed points of one series, and the summary that stands in front of it.

Pure: bytes in, points out.  The first byte of the data is its encoding; an encoding's number is
never used again, and data of every number ever written stays readable.  docs/format.md has them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pcodec import ChunkConfig, DeltaSpec, ModeSpec, wrapped

from stepwell_storage import summaries
from stepwell_storage.columns import (
    EQUAL,
    Reader,
    Rows,
    pack_floats_each,
    pack_ints,
    pack_ints_each,
    seal,
)
from stepwell_storage.errors import Corrupt
from stepwell_storage.points import (
    FLOAT32,
    FLOAT64,
    INT64,
    Floats,
    Ints,
    Points,
    canonical,
    float32,
    float64,
)
from stepwell_storage.records import Position
from stepwell_storage.stretches import Stretches, out_of_order
from stepwell_storage.summaries import BLOCK, MAX_POINTS, Summary, summarise, summarise_each

__all__ = [
    "BLOCK",
    "MAX_POINTS",
    "Chunk",
    "Summary",
    "decode",
    "decode_each",
    "decode_summaries",
    "decode_summary",
    "encode",
    "encode_each",
    "summarise",
]

_Entry = TypeVar("_Entry", bound=np.generic)

PACKED, NARROW = 1, 2
"""Encodings.  0 and 255 stay unused, so that zeroed or erased bytes are never a chunk."""

NARROW_BELOW = 64
"""Points below which pcodec saves a few percent and costs several times as much."""

_MANY_ALIKE = 4
"""Chunks of one shape from which on reading them together is sooner done."""

_PCO, _PCO_SINGLE = 64, 65  # forms of a column, beside those of columns.py
_PACKED_HEADER = struct.Struct("<BBBBIIII")  # encoding, 3 forms, points, bytes of each column
_NARROW_HEADER = struct.Struct("<BBBBI")  # encoding, 3 forms, points

# Times and steps are sums of small differences; trying other shapes costs as much as packing.
_INTS = ChunkConfig(
    compression_level=4,
    delta_spec=DeltaSpec.try_consecutive(1),
    mode_spec=ModeSpec.classic(),
)
_FLOATS = ChunkConfig(compression_level=4)
# Doubles that level 4 brings below 3 bytes are smooth or decimal; level 6 takes a third more off.
_SMOOTH = ChunkConfig(compression_level=6)
_SMOOTH_BYTES = 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """``first`` and ``last`` are the least and greatest point."""

    summary: bytes
    data: bytes
    count: int
    first: Position
    last: Position


def encode(points: Points) -> Chunk:
    """Seals 1 to ``MAX_POINTS`` points; ValueError when they are not ordered and unique."""
    ((data, summary),) = encode_each(points, Stretches.of([len(points)]))
    return Chunk(summary, data, len(points), points.position(0), points.position(-1))


def encode_each(
    points: Points, chunks: Stretches, *, narrow_below: int = NARROW_BELOW
) -> list[tuple[bytes, bytes]]:
    """Data and summary of each chunk; those of fewer points than ``narrow_below`` in one pass.

    ValueError when one holds no points or more than ``MAX_POINTS``, or is not ordered and unique.
    """
    for count in (int(chunks.counts.min()), int(chunks.counts.max())):
        if not 0 < count <= MAX_POINTS:
            raise ValueError(f"a chunk holds 1 to {MAX_POINTS} points, not {count}")
    if len(out_of_order(points, chunks)):
        raise ValueError("the points of a chunk must be ordered and unique")
    points = Points(points.steps, points.timestamps, canonical(points.values))
    short = chunks.counts < narrow_below
    rows = np.repeat(short, chunks.counts)
    few = Stretches.of(chunks.counts[short])
    narrow = iter(_narrow_each(points[rows], few) if len(few) else ())
    data = [
        next(narrow) if is_short else _pack(points[start : start + count])
        for is_short, start, count in zip(
            short.tolist(), chunks.starts.tolist(), chunks.counts.tolist(), strict=True
        )
    ]
    return list(zip(data, summaries.encode_each(summarise_each(points, chunks)), strict=True))


def decode(data: bytes) -> Points:
    """Every point, ordered and unique.  Raises Corrupt on any damage."""
    if not data:
        raise Corrupt("chunk: empty")
    unpack = _DECODERS.get(data[0])
    if unpack is None:
        # The seal stands at the end in every encoding, so damage is told from a newer version.
        Reader(data, 1, "chunk")
        raise Corrupt(f"chunk: encoding {data[0]} is not known to this version")
    return unpack(data)


def decode_each(data: Sequence[bytes]) -> tuple[Points, Ints]:
    """The points of many chunks, one behind the other, and how many each has.

    Narrow chunks of one shape are read as one matrix.  Raises Corrupt, whose place has the
    ``index`` of a damaged chunk.
    """
    alike: dict[tuple[bytes, int], list[int]] = {}
    for index, one in enumerate(data):
        alike.setdefault((one[: _NARROW_HEADER.size], len(one)), []).append(index)
    counts = np.zeros(len(data), INT64)
    tables: list[tuple[list[int], Points]] = []
    for members in alike.values():
        table = _decode_alike(data, members)
        counts[members] = table.steps.shape[1]
        tables.append((members, table))
    starts, total = np.cumsum(counts) - counts, int(counts.sum())
    whole = Points(np.empty(total, INT64), np.empty(total, INT64), np.empty(total, FLOAT64))
    for members, table in tables:
        rows = starts[members][:, None] + np.arange(table.steps.shape[1])
        whole.steps[rows], whole.timestamps[rows] = table.steps, table.timestamps
        whole.values[rows] = table.values
    return whole, counts


def _decode_alike(data: Sequence[bytes], members: Sequence[int]) -> Points:
    """Columns of shape (members, points): the members' heads and lengths are the same."""
    first = data[members[0]]
    if len(members) >= _MANY_ALIKE and first[0] == NARROW and len(first) > _NARROW_HEADER.size:
        _, *forms, count = _NARROW_HEADER.unpack_from(first)
        rows = Rows([data[index] for index in members], _NARROW_HEADER.size)
        if 0 < count <= MAX_POINTS and rows.hold(forms, count):
            steps, timestamps = rows.ints(forms[0], count), rows.ints(forms[1], count)
            return Points(steps, timestamps, rows.floats(forms[2], count))
    parts = []
    for index in members:
        try:
            parts.append(decode(data[index]))
        except Corrupt as error:
            raise Corrupt(error.reason, index=index) from error
    return Points(
        np.stack([part.steps for part in parts]),
        np.stack([part.timestamps for part in parts]),
        np.stack([part.values for part in parts]),
    )


decode_summary = summaries.decode
decode_summaries = summaries.decode_all


def _narrow_each(points: Points, chunks: Stretches) -> list[bytes]:
    steps = pack_ints_each(points.steps, chunks)
    times = pack_ints_each(points.timestamps, chunks)
    values = pack_floats_each(points.values, chunks)
    heads = np.empty((len(chunks), _NARROW_HEADER.size), np.uint8)
    heads[:, 0] = NARROW
    heads[:, 1:4] = np.column_stack([steps.forms, times.forms, values.forms])
    heads[:, 4:] = chunks.counts.astype("<u4").view(np.uint8).reshape(-1, 4)
    whole, size = heads.tobytes(), _NARROW_HEADER.size
    places = range(0, len(whole), size)
    return [
        seal(b"".join((whole[place : place + size], *columns)))
        for place, *columns in zip(places, steps.parts, times.parts, values.parts, strict=True)
    ]


def _unnarrow(data: bytes) -> Points:
    reader = Reader(data, _NARROW_HEADER.size, "chunk")
    _, step_form, time_form, value_form, count = _NARROW_HEADER.unpack_from(data)
    _check_count(reader, count)
    steps = reader.ints(step_form, count, count)
    timestamps = reader.ints(time_form, count, count)
    values = reader.floats(value_form, count)
    reader.finish()
    return Points(steps, timestamps, values)


def _pack(points: Points) -> bytes:
    step_form, steps = _pack_ints(points.steps)
    time_form, timestamps = _pack_ints(points.timestamps)
    value_form, values = _pack_floats(points.values)
    forms = (step_form, time_form, value_form)
    sizes = (len(steps), len(timestamps), len(values))
    head = _PACKED_HEADER.pack(PACKED, *forms, len(points), *sizes)
    return seal(b"".join((head, steps, timestamps, values)))


def _unpack(data: bytes) -> Points:
    reader = Reader(data, _PACKED_HEADER.size, "chunk")
    _, step_form, time_form, value_form, count, *sizes = _PACKED_HEADER.unpack_from(data)
    _check_count(reader, count)
    steps = _unpack_ints(reader, step_form, count, sizes[0])
    timestamps = _unpack_ints(reader, time_form, count, sizes[1])
    values = _unpack_floats(reader, value_form, count, sizes[2])
    reader.finish()
    return Points(steps, timestamps, values)


_DECODERS: dict[int, Callable[[bytes], Points]] = {PACKED: _unpack, NARROW: _unnarrow}


def _check_count(reader: Reader, count: int) -> None:
    if not 0 < count <= MAX_POINTS:
        raise reader.corrupt(f"{count} points")


def _pack_ints(column: Ints) -> tuple[int, bytes]:
    differences = column[1:] - column[:-1]
    if (differences == differences[0]).all():
        # Steps, as a rule: a form of columns.py holds them in 16 bytes.
        return pack_ints(column.tobytes(), len(column))
    return _PCO, _compress(column, _INTS)


def _unpack_ints(reader: Reader, form: int, count: int, size: int) -> Ints:
    if form == _PCO:
        return _decompress(reader, size, np.empty(count, INT64), "i64")
    return reader.ints(form, count, count)


def _pack_floats(values: Floats) -> tuple[int, bytes]:
    bits = values.view(INT64)
    if (bits == bits[0]).all():
        return EQUAL, values[:1].tobytes()
    single = float32(values)
    if single is not None:
        return _PCO_SINGLE, _compress(single, _FLOATS)
    packed = _compress(values, _FLOATS)
    if len(packed) < len(values) * _SMOOTH_BYTES:
        packed = min(packed, _compress(values, _SMOOTH), key=len)
    return _PCO, packed


def _unpack_floats(reader: Reader, form: int, count: int, size: int) -> Floats:
    if form == _PCO:
        return _decompress(reader, size, np.empty(count, FLOAT64), "f64")
    if form == _PCO_SINGLE:
        return float64(_decompress(reader, size, np.empty(count, FLOAT32), "f32"))
    return reader.floats(form, count)


def _compress(column: npt.NDArray[np.generic], config: ChunkConfig) -> bytes:
    """One pcodec file, wrapped: header, metadata, one page.  Its length and type stand outside."""
    file = wrapped.FileCompressor()
    chunk = file.chunk_compressor(np.ascontiguousarray(column), config)
    return b"".join((file.write_header(), chunk.write_meta(), chunk.write_page(0)))


def _decompress(
    reader: Reader, size: int, out: npt.NDArray[_Entry], dtype: str
) -> npt.NDArray[_Entry]:
    packed = reader.take(size)
    try:
        file, start = wrapped.FileDecompressor.new(packed)
        chunk, meta = file.chunk_decompressor(packed[start:], dtype)
        start += meta
        progress, used = chunk.read_page_into(packed[start:], len(out), out)
    except (RuntimeError, TypeError, ValueError) as error:
        raise reader.corrupt(f"pcodec: {error}") from error
    if not progress.finished or progress.n_processed != len(out) or start + used != size:
        raise reader.corrupt("a column of the wrong length")
    return out
