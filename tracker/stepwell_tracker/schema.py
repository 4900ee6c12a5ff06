"""The rest of the native API's contract: requests and replies of which our client has no part.

What it sends or reads is in :mod:`stepwell.wire`, whose rules of evolution hold here too.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from stepwell.wire import (
    MAX_KEY_CHARS,
    MAX_NAME_CHARS,
    MAX_POINTS_PER_PAGE,
    MAX_RUNS_PER_PAGE,
    MAX_TEXT_CHARS,
    MAX_VALUE_CHARS,
    Millis,
    Name,
    Scalar,
    Text,
    Value,
)

PROBLEM: Final = "application/problem+json"
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
MAX_SERIES_PER_RUN: Final = 100_000
MAX_RUNS_IN_COLUMNS: Final = 10_000
MAX_KEYS_IN_COLUMNS: Final = 100
MAX_SERIES_PER_REQUEST: Final = 10_000
MAX_POINTS_PER_REPLY: Final = 1_000_000

PatchStatus = Literal["running", "finished", "failed", "killed"]


# --- requests ------------------------------------------------------------------------------------


class CreateExperiment(Struct):
    name: Name
    description: Text = ""
    tags: dict[str, str] = {}


class UpdateExperiment(Struct):
    """Absent fields stay as they are; a tag set to null is removed.

    ``if_tags`` are tags as they must be now, null where one must not be: else nothing changes.
    """

    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    tags: dict[str, str | None] = {}
    if_tags: dict[str, str | None] = {}


class PurgeDeleted(Struct):
    """What was deleted so many seconds ago or longer, and not restored since, is purged."""

    older_than_s: Annotated[int, Meta(ge=0, le=2**40)] = 0


class UpdateRun(Struct):
    """Absent fields stay as they are; a tag set to null is removed; ``running`` resumes."""

    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    status: PatchStatus | UnsetType = UNSET
    end_time: Millis | None | UnsetType = UNSET
    tags: dict[str, str | None] = {}


class LogMetrics(Struct):
    metrics: dict[str, float | str]
    step: int = 0
    timestamp: int | UnsetType = UNSET


class LogParams(Struct):
    params: dict[str, Scalar]


class Metric(Struct, gc=False):
    """One point of a batch.  ``value`` is :data:`Value`; the wider type decodes faster."""

    key: str
    value: float | str
    step: int = 0
    timestamp: int | UnsetType = UNSET


class KeyValue(Struct, gc=False):
    key: str
    value: Scalar


class LogBatch(Struct):
    """An empty one is a heartbeat."""

    metrics: list[Metric] = []
    params: list[KeyValue] = []
    tags: list[KeyValue] = []
    rank: int | None = None


class SeriesRequest(Struct):
    """Every pair of a run and a key; ``max_points`` asks for buckets, null for every point.

    The reply holds at most ``MAX_POINTS_PER_REPLY`` points; longer histories are paged.
    """

    run_ids: list[str]
    keys: list[str]
    max_points: Annotated[int, Meta(ge=4, le=MAX_POINTS_PER_PAGE)] | None = None
    start_step: Millis | None = None
    end_step: Millis | None = None


# --- replies -------------------------------------------------------------------------------------


class LogReply(Struct, omit_defaults=True):
    run_id: str
    accepted: int
    stop_requested: bool = False


class StopReply(Struct):
    message: str
    run_id: str
    stop_requested: bool


class SeriesSummary(Struct):
    """One series: its size, its last point and its extremes (null where every value is NaN).

    ``count`` is exact, or with ``exact`` false an upper bound until compaction has run.
    """

    key: str
    count: int
    exact: bool
    last: Value
    last_step: int
    last_timestamp: int
    min: Value | None
    min_step: int | None
    max: Value | None
    max_step: int | None


class SeriesPage(Struct):
    run_id: str
    series: list[SeriesSummary]
    total: int
    next_cursor: str | None = None


class MetricKeys(Struct):
    run_id: str
    keys: list[str]


class Point(Struct, gc=False):
    step: int
    timestamp: int
    value: Value


class Bucket(Struct, gc=False):
    """A stretch of a series, exact: its size, its ends, and its extremes (null if all is NaN)."""

    count: int
    first: Point
    last: Point
    min: Point | None
    max: Point | None


class History(Struct, omit_defaults=True):
    """Points ordered by (step, timestamp, value).

    With ``max_points``, ``count`` is the number of points behind the answer; for a longer series
    ``sampled`` is true and ``points`` are the first, lowest, highest and last points of consecutive
    ``buckets``, in order and each once.
    """

    run_id: str
    key: str
    points: list[Point]
    next_cursor: str | None
    sampled: bool | UnsetType = UNSET
    count: int | UnsetType = UNSET
    buckets: list[Bucket] | UnsetType = UNSET


class SeriesReply(Struct):
    """The series that have points; a pair of a run and a key without any is left out."""

    series: list[History]


class ColumnarParam(Struct, array_like=True):
    """A parameter of many runs: ``places`` (int32) are places in ``words``, -1 is none."""

    key: str
    words: list[str]
    places: bytes


class ColumnarMetric(Struct, array_like=True):
    """A metric's last values (float64); ``present`` has a byte a run, or none where all have it."""

    key: str
    values: bytes
    present: bytes = b""


class ColumnarRuns(Struct, array_like=True):
    """Many runs; ``run_ids`` are 16 bytes each."""

    format: int
    run_ids: bytes
    names: list[str]
    params: list[ColumnarParam]
    metrics: list[ColumnarMetric]
    total: int


class DeletedArtifact(Struct):
    path: str
    deleted: bool


class Purged(Struct):
    """How much was deleted for good."""

    runs: int
    experiments: int
    models: int


class Tenants(Struct):
    """By name; ``default`` is always there."""

    tenants: list[str]


class Health(Struct):
    status: Literal["ok"] = "ok"


class Readiness(Struct):
    status: Literal["ready"] = "ready"


class Limits(Struct):
    body_bytes: int = MAX_BODY_BYTES
    key_chars: int = MAX_KEY_CHARS
    value_chars: int = MAX_VALUE_CHARS
    name_chars: int = MAX_NAME_CHARS
    text_chars: int = MAX_TEXT_CHARS
    series_per_run: int = MAX_SERIES_PER_RUN
    runs_per_page: int = MAX_RUNS_PER_PAGE
    runs_in_columns: int = MAX_RUNS_IN_COLUMNS
    keys_in_columns: int = MAX_KEYS_IN_COLUMNS
    points_per_page: int = MAX_POINTS_PER_PAGE
    series_per_request: int = MAX_SERIES_PER_REQUEST
    points_per_reply: int = MAX_POINTS_PER_REPLY
