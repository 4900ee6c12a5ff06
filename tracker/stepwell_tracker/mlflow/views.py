"""Storage's records as MLflow's protocol shows them.

What is unset, and empty lists, are left out; an empty text that was set is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from stepwell import wire
from stepwell_storage import records

RUN_NAME: Final = "mlflow.runName"
NOTE: Final = "mlflow.note.content"
PARENT: Final = "mlflow.parentRunId"
MODEL_VERSIONS: Final = "mlflow.modelVersions"
_MODEL_STATUS: Final = {
    "pending": "LOGGED_MODEL_PENDING",
    "ready": "LOGGED_MODEL_READY",
    "failed": "LOGGED_MODEL_UPLOAD_FAILED",
}


class Pair(Struct):
    key: str
    value: str


class Experiment(Struct, omit_defaults=True):
    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    last_update_time: int
    creation_time: int
    workspace: str
    tags: list[Pair] = []


class RunInfo(Struct, omit_defaults=True):
    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    artifact_uri: str
    lifecycle_stage: str
    end_time: int | None = None


class Metric(Struct, omit_defaults=True):
    """``run_id`` and ``model_id`` stand where a list is of many runs, or of a model."""

    key: str
    value: wire.Value
    timestamp: int
    step: int
    run_id: str | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class RunData(Struct, omit_defaults=True):
    metrics: list[Metric] = []
    params: list[Pair] = []
    tags: list[Pair] = []


class Dataset(Struct, omit_defaults=True):
    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


class DatasetInput(Struct, omit_defaults=True):
    dataset: Dataset
    tags: list[Pair] = []


class ModelInput(Struct):
    model_id: str


class ModelOutput(Struct):
    model_id: str
    step: int


class RunInputs(Struct, omit_defaults=True):
    dataset_inputs: list[DatasetInput] = []
    model_inputs: list[ModelInput] = []


class RunOutputs(Struct, omit_defaults=True):
    model_outputs: list[ModelOutput] = []


class Run(Struct):
    info: RunInfo
    data: RunData
    inputs: RunInputs
    outputs: RunOutputs


class Registration(Struct):
    name: str
    version: str


class ModelInfo(Struct, omit_defaults=True):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    model_type: str | None = None
    source_run_id: str | None = None
    status_message: str | None = None
    tags: list[Pair] = []
    registrations: list[Registration] = []


class ModelData(Struct, omit_defaults=True):
    params: list[Pair] = []
    metrics: list[Metric] = []


class Model(Struct):
    info: ModelInfo
    data: ModelData


class Alias(Struct):
    alias: str
    version: str


class ModelVersion(Struct, omit_defaults=True):
    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    current_stage: str
    source: str
    status: str
    description: str
    run_id: str
    run_link: str
    user_id: str | None = None
    model_id: str | None = None
    tags: list[Pair] = []
    aliases: list[str] = []


class RegisteredModel(Struct, omit_defaults=True):
    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str | None = None
    latest_versions: list[ModelVersion] = []
    tags: list[Pair] = []
    aliases: list[Alias] = []


def pairs(given: Mapping[str, str]) -> list[Pair]:
    """By key."""
    return [Pair(key, given[key]) for key in sorted(given)]


def location(experiment: records.Experiment) -> str:
    return experiment.artifact_location or f"mlflow-artifacts:/{experiment.number}"


def run_location(experiment: records.Experiment, run_id: str) -> str:
    return _run_files(location(experiment), run_id)


def model_location(experiment: records.Experiment, model_id: str) -> str:
    return _model_files(location(experiment), model_id)


def _run_files(place: str, run_id: str) -> str:
    return f"{place.removesuffix('/')}/{run_id}/artifacts"


def _model_files(place: str, model_id: str) -> str:
    return f"{place.removesuffix('/')}/models/{model_id}/artifacts"


def experiment(record: records.Experiment, tenant: str) -> Experiment:
    return Experiment(
        experiment_id=str(record.number),
        name=record.name,
        artifact_location=location(record),
        lifecycle_stage=record.lifecycle,
        last_update_time=record.updated_at,
        creation_time=record.created_at,
        workspace=tenant,
        tags=pairs(record.tags),
    )


def run_info(record: records.Run, place: str) -> RunInfo:
    """``place`` is the artifact location of the run's experiment."""
    return RunInfo(
        run_id=record.run_id,
        run_uuid=record.run_id,
        run_name=record.name,
        experiment_id=str(record.experiment_number),
        user_id=record.user_id or "",
        status=record.status.upper(),
        start_time=record.start_time,
        artifact_uri=_run_files(place, record.run_id),
        lifecycle_stage=record.lifecycle,
        end_time=record.end_time,
    )


