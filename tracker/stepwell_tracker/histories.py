"""Points of series as replies: JSON objects, or columns.

Encoding holds the interpreter's lock; long histories are encoded in pieces, off the event loop, so
that a training script which logs meanwhile does not wait for a chart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from stepwell import wire
from stepwell_storage.points import Floats, Ints, Points, merge
from stepwell_storage.series import Chart
from stepwell_tracker import schema
from stepwell_tracker.http import Reply

PIECE_POINTS: Final = 4_096
"""Points encoded in one go: about 2 ms."""
LARGE_POINTS: Final = 8_192
"""From here on encoding leaves the event loop."""
_BUCKET_POINTS = 4

_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Found:
    """One series as it was read.  ``counts`` are the sizes of buckets of four points each."""

    run_id: str
    key: str
    points: Points
    next_cursor: str | None = None
    asked_for_chart: bool = False
    counts: Ints | None = None
    count: int = 0

    @classmethod
    def of(cls, chart: Chart) -> Found:
        return cls(chart.run_id, chart.key, chart.points, None, True, chart.counts, chart.count)


async def history_reply(found: Found, *, as_columns: bool) -> Reply:
    """``schema.History``, or ``wire.ColumnarReply`` with this one series."""
    if as_columns:
        return await columns_reply([found])
    return Reply(await _off_loop(len(found.points), _history, found))


async def series_reply(found: list[Found], *, as_columns: bool) -> Reply:
    """``schema.SeriesReply`` or ``wire.ColumnarReply``."""
    if as_columns:
        return await columns_reply(found)
    total = sum(len(one.points) for one in found)
    return Reply(await _off_loop(total, _series, found))


async def columns_reply(found: list[Found]) -> Reply:
    total = sum(len(one.points) for one in found)
    return Reply(await _off_loop(total, _columns, found), media=wire.COLUMNS)


async def _off_loop(points: int, encode: Any, found: Any) -> bytes:
    body: bytes
    if points < LARGE_POINTS:
        body = encode(found)
    else:
        body = await asyncio.to_thread(encode, found)
    return body


def _series(found: list[Found]) -> bytes:
    return b'{"series":[' + b",".join(map(_history, found)) + b"]}"


def _history(found: Found) -> bytes:
    """The JSON of schema.History, whose points are encoded in pieces."""
    shown = found.points if found.counts is None else _drawn(found.points)
    history: dict[str, object] = {
        "run_id": found.run_id,
        "key": found.key,
        "points": msgspec.Raw(points_json(shown)),
        "next_cursor": found.next_cursor,
    }
    if found.asked_for_chart:
        history["sampled"] = found.counts is not None
        history["count"] = found.count
    if found.counts is not None:
        history["buckets"] = list(buckets(found.points, found.counts))
    return _encode(history)


def points_json(points: Points) -> bytes:
    """A JSON array of schema.Point."""
    pieces = []
    for start in range(0, len(points), PIECE_POINTS):
        end = start + PIECE_POINTS
        values = points.values[start:end]
        numbers: list[Any] = values.tolist()
        if not np.isfinite(values).all():
            numbers = [wire.to_value(number) for number in numbers]
        steps, timestamps = points.steps[start:end], points.timestamps[start:end]
        objects = list(map(schema.Point, steps.tolist(), timestamps.tolist(), numbers))
        pieces.append(_encode(objects)[1:-1])
    return b"[" + b",".join(pieces) + b"]"


def _drawn(points: Points) -> Points:
    """The four points of each bucket in the series' order, each once: a line to draw."""
    return merge([points])


def buckets(points: Points, counts: Ints) -> Iterator[schema.Bucket]:
    """Buckets from their points, four each: first, lowest, highest, last."""
    four = [
        schema.Point(step, timestamp, wire.to_value(value))
        for step, timestamp, value in zip(
            points.steps.tolist(), points.timestamps.tolist(), points.values.tolist(), strict=True
        )
    ]
    for i, count in enumerate(counts.tolist()):
        first, low, high, last = four[_BUCKET_POINTS * i : _BUCKET_POINTS * (i + 1)]
        yield schema.Bucket(
            count=count,
            first=first,
            last=last,
            min=None if low.value == "NaN" else low,
            max=None if high.value == "NaN" else high,
        )


def _columns(found: list[Found]) -> bytes:
    return _pack(
        wire.ColumnarReply(
            wire.COLUMNS_FORMAT,
            [
                wire.ColumnarHistory(
                    one.run_id,
                    one.key,
                    _uncopied(one.points.steps),
                    _uncopied(one.points.timestamps),
                    _uncopied(one.points.values),
                    one.next_cursor,
                    one.counts is not None,
                    b"" if one.counts is None else _uncopied(one.counts),
                )
                for one in found
            ],
        )
    )


def _uncopied(column: Ints | Floats) -> bytes:
    """The column's bytes; the encoder copies them once, out of the column itself."""
    return np.ascontiguousarray(column).data  # type: ignore[return-value]  # it takes any buffer
