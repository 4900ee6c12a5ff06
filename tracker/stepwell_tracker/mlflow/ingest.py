"""What a run logs: metrics, parameters, tags, one at a time or in batches.

A batch is decoded once by msgspec and takes the native way from there.  What that decoder does not
take (decimal strings, nulls, wrong fields) is read again field by field, which either understands
it or knows MLflow's words for the refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct

from stepwell import wire
from stepwell_storage.errors import Conflict, Invalid, NotFound
from stepwell_storage.records import Batch, ModelMetric, RunChange
from stepwell_storage.tenant import Tenant
from stepwell_tracker import columns
from stepwell_tracker.http import Request
from stepwell_tracker.mlflow import names
from stepwell_tracker.mlflow.errors import (
    INVALID,
    MISSING,
    Refused,
    deleted_run,
    invalid_value,
    no_model,
)
from stepwell_tracker.mlflow.experiments import Nothing
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.scopes import in_run, run_id_of
from stepwell_tracker.mlflow.views import NOTE, RUN_NAME

MAX_METRICS: Final = 1_000
MAX_PARAMS: Final = 100
MAX_TAGS: Final = 100
MAX_ALL: Final = 1_000


class Metric(Struct, gc=False):
    key: str
    value: float | str
    timestamp: int
    step: int = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Label(Struct, gc=False):
    key: str
    value: str = ""


class LogBatch(Struct):
    run_id: str
    metrics: list[Metric] = []
    params: list[Label] = []
    tags: list[Label] = []


_decode: Final = msgspec.json.Decoder(LogBatch).decode


async def log_batch(request: Request) -> Nothing:
    raw = await request.read()
    try:
        body = _decode(raw)
        batch = _batch(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Invalid):
        body = _read(Fields.of_body(raw))
        batch = _batch(body)
    async with in_run(request, body.run_id) as (tenant, run_id):
        await _log(tenant, run_id, batch, body.metrics)
    return Nothing()


async def log_metric(request: Request) -> Nothing:
    body: Fields = request.body
    metric = _metric(body)
    batch = _points([metric], "name")
    async with in_run(request, run_id_of(body)) as (tenant, run_id):
        await _log(tenant, run_id, batch, [metric])
    return Nothing()


async def log_param(request: Request) -> Nothing:
    body: Fields = request.body
    params = names.params({body.text("key"): body.optional_text("value") or ""}, "key")
    async with in_run(request, run_id_of(body)) as (tenant, run_id):
        await _log(tenant, run_id, Batch(params=params))
    return Nothing()


async def set_tag(request: Request) -> Nothing:
    body: Fields = request.body
    tags = names.tags({body.text("key"): body.optional_text("value") or ""}, "key")
    async with in_run(request, run_id_of(body)) as (tenant, run_id):
        await _log(tenant, run_id, Batch(tags=tags))
    return Nothing()


async def delete_tag(request: Request) -> Nothing:
    """The name stays where its tag is deleted: a run always has one."""
    body: Fields = request.body
    key = body.text("key")
    async with in_run(request, run_id_of(body)) as (tenant, run_id):
        await require_active(tenant, run_id)
        run = await tenant.run(run_id, max_keys=0)
        if key == RUN_NAME:
            return Nothing()
        if key == NOTE and run.description:
            await tenant.change_run(run_id, RunChange(description=""))
        elif key in run.tags:
            await tenant.change_run(run_id, RunChange(tags={key: None}))
        else:
            raise Refused(MISSING, f"No tag with name: {key} in run with id {run_id}")
    return Nothing()


async def require_active(tenant: Tenant, run_id: str) -> None:
    """Raises Refused where the run is deleted."""
    try:
        await tenant.require_active(run_id)
    except Conflict:
        raise deleted_run(run_id) from None


def split_tags(tags: Mapping[str, str]) -> tuple[dict[str, str], RunChange | None]:
    """The tags that are stored as such, and the change that the others stand for."""
    name, note = tags.get(RUN_NAME), tags.get(NOTE)
    if name is None and note is None:
        return dict(tags), None
    kept = {key: value for key, value in tags.items() if key not in (RUN_NAME, NOTE)}
    return kept, RunChange(name=name, description=note)


async def _log(tenant: Tenant, run_id: str, batch: Batch, metrics: Sequence[Metric] = ()) -> None:
    """One batch, whole; then what of it belongs to models, to the name and to the description."""
    change = None
    if batch.tags:
        batch.tags, change = split_tags(batch.tags)
    of_models = [metric for metric in metrics if metric.model_id]
    if of_models:
        await require_active(tenant, run_id)
        try:
            await tenant.models.require([metric.model_id or "" for metric in of_models])
        except NotFound as error:
            raise no_model(str(error)) from None
    try:
        await tenant.log(run_id, batch)
        if change is not None:
            await tenant.change_run(run_id, change)
    except Conflict as error:
        await require_active(tenant, run_id)
        raise Refused(
            INVALID, f"Changing param values is not allowed. In run {run_id}, {error}."
        ) from None
    if of_models:
        await tenant.models.log([_of_model(metric, run_id) for metric in of_models])


def _of_model(metric: Metric, run_id: str) -> tuple[str, ModelMetric]:
    return metric.model_id or "", ModelMetric(
        key=metric.key,
        value=wire.from_value(metric.value),  # type: ignore[arg-type]  # checked with the batch
        step=metric.step,
        timestamp=metric.timestamp,
        run_id=run_id,
        dataset_name=metric.dataset_name or "",
        dataset_digest=metric.dataset_digest or "",
    )


def _batch(body: LogBatch) -> Batch:
    """Raises Refused for what a whole batch is refused for, and Invalid."""
    _check_counts(body)
    batch = _points(body.metrics, "metrics") if body.metrics else Batch()
    if body.params:
        batch.params = names.params({one.key: one.value for one in body.params}, "params")
        if len(batch.params) < len(body.params):
            raise Refused(INVALID, "Duplicate parameter keys have been submitted.")
    if body.tags:
        batch.tags = names.tags({one.key: one.value for one in body.tags}, "tags")
    for labels in (body.params, body.tags):
        for one in labels:
            _check_label(one)
    return batch


def _check_label(one: Label) -> None:
    if not one.key or "\0" in one.value or not one.value.isprintable():
        try:
            one.value.encode()
        except UnicodeEncodeError:
            raise Invalid("value", "a text has no lone surrogates") from None
        if not one.key or "\0" in one.value:
            raise Invalid("value", "a key is not empty, a text has no NUL characters")


def _check_counts(body: LogBatch) -> None:
    counts = {
        "metrics": (len(body.metrics), MAX_METRICS),
        "params": (len(body.params), MAX_PARAMS),
        "tags": (len(body.tags), MAX_TAGS),
    }
    total = sum(count for count, _ in counts.values())
    counts["metrics, params, and tags"] = (total, MAX_ALL)
    for kind, (count, most) in counts.items():
        if count > most:
            raise Refused(
                INVALID,
                f"A batch logging request can contain at most {most} {kind}. Got {count} {kind}."
                " Please split up the request.",
            )


def _points(metrics: Sequence[Metric], path: str) -> Batch:
    batch = columns.from_points(metrics, 0)
    names.check_keys(batch.keys, path)
    if (np.frombuffer(batch.timestamps, np.int64) < 0).any():
        number, bad = next((i, m) for i, m in enumerate(metrics) if m.timestamp < 0)
        where = "timestamp" if path == "name" else f"metrics[{number}].timestamp"
        raise invalid_value(where, bad.timestamp, "it is a time from 0 on")
    return batch


def _read(body: Fields) -> LogBatch:
    """The batch field by field.  Raises Refused."""
    return LogBatch(
        run_id=run_id_of(body),
        metrics=[_metric(one) for one in body.objects("metrics")],
        params=[Label(*pair) for pair in body.pairs("params")],
        tags=[Label(*pair) for pair in body.pairs("tags")],
    )


def _metric(fields: Fields) -> Metric:
    key = fields.text("key")
    value: Any = wire.to_value(fields.number("value"))
    return Metric(
        key=key,
        value=value,
        timestamp=fields.integer("timestamp"),
        step=fields.optional_integer("step") or 0,
        model_id=fields.optional_text("model_id") or None,
        dataset_name=fields.optional_text("dataset_name") or None,
        dataset_digest=fields.optional_text("dataset_digest") or None,
    )
