"""The journal's payload: the points of one (batch, run), as bytes.  Layout in docs/format.md.

It is written while clients wait, so its columns are written narrow, not compressed (columns.py).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from stepwell_storage.columns import (
    Narrowed,
    Reader,
    Rows,
    pack_all_floats,
    pack_all_ints,
    seal,
)
from stepwell_storage.errors import Corrupt
from stepwell_storage.points import INT64, Floats, Ints, Points
from stepwell_storage.stretches import Stretches, gather

FORMAT = 1
MAX_POINTS = 1 << 22
"""Of one payload; a body of 32 MiB holds fewer.  Bounds what a damaged count can allocate."""

_MANY_ALIKE = 4
"""Payloads of one shape from which on a pass over all of them costs less than one over each."""
_HEADER = struct.Struct("<BBBBBBII")  # format, widths of keys and counts, 3 forms, keys, points
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
Row = tuple[Sequence[int], Sequence[int], bytes, bytes, bytes]
"""Keys, counts, steps, timestamps and values of one row."""


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


@dataclass(frozen=True, slots=True, eq=False)
class ByKey:
    """The points of many payloads series by series, keys ascending; of each as they were logged."""

    keys: Ints
    series: Stretches
    points: Points

    @classmethod
    def of(cls, payloads: Sequence[bytes], wanted: Sequence[int]) -> ByKey:
        """Those of the wanted keys; at least one payload.  Raises Corrupt."""
        rows = decode_each(payloads)
        for row in rows:
            if isinstance(row, Corrupt):
                raise row
        return cls.of_rows([row for row in rows if isinstance(row, Journaled)], wanted)

    @classmethod
    def of_rows(cls, rows: Sequence[Journaled], wanted: Sequence[int] | None = None) -> ByKey:
        whole = Points(
            np.concatenate([row.steps for row in rows]),
            np.concatenate([row.timestamps for row in rows]),
            np.concatenate([row.values for row in rows]),
        )
        keys = np.concatenate([row.keys for row in rows])
        counts = np.concatenate([row.counts for row in rows])
        if wanted is not None:  # a chart's few of a wide run's thousands: sorting all is dear
            chosen = np.isin(keys, np.asarray(wanted, INT64))
            whole, keys, counts = whole[np.repeat(chosen, counts)], keys[chosen], counts[chosen]
            if not len(keys):
                return cls(keys, Stretches.of(counts), whole)
        return cls(*gather(keys, Stretches.of(counts), whole))

    def points_of(self, key: int) -> Points:
        at = int(np.searchsorted(self.keys, key))
        if at == len(self.keys) or self.keys[at] != key:
            return Points.empty()
        return self.points[self.series.starts[at] : self.series.ends[at] + 1]


def encode(
    keys: Sequence[int], counts: Sequence[int], steps: bytes, timestamps: bytes, values: bytes
) -> bytes:
    """The columns are little-endian int64, int64 and float64, series after series.

    ``keys`` are ids, at least one; every count is at least 1.  NaNs become the one NaN, nothing
    else changes.  Raises ValueError when lengths and counts disagree or exceed ``MAX_POINTS``.
    """
    return encode_all([(keys, counts, steps, timestamps, values)])[0]


def encode_all(rows: Sequence[Row]) -> list[bytes]:
    """The payloads of many rows, each given as to :func:`encode`."""
    periods = [_period(*row) for row in rows]
    steps = pack_all_ints([(row[2], period) for row, period in zip(rows, periods, strict=True)])
    times = pack_all_ints([(row[3], period) for row, period in zip(rows, periods, strict=True)])
    values = pack_all_floats([row[4] for row in rows])
    return list(map(_payload, rows, steps, times, values))


def _period(
    keys: Sequence[int], counts: Sequence[int], steps: bytes, timestamps: bytes, values: bytes
) -> int:
    """After how many entries a column of these may start over."""
    first = counts[0] if counts else 0
    alike = counts.count(first) == len(counts)  # so mostly, and found without a look at each
    points = first * len(counts) if alike else sum(counts)
    if len(keys) != len(counts) or not len(steps) == len(timestamps) == len(values) == points * 8:
        raise ValueError("columns, counts and keys disagree")
    if not 0 < points <= MAX_POINTS or not (alike or min(counts) >= 1):
        raise ValueError(f"a payload holds 1 to {MAX_POINTS} points and no empty series")
    return first if alike else points


def _payload(row: Row, steps: Narrowed, times: Narrowed, values: Narrowed) -> bytes:
    keys, counts = row[:2]
    points = len(row[2]) // 8
    key_width, key_column = _pack_ids(keys)
    alike = counts[0] * len(counts) == points and counts.count(counts[0]) == len(counts)
    count_width, count_column = (0, b"") if alike else _pack_ids(counts)
    forms = (steps[0], times[0], values[0])
    head = _HEADER.pack(FORMAT, key_width, count_width, *forms, len(keys), points)
    return seal(b"".join((head, key_column, count_column, steps[1], times[1], values[1])))


def decode(payload: bytes) -> Journaled:
    """Raises Corrupt on any damage.  The arrays are the caller's own."""
    reader, header = _open(payload)
    _, key_width, count_width, step_form, time_form, value_form, series, points = header
    keys = reader.ids(series, key_width)
    if count_width:
        counts = reader.ids(series, count_width)
    else:
        counts = np.full(series, points // series, INT64)
    if int(counts.min()) < 1 or int(counts.max()) > points or int(counts.sum()) != points:
        raise reader.corrupt("the counts disagree")
    steps = reader.ints(step_form, points, points // series)
    timestamps = reader.ints(time_form, points, points // series)
    values = reader.floats(value_form, points)
    reader.finish()
    return Journaled(keys, counts, steps, timestamps, values)


def decode_each(payloads: Sequence[bytes]) -> list[Journaled | Corrupt]:
    """What :func:`decode` returns or raises of each; those of one shape by one pass over all."""
    alike: dict[tuple[bytes, int], list[int]] = {}
    for index, payload in enumerate(payloads):
        alike.setdefault((payload[: _HEADER.size], len(payload)), []).append(index)
    found: dict[int, Journaled | Corrupt] = {}
    for members in alike.values():
        chosen = [payloads[index] for index in members]
        rows = _decode_alike(chosen) if len(members) >= _MANY_ALIKE else None
        found.update(zip(members, rows or map(_decode_or_tell, chosen), strict=True))
    return [found[index] for index in range(len(payloads))]


def _decode_or_tell(payload: bytes) -> Journaled | Corrupt:
    try:
        return decode(payload)
    except Corrupt as error:
        return error


def _decode_alike(payloads: Sequence[bytes]) -> list[Journaled] | None:
    """Payloads of one header and length; None where they have to be looked at one by one."""
    if len(payloads[0]) <= _HEADER.size:
        return None
    number, width, count_width, *forms, series, points = _HEADER.unpack_from(payloads[0])
    if number != FORMAT or count_width or width not in _CODES:
        return None
    if not 0 < series <= points <= MAX_POINTS or points % series:
        return None
    rows, each = Rows(payloads, _HEADER.size), points // series
    if not rows.hold(forms, points, period=each, ahead=series * width):
        return None
    keys, counts = rows.ids(series, width), np.full(series, each, INT64)
    steps, timestamps = (rows.ints(form, points, each) for form in forms[:2])
    values = rows.floats(forms[2], points)
    return [
        Journaled(*row)
        for row in zip(keys, repeat(counts), steps, timestamps, values, strict=False)
    ]


def extract(payload: bytes, key: int) -> Points | None:
    """The points of one key, as logged; None when there are none.  Raises Corrupt."""
    _, header = _open(payload)
    width, end = header[1], _HEADER.size + header[1] * header[6]
    if width in _CODES and end <= len(payload):
        # Most rows of a wide run name other keys.  Their bytes tell, whose search takes a tenth of
        # an array's; at worst it finds the end of one key and the start of the next.
        if key >= 1 << 8 * width:
            return None
        if payload.find(key.to_bytes(width, "little"), _HEADER.size, end) < 0:
            return None
    return decode(payload).of(key)


def _open(payload: bytes) -> tuple[Reader, tuple[int, ...]]:
    reader = Reader(payload, _HEADER.size, "journal payload")
    header = _HEADER.unpack_from(payload)
    if header[0] != FORMAT:
        raise reader.corrupt(f"format {header[0]} is not known to this version")
    series, points = header[6:]
    if not 0 < series <= points <= MAX_POINTS:
        raise reader.corrupt(f"{series} series of {points} points")
    return reader, header


def _pack_ids(ids: Sequence[int]) -> tuple[int, bytes]:
    for width, code in _CODES.items():
        try:
            return width, struct.pack(f"<{len(ids)}{code}", *ids)
        except struct.error:
            continue
    raise ValueError("ids and counts are integers from 0 to 2**64 - 1")
