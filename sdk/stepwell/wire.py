"""What the client sends and reads over the native HTTP API: the contract that it shares with the
server.  The server's :mod:`stepwell_tracker.schema` has the rest.

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
COLUMNS_FORMAT: Final = 1
TENANT_HEADER: Final = "X-Tenant-ID"
DEFAULT_TENANT: Final = "default"
DEFAULT_PORT: Final = 7837

MAX_KEY_CHARS: Final = 250
MAX_VALUE_CHARS: Final = 8_000
MAX_NAME_CHARS: Final = 500
MAX_TEXT_CHARS: Final = 20_000
MAX_RUNS_PER_PAGE: Final = 1_000
MAX_POINTS_PER_PAGE: Final = 100_000

Value = float | Literal["NaN", "Infinity", "-Infinity"]
"""A metric value as JSON carries it."""
Status = Literal["running", "finished", "failed", "killed", "scheduled"]
EndStatus = Literal["finished", "failed", "killed"]
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


class ColumnarSeries(Struct, array_like=True, gc=False):
    """One series: int64, int64 and float64 arrays of equal length, little-endian."""

    key: str
    steps: bytes
    timestamps: bytes
    values: bytes


class ColumnarBatch(Struct, array_like=True):
    """Points, parameters and tags of one request: a msgpack array that begins with the format."""

    format: int
    series: list[ColumnarSeries] = []
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    rank: int | None = None


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