def run(record: records.Run, place: str) -> Run:
    """A complete record, whose last points are those of MLflow's order."""
    metrics = [
        Metric(key, wire.to_value(point.value), point.timestamp, point.step)
        for key, point in sorted(record.last_points.items())
    ]
    data = RunData(metrics, pairs(record.params), pairs(tags_of(record)))
    inputs = RunInputs(
        [DatasetInput(_dataset(use.dataset), pairs(use.tags)) for use in record.datasets],
        [ModelInput(use.model_id) for use in record.models if use.kind == "input"],
    )
    outputs = [ModelOutput(use.model_id, use.step) for use in record.models if use.kind == "output"]
    return Run(run_info(record, place), data, inputs, RunOutputs(outputs))


def tags_of(record: records.Run) -> dict[str, str]:
    """With those that stand for fields of the run: its name, description and parent."""
    tags = {**record.tags, RUN_NAME: record.name}
    if record.description:
        tags[NOTE] = record.description
    if record.parent_run_id:
        tags.setdefault(PARENT, record.parent_run_id)
    return tags


def _dataset(record: records.Dataset) -> Dataset:
    return Dataset(
        record.name, record.digest, record.source_type, record.source, record.schema, record.profile
    )


def model(record: records.Model, place: str) -> Model:
    info = ModelInfo(
        model_id=record.model_id,
        experiment_id=str(record.experiment_number),
        name=record.name,
        creation_timestamp_ms=record.created_at,
        last_updated_timestamp_ms=record.updated_at,
        artifact_uri=_model_files(place, record.model_id),
        status=_MODEL_STATUS[record.status],
        model_type=record.model_type,
        source_run_id=record.source_run_id,
        status_message=record.status_message,
        tags=pairs(_with_registrations(record)),
        registrations=[Registration(name, str(number)) for name, number in record.registrations],
    )
    return Model(info, ModelData(pairs(record.params), _model_metrics(record)))


def _with_registrations(record: records.Model) -> dict[str, str]:
    """The tags; clients find the registered versions of a model in one of them."""
    if not record.registrations:
        return record.tags
    listed = [{"name": name, "version": number} for name, number in record.registrations]
    return {**record.tags, MODEL_VERSIONS: msgspec.json.encode(listed).decode()}


def _model_metrics(record: records.Model) -> list[Metric]:
    return [
        Metric(
            m.key, wire.to_value(m.value), m.timestamp, m.step, m.run_id, record.model_id,
            m.dataset_name or None, m.dataset_digest or None,
        )
        for m in record.metrics
    ]  # fmt: skip


def model_version(record: records.ModelVersion) -> ModelVersion:
    """Texts that are not set are empty here: MLflow's server sends them so."""
    return ModelVersion(
        name=record.name,
        version=str(record.version),
        creation_timestamp=record.created_at,
        last_updated_timestamp=record.updated_at,
        current_stage=record.stage,
        source=record.source,
        status="READY",
        description=record.description or "",
        run_id=record.run_id or "",
        run_link=record.run_link or "",
        user_id=record.user_id,
        model_id=record.model_id,
        tags=pairs(record.tags),
        aliases=record.aliases,
    )


def registered_model(record: records.RegisteredModel) -> RegisteredModel:
    return RegisteredModel(
        name=record.name,
        creation_timestamp=record.created_at,
        last_updated_timestamp=record.updated_at,
        description=record.description,
        latest_versions=[model_version(one) for one in record.latest],
        tags=pairs(record.tags),
        aliases=[Alias(alias, str(version)) for alias, version in record.aliases.items()],
    )
