"""A chunk: the sealed points of one series, and the summary that stands in front of it.

Pure: bytes in, points out.  The first byte of the data is its encoding; an encoding's number is
never used again, and data of every number ever written stays readable.  docs/format.md has them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pcodec import ChunkConfig, DeltaSpec, ModeSpec, wrapped

from stepwell_storage import summaries
from stepwell_storage.columns import EQUAL, Reader, pack_floats, pack_ints, seal
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
    is_increasing,
)
from stepwell_storage.records import Position
from stepwell_storage.summaries import BLOCK, MAX_POINTS, Summary, summarise

__all__ = [
    "BLOCK",
    "MAX_POINTS",
    "Chunk",
    "Summary",
    "decode",
    "decode_summaries",
    "decode_summary",
    "encode",
    "summarise",
]

_Entry = TypeVar("_Entry", bound=np.generic)

PACKED, NARROW = 1, 2
"""Encodings.  0 and 255 stay unused, so that zeroed or erased bytes are never a chunk."""

NARROW_BELOW = 64
"""Points below which pcodec saves a few percent and costs several times as much."""

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
    if not 0 < len(points) <= MAX_POINTS:
        raise ValueError(f"a chunk holds 1 to {MAX_POINTS} points, not {len(points)}")
    if not is_increasing(points):
        raise ValueError("the points of a chunk must be ordered and unique")
    data = _narrow(points) if len(points) < NARROW_BELOW else _pack(points)
    summary = summaries.encode_points(points)
    return Chunk(summary, data, len(points), points.position(0), points.position(-1))


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


decode_summary = summaries.decode
decode_summaries = summaries.decode_all


def _narrow(points: Points) -> bytes:
    count = len(points)
    step_form, steps = pack_ints(points.steps.tobytes(), count)
    time_form, timestamps = pack_ints(points.timestamps.tobytes(), count)
    value_form, values = pack_floats(points.values.tobytes())
    head = _NARROW_HEADER.pack(NARROW, step_form, time_form, value_form, count)
    return seal(b"".join((head, steps, timestamps, values)))


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
    value_form, values = _pack_floats(canonical(points.values))
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
