"""Columns of 64-bit entries, written narrow: what journal payloads and small chunks are made of.

Nothing is compressed; each column takes the narrowest form that a glance finds.  That costs
microseconds, and on training metrics it is as small as zstd at level -5.  docs/format.md has the
forms; a form's number is never used again for another.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import sub
from typing import Any

import numpy as np
import numpy.typing as npt

from stepwell_storage.errors import Corrupt
from stepwell_storage.points import (
    FLOAT32,
    FLOAT64,
    INT64,
    Floats,
    Ints,
    canonical,
    float64,
    to_float32,
)
from stepwell_storage.stretches import Stretches

PLAIN, EQUAL, SINGLE = 0, 1, 2
DELTA = {0: 16, 1: 17, 2: 18, 4: 20}  # bytes of a difference
REPEATED = 128
"""Added to a form where the column is a shorter one over and over, and only that is written."""

Narrowed = tuple[int, bytes]
"""The form of a column and its bytes."""
_WIDTHS = {form: width for width, form in DELTA.items()}
_START = struct.Struct("<qq")  # a column of differences: first entry, smallest difference
_LEAST = struct.Struct("<q")
_CRC = struct.Struct("<I")
_CODES = {1: "B", 2: "H", 4: "I"}
_TINY = 4
"""Entries up to which differences would be no shorter."""
_SMALL = 32
"""Entries up to which plain Python is sooner done than NumPy's calls."""


def seal(body: bytes) -> bytes:
    """The body with its CRC-32 behind it."""
    return body + _CRC.pack(zlib.crc32(body))


def pack_ints(column: bytes, period: int) -> tuple[int, bytes]:
    """The form and bytes of little-endian int64 entries, at least one.

    ``period`` divides their number: after so many the column may start over.
    """
    return pack_all_ints([(column, period)])[0]


def pack_all_ints(columns: Sequence[tuple[bytes, int]]) -> list[Narrowed]:
    """The same of many columns, each with its period: at once, as NumPy's calls cost more than the
    few hundred entries that they look at."""
    packed: list[Narrowed] = []
    long = []
    for column, period in columns:
        if _repeats(column, 8):
            packed.append((EQUAL, column[:8]))
            continue
        form = PLAIN
        if _repeats(column, period * 8):
            form, column = REPEATED, column[: period * 8]
        if _TINY * 8 < len(column) <= _SMALL * 8:
            delta, column = _pack_few(column)
            form |= delta
        elif len(column) > _TINY * 8:
            long.append(len(packed))
        packed.append((form, column))
    if long:
        _pack_long(packed, long)
    return packed


def _pack_long(packed: list[Narrowed], long: list[int]) -> None:
    """Put differences in the place of those columns of ``packed``, where they are narrower."""
    columns = [packed[index][1] for index in long]
    entries = np.frombuffer(b"".join(columns), INT64)
    bounds = _bounds(columns)
    differences = np.zeros(len(entries), INT64)  # the one behind each column is of no use
    np.subtract(entries[1:], entries[:-1], out=differences[:-1])
    within = [at for start, end in bounds for at in (start, end - 1)]
    least = np.minimum.reduceat(differences, within)[::2]
    greatest = np.maximum.reduceat(differences, within)[::2]
    # Narrowing keeps the low bytes, which is where a difference that wrapped stands too.
    offsets = differences - np.repeat(least, [end - start for start, end in bounds])
    narrow = {0: b""}
    for index, (start, end), low, high in zip(
        long, bounds, least.tolist(), greatest.tolist(), strict=True
    ):
        for width, delta in DELTA.items():
            if high - low < 1 << 8 * width:
                if width not in narrow:
                    narrow[width] = offsets.astype(f"<u{width}").tobytes()
                form, column = packed[index]
                rest = narrow[width][width * start : width * (end - 1)]
                packed[index] = (form | delta, column[:8] + _LEAST.pack(low) + rest)
                break


