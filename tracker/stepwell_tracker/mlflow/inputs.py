"""What a run used and made: datasets and models."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from stepwell_storage.errors import Conflict, Invalid
from stepwell_storage.records import Dataset, DatasetUse, ModelUse
from stepwell_tracker.http import Request
from stepwell_tracker.mlflow.errors import INVALID, Refused, deleted_run
from stepwell_tracker.mlflow.experiments import Nothing
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.scopes import experiment_number, in_run, in_tenant, run_id_of

_LIMITS: Final = {
    "name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215,
}  # fmt: skip
MODEL_HISTORY: Final = "mlflow.log-model.history"
_MODEL_FIELDS: Final = frozenset(("artifact_path", "flavors", "utc_time_created", "run_id"))
_TOLD_OF_MODELS: Final = ("run_id", "utc_time_created", "artifact_path", "model_uuid", "flavors")
_MAX_TAG_KEY_CHARS: Final = 255
_MAX_TAG_CHARS: Final = 500
_MAX_EXPERIMENTS: Final = 20


class Summary(Struct, omit_defaults=True):
    experiment_id: str
    name: str
    digest: str
    context: str | None = None


class Summaries(Struct, omit_defaults=True):
    dataset_summaries: list[Summary] = []


async def log_inputs(request: Request) -> Nothing:
    body: Fields = request.body
    datasets = [_use(one) for one in body.objects("datasets")]
    models = [ModelUse("input", one.text("model_id"), 0) for one in body.objects("models")]
    return await _link(request, datasets, models)


async def log_outputs(request: Request) -> Nothing:
    body: Fields = request.body
    models = [
        ModelUse("output", one.text("model_id"), one.optional_integer("step") or 0)
        for one in body.objects("models")
    ]
    return await _link(request, [], models)


async def log_model(request: Request) -> Nothing:
    """What clients before MLflow 3 say of a model's files: appended to a list in a tag."""
    body: Fields = request.body
    described = body.text("model_json")
    try:
        model = msgspec.json.decode(described)
    except (msgspec.DecodeError, RecursionError):
        model = None
    if not isinstance(model, dict):
        raise Refused(INVALID, f"Malformed model info. \n {described[:500]} \n is not valid JSON.")
    if missing := _MODEL_FIELDS - model.keys():
        names = ", ".join(sorted(missing))
        raise Refused(INVALID, f"Model json is missing mandatory fields: {names}")
    told = {key: model[key] for key in _TOLD_OF_MODELS if key in model}
    async with in_run(request, run_id_of(body)) as (tenant, run_id):
        try:
            await tenant.revise_tag(run_id, MODEL_HISTORY, lambda old: _appended(old, told))
        except Conflict:
            raise deleted_run(run_id) from None
    return Nothing()


def _appended(old: str | None, model: dict[str, Any]) -> str:
    try:
        listed = msgspec.json.decode(old or "[]", type=list[Any])
    except msgspec.MsgspecError:
        raise Invalid("model_json", f"the tag {MODEL_HISTORY} is no list of models") from None
    return msgspec.json.encode([*listed, model]).decode()


async def _link(request: Request, datasets: list[DatasetUse], models: list[ModelUse]) -> Nothing:
    async with in_run(request, run_id_of(request.body)) as (tenant, run_id):
        try:
            await tenant.datasets.link(run_id, datasets, models)
        except Conflict:
            raise deleted_run(run_id) from None
    return Nothing()


async def search_datasets(request: Request) -> Summaries:
    """The datasets of up to 20 experiments, with each role that they had."""
    texts = request.body.texts("experiment_ids")
    if not 1 <= len(texts) <= _MAX_EXPERIMENTS:
        raise Refused(
            INVALID,
            f"SearchDatasets request must specify 1 to {_MAX_EXPERIMENTS} experiment_ids."
            f" Received {len(texts)} experiment_ids.",
        )
    numbers = list(map(experiment_number, texts))
    async with in_tenant(request) as tenant:
        found = await tenant.datasets.of_experiments(numbers)
    return Summaries([Summary(str(one[0]), *one[1:]) for one in found])


def _use(fields: Fields) -> DatasetUse:
    dataset = fields.object("dataset")
    found = Dataset(
        name=dataset.text("name"),
        digest=dataset.text("digest"),
        source_type=dataset.text("source_type"),
        source=dataset.text("source"),
        schema=dataset.optional_text("schema"),
        profile=dataset.optional_text("profile"),
    )
    for name, most in _LIMITS.items():
        if len(getattr(found, name) or "") > most:
            raise _too_long(f"dataset.{name}", most)
    tags = dict(fields.pairs("tags"))
    for key, value in tags.items():
        if len(key) > _MAX_TAG_KEY_CHARS:
            raise _too_long("tags.key", _MAX_TAG_KEY_CHARS)
        if len(value) > _MAX_TAG_CHARS:
            raise _too_long("tags.value", _MAX_TAG_CHARS)
    return DatasetUse(found, tags)


def _too_long(path: str, most: int) -> Invalid:
    return Invalid(path, f"'{path}' exceeds the maximum length of {most} characters")
