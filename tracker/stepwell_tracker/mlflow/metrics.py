"""Histories of metrics, in MLflow's order: by timestamp, then step, then value, NaN as 0."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from stepwell import wire
from stepwell_storage import cursors
from stepwell_storage.errors import Invalid
from stepwell_storage.points import Ints, Points, ordered, to_ordered, unordered
from stepwell_tracker.http import Reply, Request
from stepwell_tracker.mlflow.errors import INVALID, Refused, invalid_value
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.scopes import in_run, run_id_of

PIECE_POINTS: Final = 10_000
MAX_BULK_RUNS: Final = 100
MAX_BULK_RESULTS: Final = 25_000
MAX_SAMPLED_RESULTS: Final = 2_500
_CURSOR: Final = "mlflow-history"
_encode = msgspec.json.Encoder().encode


class _Row(Struct, omit_defaults=True):
    key: str
    value: wire.Value
    timestamp: int
    step: int
    run_id: str | None = None


async def get_history(request: Request) -> Reply:
    """Everything, or a page.  An unknown run or key has no points."""
    body: Fields = request.body
    text, key = run_id_of(body), body.text("metric_key")
    most = body.optional_integer("max_results")
    if most is not None and most <= 0:
        raise invalid_value("max_results", most, "it is at least 1.")
    points = in_order(await _points(request, text, key))
    if token := body.optional_text("page_token"):
        points = points[_place(points, token) :]
    next_token = None
    if most is not None and len(points) > most:
        points = points[:most]
        next_token = cursors.encode(_CURSOR, *_last(points))
    return await _reply([(key, None, points)], next_token)


async def get_history_bulk(request: Request) -> Reply:
    """One metric of up to 100 runs, run by run."""
    body: Fields = request.body
    run_ids, key = body.texts("run_id"), body.optional_text("metric_key")
    what = "GetMetricHistoryBulk request must specify"
    if not run_ids:
        raise Refused(INVALID, f"{what} at least one run_id.")
    if len(run_ids) > MAX_BULK_RUNS:
        raise Refused(
            INVALID,
            f"GetMetricHistoryBulk request cannot specify more than {MAX_BULK_RUNS} run_ids."
            f" Received {len(run_ids)} run_ids.",
        )
    if not key:
        raise Refused(INVALID, f"{what} a metric_key.")
    left = min(body.optional_integer("max_results") or MAX_BULK_RESULTS, MAX_BULK_RESULTS)
    parts = []
    for run_id in sorted(set(run_ids)):
        points = in_order(await _points(request, run_id, key))[: max(left, 0)]
        left -= len(points)
        parts.append((key, run_id, points))
    return await _reply(parts, None)


async def get_history_interval(request: Request) -> Reply:
    """One metric of up to 100 runs for a chart: of each run, evenly spaced points."""
    body: Fields = request.body
    run_ids, key = body.texts("run_ids"), body.text("metric_key")
    if not run_ids:
        raise Refused(INVALID, "GetMetricHistoryBulkInterval request must specify run_ids.")
    if len(run_ids) > MAX_BULK_RUNS:
        raise Refused(
            INVALID,
            f"GetMetricHistoryBulkInterval request must specify at most {MAX_BULK_RUNS} run_ids."
            f" Received {len(run_ids)} run_ids.",
        )
    start, end = body.optional_integer("start_step"), body.optional_integer("end_step")
    if (start is None) != (end is None):
        raise Refused(INVALID, "If either start step or end step are specified, both must be.")
    if start is not None and end is not None and end <= start:
        raise Refused(
            INVALID, f"end_step must be greater than start_step. Found {start=} and {end=}."
        )
    most = body.limit("max_results", MAX_SAMPLED_RESULTS, MAX_SAMPLED_RESULTS)
    parts = []
    for run_id in sorted(set(run_ids)):
        points = await _points(request, run_id, key, start, end)
        parts.append((key, run_id, _sampled(points, most)))
    return await _reply(parts, None)


def in_order(points: Points) -> Points:
    """By timestamp, step and value; NaN stands where 0 does, behind it."""
    value, nan = _value_keys(points)
    return points[np.lexsort((nan, value, points.steps, points.timestamps))]


def _value_keys(points: Points) -> tuple[Ints, npt.NDArray[np.bool_]]:
    nan = np.isnan(points.values)
    return np.where(nan, ordered(0.0), to_ordered(points.values)), nan


async def _points(
    request: Request, text: str, key: str, start: int | None = None, end: int | None = None
) -> Points:
    try:
        async with in_run(request, text) as (tenant, run_id):
            return await tenant.points(run_id, key, start_step=start, end_step=end)
    except Refused:
        return Points.empty()


def _last(points: Points) -> tuple[int, int, int]:
    step, timestamp, value = points.position(-1)
    return timestamp, step, value


def _place(points: Points, token: str) -> int:
    """How many points come up to the one that a token names.  Raises Invalid."""
    values = cursors.decode(_CURSOR, token)
    if len(values) != 3 or not all(type(value) is int for value in values):
        raise Invalid("page_token", "Invalid page token")
    timestamp, step, bits = values
    is_nan = unordered(bits) != unordered(bits)
    wanted = ordered(0.0) if is_nan else bits
    value, nan = _value_keys(points)
    upto = (value < wanted) | ((value == wanted) & (nan <= is_nan))
    upto = (points.steps < step) | ((points.steps == step) & upto)
    upto = (points.timestamps < timestamp) | ((points.timestamps == timestamp) & upto)
    return int(np.count_nonzero(upto))


def _sampled(points: Points, most: int) -> Points:
    """At most so many, the first and the last among them; in the order of the steps."""
    if len(points) <= most:
        return points
    if most == 1:
        return points[:1]
    chosen = np.unique(np.linspace(0, len(points) - 1, most).astype(np.int64))
    return Points(points.steps[chosen], points.timestamps[chosen], points.values[chosen])


async def _reply(parts: Sequence[tuple[str, str | None, Points]], token: str | None) -> Reply:
    """The JSON in pieces, so that a million points let others in."""
    pieces: list[bytes] = []
    for key, run_id, points in parts:
        for start in range(0, len(points), PIECE_POINTS):
            pieces.append(_rows(key, run_id, points[start : start + PIECE_POINTS]))
            await asyncio.sleep(0)
    fields = []
    if pieces:
        fields.append(b'"metrics":[' + b",".join(pieces) + b"]")
    if token is not None:
        fields.append(b'"next_page_token":' + _encode(token))
    return Reply(b"{" + b",".join(fields) + b"}")


def _rows(key: str, run_id: str | None, points: Points) -> bytes:
    values: list[Any] = points.values.tolist()
    if not np.isfinite(points.values).all():
        values = [wire.to_value(value) for value in values]
    rows = [
        _Row(key, value, timestamp, step, run_id)
        for value, timestamp, step in zip(
            values, points.timestamps.tolist(), points.steps.tolist(), strict=True
        )
    ]
    return _encode(rows)[1:-1]
