"""What storage hands out and takes in: plain records, one shape for each thing.

Times are integer milliseconds since the epoch.  Values are floats, NaN and infinities included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

DEFAULT_EXPERIMENT = "Default"


@dataclass(frozen=True, slots=True)
class Experiment:
    """``number`` is the small per-tenant id that the MLflow protocol uses."""

    experiment_id: str
    number: int
    name: str
    description: str
    lifecycle: str
    created_at: int
    updated_at: int
    tags: dict[str, str] = field(default_factory=dict)
    run_count: int = 0
    artifact_location: str | None = None


@dataclass(slots=True)
class Run:
    """``metrics`` are last values.  ``truncated`` says that some keys were left out."""

    run_id: str
    experiment_id: str
    experiment_number: int
    name: str
    description: str
    user_id: str | None
    parent_run_id: str | None
    status: str
    start_time: int
    end_time: int | None
    heartbeat_at: int
    lifecycle: str
    stop_requested: bool
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    truncated: bool = False
    writers: dict[str, int] = field(default_factory=dict)
    last_points: dict[str, LastPoint] = field(default_factory=dict)
    datasets: list[DatasetUse] = field(default_factory=list)
    models: list[ModelUse] = field(default_factory=list)


class LastPoint(NamedTuple):
    step: int
    timestamp: int
    value: float


@dataclass(frozen=True, slots=True)
class Dataset:
    """``source``, ``schema`` and ``profile`` are JSON texts that nobody here reads."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


class DatasetUse(NamedTuple):
    """A dataset of a run; ``tags`` say as what."""

    dataset: Dataset
    tags: dict[str, str]


class ModelUse(NamedTuple):
    """``kind`` is input or output; ``step`` counts for outputs."""

    kind: str
    model_id: str
    step: int


class ModelMetric(NamedTuple):
    """What a run measured of a model; dataset names are empty where none was given."""

    key: str
    value: float
    step: int
    timestamp: int
    run_id: str
    dataset_name: str = ""
    dataset_digest: str = ""


