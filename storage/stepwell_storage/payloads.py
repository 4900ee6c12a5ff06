"""The journal's payload: the points of one (batch, run), as bytes.  Layout in docs/format.md.

Appending must cost microseconds, so a column is not compressed but written in the narrowest form
that a glance finds: one entry where all are equal, the first series' entries where every series
repeats them, differences of 0, 1, 2 or 4 bytes, float32 where every value is one.  That beats
zstd at level -5 in time and, on training metrics, in size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stepwell_storage.errors import Corrupt
from stepwell_storage.points import FLOAT64, INT64, Floats, Ints, Points, canonical, float32

FORMAT = 1
MAX_POINTS = 1 << 22
"""Of one payload; a body of 32 MiB holds fewer.  Bounds what a damaged count can allocate."""

# How a column is written.  REPEATED is added where every series repeats the first one's entries,
# and only those are written.
_PLAIN, _EQUAL, _FLOAT32 = 0, 1, 2
_DELTA = {0: 16, 1: 17, 2: 18, 4: 20}  # bytes of a difference
_WIDTHS = {form: width for width, form in _DELTA.items()}
_REPEATED = 128

_HEADER = struct.Struct("<BBBBBBII")  # format, widths of keys and counts, 3 forms, keys, points
_START = struct.Struct("<qq")  # a column of differences: first entry, smallest difference
_CRC = struct.Struct("<I")
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SMALL = 16
"""Entries of a column up to which a look at the differences costs more than it saves."""


@dataclass(frozen=True, slots=True, eq=False)
class Journaled:
    """A decoded payload: ``keys[i]`` owns the next ``counts[i]`` entries of the three columns.

    A key may occur more than once; points stand in the order in which they were logged.
    """

    keys: Ints
    counts: Ints
    steps: Ints
    timestamps: Ints
    values: Floats

    def of(self, key: int) -> Points | None:
        """The points of one key, as logged; None when the payload does not name it."""
        ends = np.cumsum(self.counts)
        parts = []
        for index in np.flatnonzero(self.keys == key).tolist():
            rows = slice(int(ends[index] - self.counts[index]), int(ends[index]))
            parts.append(Points(self.steps[rows], self.timestamps[rows], self.values[rows]))
        return Points.concat(parts) if parts else None


def encode(
    keys: Sequence[int], counts: Sequence[int], steps: bytes, timestamps: bytes, values: bytes
) -> bytes:
    """The columns are little-endian int64, int64 and float64, series after series.

    ``keys`` are ids, at least one; every count is at least 1.  NaNs become the one NaN, nothing
    else changes.  Raises ValueError when lengths and counts disagree or exceed ``MAX_POINTS``.
    """
    points = sum(counts)
    if len(keys) != len(counts) or not len(steps) == len(timestamps) == len(values) == points * 8:
        raise ValueError("columns, counts and keys disagree")
    if not 0 < points <= MAX_POINTS or min(counts) < 1:
        raise ValueError(f"a payload holds 1 to {MAX_POINTS} points and no empty series")
    alike = counts.count(counts[0]) == len(counts)
    period = counts[0] if alike else points
    step_form, step_column = _pack_ints(steps, period)
    time_form, time_column = _pack_ints(timestamps, period)
    value_form, value_column = _pack_floats(values)
    key_width, key_column = _pack_ids(keys)
    count_width, count_column = (0, b"") if alike else _pack_ids(counts)
    forms = (step_form, time_form, value_form)
    head = _HEADER.pack(FORMAT, key_width, count_width, *forms, len(keys), points)
    body = b"".join((head, key_column, count_column, step_column, time_column, value_column))
    return body + _CRC.pack(zlib.crc32(body))


def decode(payload: bytes) -> Journaled:
    """Raises Corrupt on any damage.  The arrays are the caller's own."""
    _, key_width, count_width, *forms, series, points = _header(payload)
    reader = _Reader(payload, _HEADER.size)
    keys = reader.ids(series, key_width)
    if count_width:
        counts = reader.ids(series, count_width)
    else:
        counts = np.full(series, points // series, INT64)
    if int(counts.sum()) != points or int(counts.min()) < 1:
        raise Corrupt("journal payload: counts disagree")
    steps = reader.ints(forms[0], series, points)
    timestamps = reader.ints(forms[1], series, points)
    values = reader.floats(forms[2], points)
    if reader.offset != len(payload) - _CRC.size:
        raise Corrupt("journal payload: wrong length")
    return Journaled(keys, counts, steps, timestamps, values)


def keys_of(payload: bytes) -> Ints:
    """The keys that a payload names, at the price of its checksum.  Raises Corrupt."""
    _, width, _, _, _, _, series, _ = _header(payload)
    return _Reader(payload, _HEADER.size).ids(series, width)


def extract(payload: bytes, key: int) -> Points | None:
    """The points of one key, as logged; None when there are none.  Raises Corrupt."""
    return decode(payload).of(key) if (keys_of(payload) == key).any() else None


def _header(payload: bytes) -> tuple[int, ...]:
    """Checks everything that is read before the columns: a damaged count allocates nothing."""
    if len(payload) < _HEADER.size + _CRC.size:
        raise Corrupt("journal payload: cut short")
    (stored,) = _CRC.unpack_from(payload, len(payload) - _CRC.size)
    if zlib.crc32(memoryview(payload)[: -_CRC.size]) != stored:
        raise Corrupt("journal payload: wrong checksum")
    header = _HEADER.unpack_from(payload)
    if header[0] != FORMAT:
        raise Corrupt(f"journal payload: format {header[0]} is not known to this version")
    series, points = header[6:]
    if not 0 < series <= points <= MAX_POINTS:
        raise Corrupt(f"journal payload: {series} series of {points} points")
    return header


def _pack_ids(ids: Sequence[int]) -> tuple[int, bytes]:
    for width, code in _CODES.items():
        try:
            return width, struct.pack(f"<{len(ids)}{code}", *ids)
        except struct.error:
            continue
    raise ValueError("ids and counts are integers from 0 to 2**64 - 1")


def _pack_ints(column: bytes, period: int) -> tuple[int, bytes]:
    """``period`` is the number of points of each series, or of all when they differ."""
    if _repeats(column, 8):
        return _EQUAL, column[:8]
    form = _PLAIN
    if _repeats(column, period * 8):
        form, column = _REPEATED, column[: period * 8]
    if len(column) <= _SMALL * 8:
        return form, column
    entries = np.frombuffer(column, INT64)
    differences = entries[1:] - entries[:-1]
    least = int(differences.min())
    span = int(differences.max()) - least
    for width, delta in _DELTA.items():
        if span < 1 << 8 * width:
            start = _START.pack(int(entries[0]), least)
            # Narrowing keeps the low bytes, which is where a difference that wrapped stands too.
            rest = (differences - least).astype(f"<u{width}").tobytes() if width else b""
            return form | delta, start + rest
    return form, column


def _pack_floats(column: bytes) -> tuple[int, bytes]:
    if _repeats(column, 8):
        return _EQUAL, canonical(np.frombuffer(column[:8], FLOAT64)).tobytes()
    if len(column) > _SMALL * 8:
        values = canonical(np.frombuffer(column, FLOAT64))
        narrow = float32(values)
        return (_PLAIN, values.tobytes()) if narrow is None else (_FLOAT32, narrow.tobytes())
    numbers = struct.unpack(f"<{len(column) // 8}d", column)
    if (total := sum(numbers)) != total:
        column = canonical(np.frombuffer(column, FLOAT64)).tobytes()
    try:
        short = struct.pack(f"<{len(numbers)}f", *numbers)
    except OverflowError:
        return _PLAIN, column
    back = struct.unpack(f"<{len(numbers)}f", short)
    same = struct.pack(f"<{len(numbers)}d", *back) == column
    return (_FLOAT32, short) if same else (_PLAIN, column)


def _repeats(column: bytes, size: int) -> bool:
    """Whether the column is its first ``size`` bytes, more than once."""
    start = column[:size]
    return column[size : 2 * size] == start and column == start * (len(column) // size)


class _Reader:
    """Takes one column after the other; checks every length before it allocates."""

    def __init__(self, payload: bytes, offset: int) -> None:
        self._payload = payload
        self._end = len(payload) - _CRC.size
        self.offset = offset

    def ids(self, count: int, width: int) -> Ints:
        if width not in _CODES:
            raise Corrupt(f"journal payload: ids of {width} bytes")
        return self._entries(count, f"<u{width}").astype(INT64)

    def ints(self, form: int, series: int, points: int) -> Ints:
        if form == _EQUAL:
            return np.full(points, self._entries(1, INT64)[0], INT64)
        if not form & _REPEATED:
            return self._distinct_ints(form, points)
        if points % series:
            raise Corrupt("journal payload: repeated columns of unequal series")
        return np.tile(self._distinct_ints(form & ~_REPEATED, points // series), series)

    def floats(self, form: int, points: int) -> Floats:
        if form == _EQUAL:
            return np.full(points, self._entries(1, FLOAT64)[0], FLOAT64)
        if form == _FLOAT32:
            return self._entries(points, "<f4").astype(FLOAT64)
        if form == _PLAIN:
            return self._entries(points, FLOAT64).copy()
        raise Corrupt(f"journal payload: form {form} of a column is not known to this version")

    def _distinct_ints(self, form: int, points: int) -> Ints:
        if form == _PLAIN:
            return self._entries(points, INT64).copy()
        if form not in _WIDTHS:
            raise Corrupt(f"journal payload: form {form} of a column is not known to this version")
        first, least = self._entries(2, INT64).tolist()
        entries = np.full(points, least, INT64)
        if width := _WIDTHS[form]:
            entries[1:] += self._entries(points - 1, f"<u{width}").astype(INT64)
        entries[0] = first
        return np.cumsum(entries, out=entries)

    def _entries(self, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A view of the payload, perhaps unaligned."""
        size = count * np.dtype(dtype).itemsize
        if size > self._end - self.offset:
            raise Corrupt("journal payload: cut short")
        self.offset += size
        return np.frombuffer(self._payload, dtype, count, self.offset - size)
