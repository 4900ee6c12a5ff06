"""Logged models: made pending by ``log_model``, then filled, then ready."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.records import ListQuery, Model, NewModel
from stepwell_storage.tenant import Tenant
from stepwell_tracker.http import Request
from stepwell_tracker.mlflow import filters, names, views
from stepwell_tracker.mlflow.errors import (
    INVALID,
    MISSING,
    Refused,
    deleted_experiment,
    no_experiment,
    no_model,
)
from stepwell_tracker.mlflow.experiments import MAX_RESULTS, Nothing
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.scopes import experiment_number, experiment_of, in_tenant
from stepwell_tracker.nicknames import nickname

_BAD_NAME: Final = re.compile(r"[/:.%\"']")
_DEFAULT_RESULTS: Final = 50
_STATUSES: Final[dict[str | int, str]] = {
    "LOGGED_MODEL_PENDING": "pending", "LOGGED_MODEL_READY": "ready",
    "LOGGED_MODEL_UPLOAD_FAILED": "failed", 1: "pending", 2: "ready", 3: "failed",
}  # fmt: skip


class Found(Struct):
    model: views.Model


class Page(Struct, omit_defaults=True):
    models: list[views.Model] = []
    next_page_token: str | None = None


async def create(request: Request) -> Found:
    body: Fields = request.body
    text = body.text("experiment_id")
    name = body.optional_text("name")
    if name is None:
        name = nickname()
    elif not name or len(name) > names.MAX_NAME_CHARS or _BAD_NAME.search(name):
        raise Refused(
            INVALID,
            f"Invalid model name ({name[:100]!r}) provided. Model name must be a non-empty string"
            " and cannot contain the following characters: ('/', ':', '.', '%', '\"', \"'\")",
        )
    params, tags = _params(body), _tags(body)
    async with in_tenant(request, create=experiment_number(text) == 0) as tenant:
        found = await experiment_of(tenant, text, active=True)
        new = NewModel(
            model_id=f"m-{secrets.token_hex(16)}",
            experiment_number=found.number,
            name=name,
            model_type=body.optional_text("model_type") or None,
            source_run_id=body.optional_text("source_run_id") or None,
            params=params,
            tags=tags,
        )
        try:
            made = await tenant.models.create(new)
        except NotFound:
            raise no_experiment(text) from None
        except Conflict:
            raise deleted_experiment(text) from None
        return Found(views.model(made, views.location(found)))


async def get(request: Request) -> Found:
    model_id = request.path["model_id"]
    async with in_tenant(request) as tenant:
        try:
            found = await tenant.models.get(model_id, deleted=request.body.flag("allow_deleted"))
        except NotFound:
            raise no_model(model_id) from None
        return Found((await shown(tenant, [found]))[0])


async def finalize(request: Request) -> Found:
    model_id = request.path["model_id"]
    status = request.body.choice("status", _STATUSES)
    if status is None:
        raise Refused(INVALID, "Missing value for required parameter 'status'.")
    async with in_tenant(request) as tenant:
        try:
            found = await tenant.models.set_status(model_id, status)
        except NotFound:
            raise no_model(model_id) from None
        return Found((await shown(tenant, [found]))[0])


async def delete(request: Request) -> Nothing:
    model_id = request.path["model_id"]
    async with in_tenant(request) as tenant:
        try:
            await tenant.models.delete(model_id)
        except NotFound:
            raise no_model(model_id) from None
    return Nothing()


async def search(request: Request) -> Page:
    body: Fields = request.body
    order = filters.model_order(body.objects("order_by"))
    datasets = [
        (one.text("dataset_name"), one.optional_text("dataset_digest") or None)
        for one in body.objects("datasets")
    ]
    query = ListQuery(
        filter=filters.translated(body.optional_text("filter") or "", filters.MODELS),
        order_by=order,
        limit=body.limit("max_results", _DEFAULT_RESULTS, MAX_RESULTS),
        cursor=body.optional_text("page_token") or None,
        experiments=tuple(map(experiment_number, body.texts("experiment_ids"))),
        datasets=tuple(datasets),
    )
    async with in_tenant(request) as tenant:
        page = await tenant.models.search(query)
        return Page(await shown(tenant, page.models), page.next_cursor)


async def add_params(request: Request) -> Nothing:
    model_id, params = request.path["model_id"], _params(request.body)
    async with in_tenant(request) as tenant:
        try:
            await tenant.models.add_params(model_id, params)
        except NotFound:
            raise no_model(model_id) from None
        except Conflict as error:
            raise Refused(INVALID, f"Changing param values is not allowed: {error}.") from None
    return Nothing()


async def set_tags(request: Request) -> Found:
    model_id, tags = request.path["model_id"], _tags(request.body)
    async with in_tenant(request) as tenant:
        try:
            found = await tenant.models.set_tags(model_id, tags)
        except NotFound:
            raise no_model(model_id) from None
        return Found((await shown(tenant, [found]))[0])


async def delete_tag(request: Request) -> Nothing:
    model_id, key = request.path["model_id"], request.path["key"]
    async with in_tenant(request) as tenant:
        try:
            deleted = await tenant.models.delete_tag(model_id, key)
        except NotFound:
            raise no_model(model_id) from None
    if not deleted:
        raise Refused(MISSING, f"No tag with key '{key}' found for model with ID '{model_id}'.")
    return Nothing()


async def shown(tenant: Tenant, models: Iterable[Model]) -> list[views.Model]:
    places: dict[int, str] = {}
    found = []
    for model in models:
        number = model.experiment_number
        if number not in places:
            places[number] = views.location(await tenant.experiment_by_number(number))
        found.append(views.model(model, places[number]))
    return found


def _params(body: Fields) -> dict[str, str]:
    given = body.pairs("params")
    params = names.params(dict(given), "params")
    if len(params) < len(given):
        raise Refused(INVALID, "Duplicate parameter keys have been submitted.")
    return params


def _tags(body: Fields) -> dict[str, str]:
    return names.tags(dict(body.pairs("tags")), "tags")
