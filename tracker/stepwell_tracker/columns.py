"""Points of a request as columns: from JSON's objects, or from the columnar body's arrays.

Pure functions, no I/O.  This is where a request's time goes: at 1,000 points decoding costs about
190 us, the columns here 100 us.  ``struct.pack`` of a list is twice as fast as ``array`` or NumPy,
and refuses what is no number; the reason is then found by a slow walk.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from msgspec import UNSET, UnsetType

from stepwell import wire
from stepwell_storage.errors import Invalid
from stepwell_storage.records import Batch
from stepwell_tracker import schema
from stepwell_tracker.decoding import check_format
from stepwell_tracker.labels import check_keys, checked_value, texts

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_ITEM_BYTES = 8

_FEW_POINTS = 64
"""Below, hashing the keys costs less than an exception; it is one training step, mostly."""


class Point(Protocol):
    """A point as a request has it; ``timestamp`` may be unset."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> float | str: ...
    @property
    def step(self) -> int: ...
    @property
    def timestamp(self) -> int | UnsetType: ...


Columns = tuple[bytes, bytes, bytes]
"""Steps, timestamps and values: little-endian int64, int64 and float64."""


def from_json(body: schema.LogBatch, now_ms: int) -> Batch:
    """The batch of a JSON body; points without a timestamp are of ``now_ms``.  Raises Invalid."""
    batch = from_points(body.metrics, now_ms) if body.metrics else Batch()
    if body.params:
        batch.params = _labels("params", body.params, may_repeat=False)
    if body.tags:
        batch.tags = _labels("tags", body.tags, may_repeat=True)
    batch.rank = _checked_rank(body.rank)
    return batch


def from_points(metrics: Sequence[Point], now_ms: int) -> Batch:
    """Points in any order of keys, series by series; each series' points stay in their order."""
    keys = [metric.key for metric in metrics]
    columns = (
        _int64s([metric.step for metric in metrics], "step", now_ms),
        _int64s([metric.timestamp for metric in metrics], "timestamp", now_ms),
        _doubles([metric.value for metric in metrics]),
    )
    distinct, counts, columns = _by_series(keys, columns)
    check_keys(distinct, lambda key: f"metrics[{keys.index(key)}].key")
    return Batch(distinct, counts, *columns)


def from_mapping(body: schema.LogMetrics, now_ms: int) -> Batch:
    """The batch of ``log-metrics``: one point of each key, all at one step."""
    n = len(body.metrics)
    check_keys(body.metrics, lambda key: f"metrics.{key}")
    moment = now_ms if body.timestamp is UNSET else body.timestamp
    return Batch(
        list(body.metrics),
        [1] * n,
        _one_int64("step", body.step) * n,
        _one_int64("timestamp", moment) * n,
        struct.pack(f"<{n}d", *[_double(f"metrics.{key}", v) for key, v in body.metrics.items()]),
    )


def from_columns(body: wire.ColumnarBatch) -> Batch:
    """The batch of a columnar body.  Raises Invalid."""
    check_format(body.format)
    keys, counts, (steps, timestamps, values) = _arrays(body.series)
    check_keys(keys, lambda key: f"series[{keys.index(key)}].key")
    if 0 in counts:  # storage knows no series without a point
        named = [i for i, count in enumerate(counts) if count]
        keys, counts = [keys[i] for i in named], [counts[i] for i in named]
    return Batch(
        keys,
        counts,
        b"".join(steps),
        b"".join(timestamps),
        b"".join(values),
        texts("params", body.params),
        texts("tags", body.tags),
        _checked_rank(body.rank),
    )