@dataclass(frozen=True, slots=True)
class NewModel:
    model_id: str
    experiment_number: int
    name: str
    model_type: str | None = None
    source_run_id: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Model:
    """``status`` is pending, ready or failed."""

    model_id: str
    experiment_number: int
    name: str
    model_type: str | None
    source_run_id: str | None
    status: str
    status_message: str | None
    created_at: int
    updated_at: int
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[ModelMetric] = field(default_factory=list)
    registrations: list[tuple[str, int]] = field(default_factory=list)
    """Versions of registered models that were made from it: name and number."""


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version of the registered model ``name``; ``location`` is where its files lie."""

    name: str
    source: str
    location: str
    description: str | None = None
    user_id: str | None = None
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ModelVersion:
    """Of a registered model.  Times in ms since the epoch."""

    name: str
    version: int
    description: str | None
    user_id: str | None
    stage: str
    source: str
    location: str
    run_id: str | None
    run_link: str | None
    model_id: str | None
    created_at: int
    updated_at: int
    tags: dict[str, str] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RegisteredModel:
    """``latest`` is the newest version of each stage; ``aliases`` lead to versions."""

    name: str
    description: str | None
    created_at: int
    updated_at: int
    tags: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    latest: list[ModelVersion] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ListOrder:
    """One item of an order of experiments or models: ``text`` as the filter language has it.

    A metric of a model may be narrowed to those measured on one dataset.
    """

    text: str
    descending: bool = False
    dataset_name: str | None = None
    dataset_digest: str | None = None


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A search of experiments or models, whose attributes are those of ``listing.py``.

    ``experiments`` None is every one; ``datasets`` keeps models with a metric on any of these
    (name, digest or None).
    """

    filter: str = ""
    order_by: tuple[ListOrder, ...] = ()
    lifecycle: str = "active"
    limit: int = 50
    cursor: str | None = None
    experiments: tuple[int, ...] | None = None
    datasets: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be made.  Exactly one of the experiment's fields is given, or neither: Default.

    ``fresh`` says that the id was made for it a moment ago, so nobody looks whether it exists.
    """

    run_id: str
    name: str
    start_time: int
    experiment_id: str | None = None
    experiment_name: str | None = None
    description: str = ""
    user_id: str | None = None
    parent_run_id: str | None = None
    status: str = "running"
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class RunChange:
    """Fields left at None stay; ``end_time`` of a status change follows from the status, but
    ``keeps_end_time`` says that an end without a time leaves it as it is.

    ``tags`` with the value None are removed.  ``clear_end_time`` makes the end time null.
    ``ending`` is a call that may be repeated: the status that a run has already changes nothing.
    """

    name: str | None = None
    description: str | None = None
    status: str | None = None
    end_time: int | None = None
    clear_end_time: bool = False
    keeps_end_time: bool = False
    ending: bool = False
    stop_requested: bool | None = None
    lifecycle: str | None = None
    tags: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExperimentChange:
    name: str | None = None
    description: str | None = None
    lifecycle: str | None = None
    tags: dict[str, str | None] = field(default_factory=dict)
    expected_tags: dict[str, str | None] = field(default_factory=dict)
    """What these tags must be (None: not there), or nothing changes."""


@dataclass(slots=True)
class Batch:
    """What one request logs.

    The points stand series by series: ``keys[i]`` owns the next ``counts[i]`` entries of the three
    little-endian int64, int64, float64 arrays.  A key may occur more than once.
    """

    keys: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    steps: bytes = b""
    timestamps: bytes = b""
    values: bytes = b""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    rank: int | None = None


class Ack(NamedTuple):
    """What the committer says of a batch once it is on disk."""

    stop_requested: bool


@dataclass(frozen=True, slots=True)
class SeriesStats:
    """``count`` is an upper bound where ``exact`` is false.  Minimum and maximum skip NaN."""

    key: str
    count: int
    exact: bool
    last_step: int
    last_timestamp: int
    last: float
    min: float | None
    min_step: int | None
    max: float | None
    max_step: int | None


class Position(NamedTuple):
    """A place in a series' order; ``value`` is the ordered integer of the float's bits."""

    step: int
    timestamp: int
    value: int


class ConsoleLine(NamedTuple):
    stream: str
    timestamp: int
    text: str


@dataclass(frozen=True, slots=True)
class RunQuery:
    """A search of runs.

    ``filter`` and ``order_by`` are in the filter language; ``after`` is the cursor of the page
    before.  ``lifecycle`` is active, deleted or all.  ``experiment_numbers`` says the same as
    ``experiment_ids``, where it is given.  ``complete`` fills in what :meth:`Tenant.run` calls so.
    ``params_as_text`` orders by a parameter's text even where it is a number.
    """

    experiment_ids: tuple[str, ...] = ()
    experiment_numbers: tuple[int, ...] | None = None
    statuses: tuple[str, ...] = ()
    filter: str = ""
    order_by: tuple[str, ...] = ()
    lifecycle: str = "active"
    limit: int = 50
    offset: int = 0
    cursor: str | None = None
    total: bool = True
    keys: tuple[str, ...] | None = None
    complete: bool = False
    params_as_text: bool = False


@dataclass(frozen=True, slots=True)
class RunPage:
    runs: list[Run]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class ExperimentPage:
    experiments: list[Experiment]
    next_cursor: str | None
    total: int


@dataclass(frozen=True, slots=True)
class ModelPage:
    models: list[Model]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SeriesPage:
    series: list[SeriesStats]
    next_cursor: str | None
    total: int


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """Lines as (number, stream, timestamp, text)."""

    lines: list[tuple[int, str, int, str]]
    next_cursor: str | None
    total: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a run, pushed after its commit.  ``number`` only grows."""

    number: int
    run_id: str
    kind: str
    data: dict[str, object]