def _bounds(columns: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where each column's entries begin and end when all stand behind each other."""
    return list(pairwise(accumulate([len(column) // 8 for column in columns], initial=0)))


def pack_floats(column: bytes) -> tuple[int, bytes]:
    """The same of float64 entries; NaNs become the one NaN."""
    return pack_all_floats([column])[0]


def pack_all_floats(columns: Sequence[bytes]) -> list[Narrowed]:
    """The same of many columns at once."""
    packed: list[Narrowed] = []
    long = []
    for column in columns:
        if _repeats(column, 8):
            packed.append((EQUAL, canonical(np.frombuffer(column[:8], FLOAT64)).tobytes()))
        elif len(column) <= _SMALL * 16:
            packed.append(_pack_few_floats(column))
        else:
            long.append(len(packed))
            packed.append((PLAIN, column))
    if long:
        _pack_long_floats(packed, long)
    return packed


def _pack_long_floats(packed: list[Narrowed], long: list[int]) -> None:
    """Write those columns of ``packed`` as float32 where that says them bit for bit."""
    columns = [packed[index][1] for index in long]
    values = canonical(np.frombuffer(b"".join(columns), FLOAT64))
    bounds = _bounds(columns)
    short = to_float32(values)
    same = float64(short).view(INT64) == values.view(INT64)
    single = np.logical_and.reduceat(same, [start for start, _ in bounds])
    singly, plain = short.tobytes(), values.tobytes()
    for index, (start, end), is_single in zip(long, bounds, single.tolist(), strict=True):
        if is_single:
            packed[index] = (SINGLE, singly[4 * start : 4 * end])
        else:
            packed[index] = (PLAIN, plain[8 * start : 8 * end])


def _pack_few_floats(column: bytes) -> Narrowed:
    numbers = struct.unpack(f"<{len(column) // 8}d", column)
    if (total := sum(numbers)) != total:
        column = canonical(np.frombuffer(column, FLOAT64)).tobytes()
    try:
        short = struct.pack(f"<{len(numbers)}f", *numbers)
    except OverflowError:
        return PLAIN, column
    back = struct.unpack(f"<{len(numbers)}f", short)
    same = struct.pack(f"<{len(numbers)}d", *back) == column
    return (SINGLE, short) if same else (PLAIN, column)


def _pack_few(column: bytes) -> tuple[int, bytes]:
    """Differences in plain Python, or the column as it is when they would not fit."""
    entries = struct.unpack(f"<{len(column) // 8}q", column)
    differences = list(map(sub, entries[1:], entries))
    least, greatest = min(differences), max(differences)
    # Four or more differences that lie this close to each other all fit into int64, for their sum
    # lies between -2**64 and 2**64.
    if least == greatest:
        return DELTA[0], _START.pack(entries[0], least)
    if greatest - least >= 1 << 32:
        return PLAIN, column
    width = next(width for width in _CODES if greatest - least < 1 << 8 * width)
    rest = struct.pack(
        f"<qq{len(differences)}{_CODES[width]}",
        entries[0],
        least,
        *[difference - least for difference in differences],
    )
    return (DELTA[width], rest) if len(rest) < len(column) else (PLAIN, column)


@dataclass(frozen=True, slots=True)
class Packed:
    """Many columns: the form of each, and its bytes."""

    forms: npt.NDArray[np.uint8]
    parts: list[bytes]


def pack_ints_each(column: Ints, stretches: Stretches) -> Packed:
    """``pack_ints`` of each stretch, none of them repeated, by one pass over all."""
    counts = stretches.counts
    differences = stretches.differences(column)
    least = stretches.least(differences)
    span = (stretches.greatest(differences) - least).view(np.uint64)  # it may be 2^64 - 1
    widths = np.select([span < 1 << 8 * width for width in DELTA], list(DELTA), 8)
    shorter = (counts > _TINY) & (16 + widths * (counts - 1) < 8 * counts)
    forms = np.where(shorter & (widths < 8), 16 + widths, PLAIN)
    forms[(span == 0) & (least == 0) & (counts > 1)] = EQUAL
    packed = Packed(forms.astype(np.uint8), [b""] * len(counts))
    _fill_plain(packed, column, stretches)
    starts = np.stack([column[stretches.starts], least], axis=1).tobytes()
    for width, form in DELTA.items():
        chosen = np.flatnonzero(forms == form)
        if not len(chosen):
            continue
        rest = memoryview(b"")
        if width:
            # Narrowing keeps the low bytes, which is where a difference that wrapped stands too.
            rows = stretches.spread(forms == form)
            beyond = (differences - stretches.spread(least))[rows]
            rest = memoryview(beyond.astype(f"<u{width}").tobytes())
        ends = (np.cumsum(counts[chosen]) * width).tolist()
        sizes = ((counts[chosen] - 1) * width).tolist()  # the first entry has no difference
        for index, end, size in zip(chosen.tolist(), ends, sizes, strict=True):
            packed.parts[index] = starts[16 * index : 16 * index + 16] + rest[end - size : end]
    return packed


def pack_floats_each(values: Floats, stretches: Stretches) -> Packed:
    """``pack_floats`` of each stretch; every NaN is the one NaN already."""
    bits = values.view(INT64)
    singles = to_float32(values)
    same = float64(singles).view(INT64) == bits
    forms = np.where(stretches.all(same), SINGLE, PLAIN)
    forms[stretches.alike(bits) & (stretches.counts > 1)] = EQUAL
    packed = Packed(forms.astype(np.uint8), [b""] * len(stretches))
    _fill_plain(packed, values, stretches)
    short = singles.tobytes()
    for index in np.flatnonzero(forms == SINGLE).tolist():
        start, count = int(stretches.starts[index]), int(stretches.counts[index])
        packed.parts[index] = short[4 * start : 4 * (start + count)]
    return packed


def _fill_plain(packed: Packed, column: Ints | Floats, stretches: Stretches) -> None:
    """The parts that are entries as they stand: all of them, or the first."""
    whole = column.tobytes()
    starts, ends = 8 * stretches.starts, 8 * (stretches.ends + 1)
    for form, until in ((PLAIN, ends), (EQUAL, starts + 8)):
        chosen = np.flatnonzero(packed.forms == form)
        places = zip(chosen.tolist(), starts[chosen].tolist(), until[chosen].tolist(), strict=True)
        for index, start, end in places:
            packed.parts[index] = whole[start:end]


class Reader:
    """Takes one column after the other out of a sealed body; ``name`` says of what in errors.

    Every length is checked before anything is allocated for it, so a damaged count is Corrupt and
    no memory error.  The arrays returned are the caller's own.
    """

    def __init__(self, body: bytes, offset: int, name: str) -> None:
        """Checks the seal."""
        self._body = body
        self._end = len(body) - _CRC.size
        self._name = name
        self.offset = offset
        if self._end < offset:
            raise self.corrupt("cut short")
        (stored,) = _CRC.unpack_from(body, self._end)
        if zlib.crc32(memoryview(body)[: self._end]) != stored:
            raise self.corrupt("wrong checksum")

    def corrupt(self, reason: str) -> Corrupt:
        return Corrupt(f"{self._name}: {reason}")

    def finish(self) -> None:
        if self.offset != self._end:
            raise self.corrupt("wrong length")

    def ids(self, count: int, width: int) -> Ints:
        """Unsigned integers of 1, 2, 4 or 8 bytes."""
        if width not in (1, 2, 4, 8):
            raise self.corrupt(f"integers of {width} bytes")
        return self._entries(count, f"<u{width}").astype(INT64)

    def ints(self, form: int, count: int, period: int) -> Ints:
        if form == EQUAL:
            return np.full(count, self._entries(1, INT64)[0], INT64)
        if not form & REPEATED:
            return self._distinct_ints(form, count)
        if not 0 < period <= count or count % period:
            raise self.corrupt("a repeated column of the wrong length")
        return np.tile(self._distinct_ints(form & ~REPEATED, period), count // period)

    def floats(self, form: int, count: int) -> Floats:
        if form == EQUAL:
            return np.full(count, self._entries(1, FLOAT64)[0], FLOAT64)
        if form == SINGLE:
            return float64(self._entries(count, FLOAT32))
        if form == PLAIN:
            return self._entries(count, FLOAT64).copy()
        raise self._unknown(form)

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self._end - self.offset:
            raise self.corrupt("cut short")
        self.offset += size
        return self._body[self.offset - size : self.offset]

    def _distinct_ints(self, form: int, count: int) -> Ints:
        if form == PLAIN:
            return self._entries(count, INT64).copy()
        if form not in _WIDTHS:
            raise self._unknown(form)
        first, least = self._entries(2, INT64).tolist()
        entries = np.full(count, least, INT64)
        if width := _WIDTHS[form]:
            entries[1:] += self._entries(count - 1, f"<u{width}").astype(INT64)
        entries[0] = first
        return np.cumsum(entries, out=entries)

    def _unknown(self, form: int) -> Corrupt:
        return self.corrupt(f"form {form} of a column is not known to this version")

    def _entries(self, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A view of the body, perhaps unaligned."""
        size = count * np.dtype(dtype).itemsize
        if not 0 <= size <= self._end - self.offset:
            raise self.corrupt("cut short")
        self.offset += size
        return np.frombuffer(self._body, dtype, count, self.offset - size)


class Rows:
    """The columns of sealed bodies of one length and one shape, a row of a matrix each."""

    def __init__(self, bodies: Sequence[bytes], offset: int) -> None:
        self._bodies = bodies
        self._size = len(bodies[0])
        self._offset = offset
        joined = np.frombuffer(b"".join(bodies), np.uint8)
        self._bytes = joined.reshape(len(bodies), self._size)

    def hold(self, forms: Sequence[int], count: int, *, period: int = 0, ahead: int = 0) -> bool:
        """Whether every seal is right and the length is that of two columns of integers and one
        of values in these forms, ``ahead`` bytes before them; False of forms that are read one by
        one.  Columns of integers may repeat after ``period`` entries, where that is not 0."""
        *integers, value = forms
        known = {PLAIN, EQUAL, *_WIDTHS}
        if period:
            known |= {form | REPEATED for form in known}
        if not {*integers} <= known or value not in (PLAIN, EQUAL, SINGLE):
            return False
        sizes = [
            self._int_bytes(form & ~REPEATED, period if form & REPEATED else count)
            for form in integers
        ]
        sizes.append(8 if value == EQUAL else count * (4 if value == SINGLE else 8))
        end = self._offset + ahead + sum(sizes)
        return end + _CRC.size == self._size and all(
            zlib.crc32(memoryview(body)[:end]) == int.from_bytes(body[end:], "little")
            for body in self._bodies
        )

    @staticmethod
    def _int_bytes(form: int, count: int) -> int:
        if form in _WIDTHS:
            return _START.size + _WIDTHS[form] * (count - 1)
        return 8 if form == EQUAL else 8 * count

    def ids(self, count: int, width: int) -> Ints:
        """int64[bodies, count] of unsigned integers of so many bytes."""
        return self._take(count, f"<u{width}").astype(INT64)

    def ints(self, form: int, count: int, period: int = 0) -> Ints:
        """int64[bodies, count]; the columns are taken in order, as they stand."""
        if form & REPEATED:
            return np.tile(self.ints(form & ~REPEATED, period), (1, count // period))
        if form == EQUAL:
            return np.repeat(self._take(1, INT64), count, axis=1)
        if form == PLAIN:
            return self._take(count, INT64)
        start = self._take(2, INT64)
        entries = np.repeat(start[:, 1:], count, axis=1)
        if width := _WIDTHS[form]:
            entries[:, 1:] += self._take(count - 1, f"<u{width}").astype(INT64)
        entries[:, 0] = start[:, 0]
        return np.cumsum(entries, axis=1, out=entries)

    def floats(self, form: int, count: int) -> Floats:
        if form == EQUAL:
            return np.repeat(self._take(1, FLOAT64), count, axis=1)
        if form == SINGLE:
            return float64(self._take(count, FLOAT32))
        return self._take(count, FLOAT64)

    def _take(self, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        start = self._offset
        self._offset += count * np.dtype(dtype).itemsize
        return np.ascontiguousarray(self._bytes[:, start : self._offset]).view(dtype)


def _repeats(column: bytes, size: int) -> bool:
    """Whether the column is its first ``size`` bytes, more than once."""
    start = column[:size]
    return column[size : 2 * size] == start and column == start * (len(column) // size)