def _arrays(
    series: Sequence[wire.ColumnarSeries],
) -> tuple[list[str], list[int], tuple[list[bytes], list[bytes], list[bytes]]]:
    """Keys and counts, and the steps, timestamps and values of each: equally many, 8 bytes each.

    No look at each series, as there may be a thousand.  Raises Invalid.
    """
    steps = [one.steps for one in series]
    timestamps = [one.timestamps for one in series]
    values = [one.values for one in series]
    sizes = list(map(len, steps))
    alike = sizes.count(sizes[0]) == len(sizes) if sizes else False
    odd = any(size % _ITEM_BYTES for size in (sizes[:1] if alike else set(sizes)))
    if odd or sizes != list(map(len, timestamps)) or sizes != list(map(len, values)):
        for i, one in enumerate(series):
            size = len(one.steps)
            if size % _ITEM_BYTES or not size == len(one.timestamps) == len(one.values):
                raise _bad_lengths(i, one)
    counts = (
        [sizes[0] // _ITEM_BYTES] * len(sizes) if alike else [size // _ITEM_BYTES for size in sizes]
    )
    return [one.key for one in series], counts, (steps, timestamps, values)


def _by_series(keys: list[str], columns: Columns) -> tuple[list[str], list[int], Columns]:
    """Columns in any order of keys, series by series: the keys, their counts, the columns.

    Most requests repeat the same keys step after step, or have one key, or each key once; then
    the columns are transposed, and no point is looked at.
    """
    n = len(keys)
    if n < _FEW_POINTS and len(set(keys)) == n:
        return keys, [1] * n, columns
    try:
        period = keys.index(keys[0], 1)
    except ValueError:
        period = n
    times, rest = divmod(n, period)
    distinct = keys[:period]
    if rest or len(set(distinct)) < period or (times > 1 and keys != distinct * times):
        return _sorted(keys, columns)
    if times == 1 or period == 1:
        return distinct, [times] * period, columns
    steps, timestamps, values = (
        np.frombuffer(column, np.int64).reshape(times, period).T.tobytes() for column in columns
    )
    return distinct, [times] * period, (steps, timestamps, values)


def _sorted(keys: list[str], columns: Columns) -> tuple[list[str], list[int], Columns]:
    """The same for keys without a pattern; each series' points stay in their order."""
    numbers: dict[str, int] = {}
    of_point = [numbers.setdefault(key, len(numbers)) for key in keys]
    order = np.argsort(of_point, kind="stable")
    steps, timestamps, values = (
        np.frombuffer(column, np.int64)[order].tobytes() for column in columns
    )
    return list(numbers), np.bincount(of_point).tolist(), (steps, timestamps, values)


def _int64s(numbers: list[int] | list[int | UnsetType], name: str, now_ms: int) -> bytes:
    try:
        return struct.pack(f"<{len(numbers)}q", *numbers)
    except struct.error:
        filled = [now_ms if number is UNSET else number for number in numbers]
    for i, number in enumerate(filled):
        if not _INT64_MIN <= number <= _INT64_MAX:
            raise Invalid(f"metrics[{i}].{name}", f"{name} is beyond 64 bits")
    return struct.pack(f"<{len(filled)}q", *filled)


def _one_int64(path: str, number: int) -> bytes:
    try:
        return struct.pack("<q", number)
    except struct.error:
        raise Invalid(path, f"{path} is beyond 64 bits") from None


def _doubles(values: list[float | str]) -> bytes:
    try:
        return struct.pack(f"<{len(values)}d", *values)
    except struct.error:
        numbers = [_double(f"metrics[{i}].value", value) for i, value in enumerate(values)]
        return struct.pack(f"<{len(numbers)}d", *numbers)


def _double(path: str, value: float | str) -> float:
    try:
        return wire.from_value(value)  # type: ignore[arg-type]
    except KeyError:
        raise Invalid(
            path, 'a value is a number, or one of the texts "NaN", "Infinity" and "-Infinity"'
        ) from None


def _labels(name: str, given: Sequence[schema.KeyValue], *, may_repeat: bool) -> dict[str, str]:
    keys = [one.key for one in given]
    check_keys(keys, lambda key: f"{name}[{keys.index(key)}].key")
    labels: dict[str, str] = {}
    for i, one in enumerate(given):
        value = checked_value(f"{name}[{i}].value", one.value)
        if labels.setdefault(one.key, value) != value:
            if not may_repeat:
                raise Invalid(f"{name}[{i}].key", f"{one.key!r} is given twice, differently")
            labels[one.key] = value
    return labels


def _checked_rank(rank: int | None) -> int | None:
    if rank is not None and not 0 <= rank <= _INT64_MAX:
        raise Invalid("rank", "rank is a number from 0")
    return rank


def _bad_lengths(i: int, one: wire.ColumnarSeries) -> Invalid:
    for name in ("steps", "timestamps", "values"):
        column: bytes = getattr(one, name)
        if len(column) % _ITEM_BYTES:
            return Invalid(
                f"series[{i}].{name}", f"{len(column)} bytes are no array of 8-byte numbers"
            )
    return Invalid(
        f"series[{i}]",
        f"{len(one.steps)}, {len(one.timestamps)} and {len(one.values)} bytes of steps, timestamps"
        " and values: all three have one length",
    )
