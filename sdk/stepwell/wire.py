"""Every request and reply of the native HTTP API, its limits and media types: the contract that
client and server share.

Rules of evolution: a field is never renamed, retyped or made mandatory; a new field has a default;
readers ignore fields that they do not know; a columnar body begins with a format number and a
server takes every number that it ever took.

Times are integer milliseconds since the epoch.  Non-finite values travel in JSON as the strings
``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` (:data:`Value`); in columns they are plain doubles.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

JSON: Final = "application/json"
COLUMNS: Final = "application/vnd.stepwell.columns+msgpack"
PROBLEM: Final = "application/problem+json"
COLUMNS_FORMAT: Final = 1
TENANT_HEADER: Final = "X-Tenant-ID"
DEFAULT_TENANT: Final = "default"
DEFAULT_PORT: Final = 7837

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
MAX_KEY_CHARS: Final = 250
MAX_VALUE_CHARS: Final = 8_000
MAX_NAME_CHARS: Final = 500
MAX_TEXT_CHARS: Final = 20_000
MAX_SERIES_PER_RUN: Final = 100_000
MAX_RUNS_PER_PAGE: Final = 1_000
MAX_RUNS_IN_COLUMNS: Final = 10_000
MAX_KEYS_IN_COLUMNS: Final = 100
MAX_POINTS_PER_PAGE: Final = 100_000
MAX_SERIES_PER_REQUEST: Final = 10_000
MAX_POINTS_PER_REPLY: Final = 1_000_000

Value = float | Literal["NaN", "Infinity", "-Infinity"]
"""A metric value as JSON carries it."""
Status = Literal["running", "finished", "failed", "killed", "scheduled"]
EndStatus = Literal["finished", "failed", "killed"]
PatchStatus = Literal["running", "finished", "failed", "killed"]
Lifecycle = Literal["active", "deleted"]
Stream = Literal["stdout", "stderr"]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
ShortText = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
Millis = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Scalar = str | int | float | bool
"""A parameter as a request may carry it; it is stored as text."""

_SPELLINGS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_value(number: float) -> Value:
    """The JSON form of a float."""
    if math.isfinite(number):
        return number
    if number != number:
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def from_value(value: Value) -> float:
    """The float behind its JSON form.  Raises KeyError for any other text."""
    return _SPELLINGS[value] if isinstance(value, str) else value


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


class CreateRun(Struct):
    """``experiment_name`` finds or creates; with neither field the experiment is ``Default``."""

    experiment_id: str | None = None
    experiment_name: Name | None = None
    name: ShortText | None = None
    description: Text = ""
    tags: dict[str, str] = {}
    params: dict[str, Scalar] = {}
    user_id: ShortText | None = None
    run_id: str | None = None
    start_time: Millis | None = None
    parent_run_id: str | None = None


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


class ColumnarSeries(Struct, array_like=True, gc=False):
    """One series: int64, int64 and float64 arrays of equal length, little-endian."""

    key: str
    steps: bytes
    timestamps: bytes
    values: bytes


class ColumnarBatch(Struct, array_like=True):
    """The columnar form of :class:`LogBatch`: a msgpack array that begins with the format."""

    format: int
    series: list[ColumnarSeries] = []
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
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


class ConsoleLine(Struct):
    stream: Stream
    timestamp: Millis
    text: str


class ConsoleLines(Struct):
    lines: list[ConsoleLine]


# --- replies -------------------------------------------------------------------------------------


class Experiment(Struct):
    experiment_id: str
    number: int
    name: str
    description: str
    tags: dict[str, str]
    lifecycle: Lifecycle
    created_at: int
    updated_at: int
    run_count: int


class ExperimentPage(Struct):
    experiments: list[Experiment]
    total: int
    limit: int
    offset: int
    next_cursor: str | None = None


class Run(Struct, omit_defaults=True):
    """``metrics`` holds each key's last value; ``truncated`` says that keys were left out."""

    run_id: str
    experiment_id: str
    name: str
    description: str
    user_id: str | None
    parent_run_id: str | None
    status: Status
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, Value]
    start_time: int
    end_time: int | None
    duration_seconds: float | None
    heartbeat_at: int
    lifecycle: Lifecycle
    stop_requested: bool = False
    truncated: bool = False
    writers: dict[str, int] = {}


class RunPage(Struct, omit_defaults=True):
    """``total`` counts all matching runs whatever the page; absent with ``total=false``."""

    runs: list[Run]
    limit: int
    offset: int
    next_cursor: str | None
    total: int | UnsetType = UNSET


class LogReply(Struct, omit_defaults=True):
    run_id: str
    accepted: int
    stop_requested: bool = False


class Accepted(Struct):
    metrics: int
    params: int
    tags: int


class BatchReply(Struct, omit_defaults=True):
    """``stop_requested`` appears once somebody asked the run to stop."""

    run_id: str
    accepted: Accepted
    stop_requested: bool = False


class EndReply(Struct):
    message: str
    run_id: str
    status: Status
    duration_seconds: float


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


class ColumnarHistory(Struct, array_like=True):
    """One series in columns; ``counts`` (int64) gives each bucket's size where it is sampled.

    A sampled series has four points a bucket: first, lowest, highest, last.  Where a bucket holds
    nothing but NaN, its lowest and highest are its first and last.
    """

    run_id: str
    key: str
    steps: bytes
    timestamps: bytes
    values: bytes
    next_cursor: str | None = None
    sampled: bool = False
    counts: bytes = b""


class ColumnarReply(Struct, array_like=True):
    format: int
    series: list[ColumnarHistory]


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


class Artifact(Struct):
    path: str
    is_dir: bool
    size: int | None
    modified_at: int | None
    media_type: str | None


class ArtifactPage(Struct):
    artifacts: list[Artifact]
    next_cursor: str | None = None


class ArtifactReply(Struct):
    path: str
    size: int
    sha256: str


class DeletedArtifact(Struct):
    path: str
    deleted: bool


class ConsoleEntry(Struct):
    number: int
    stream: str
    timestamp: int
    text: str


class ConsolePage(Struct):
    """``next_cursor`` is where the next call goes on; null where nothing follows yet."""

    run_id: str
    lines: list[ConsoleEntry]
    total: int
    next_cursor: str | None = None


class ConsoleReply(Struct):
    run_id: str
    accepted: int


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


class FieldError(Struct):
    path: str
    detail: str


DELETED_FOR_GOOD: Final = "urn:stepwell:problem:deleted-for-good"
"""The ``type`` of the 409 that answers a write to a run whose id is used up."""


class Problem(Struct, omit_defaults=True):
    """RFC 9457.  ``experiment_id`` accompanies a name that is taken."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    experiment_id: str | None = None
