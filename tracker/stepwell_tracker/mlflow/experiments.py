"""Experiments: their ids here are the small numbers that storage gives them."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.records import Experiment, ExperimentChange, ListQuery
from stepwell_storage.tenant import Tenant
from stepwell_tracker.http import Request
from stepwell_tracker.mlflow import filters, names, views
from stepwell_tracker.mlflow.errors import (
    EXISTS,
    MISSING,
    Refused,
    no_experiment,
)
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.scopes import experiment_of, in_tenant

MAX_RESULTS: Final = 50_000
_DEFAULT_RESULTS: Final = 1_000
VIEWS: Final[dict[str | int, str]] = {
    "ACTIVE_ONLY": "active", "DELETED_ONLY": "deleted", "ALL": "all",
    1: "active", 2: "deleted", 3: "all",
}  # fmt: skip
_LOCATION: Final = re.compile(r"[^#;\x00-\x1f]{1,2048}")


class Created(Struct):
    experiment_id: str


class Found(Struct):
    experiment: views.Experiment


class Page(Struct, omit_defaults=True):
    experiments: list[views.Experiment] = []
    next_page_token: str | None = None


class Nothing(Struct):
    """The empty answer."""


async def create(request: Request) -> Created:
    body: Fields = request.body
    name = names.experiment_name(body, "name")
    tags = names.experiment_tags(body.pairs("tags"))
    location = body.optional_text("artifact_location") or None
    if location is not None and not _LOCATION.fullmatch(location):
        raise body.refuse("artifact_location", "at most 2048 characters, without '#' and ';'")
    async with in_tenant(request, create=True) as tenant:
        try:
            made = await tenant.create_experiment(name, tags=tags, artifact_location=location)
        except Conflict:
            raise _taken(name) from None
    return Created(str(made.number))


async def get(request: Request) -> Found:
    async with in_tenant(request) as tenant:
        found = await experiment_of(tenant, request.body.text("experiment_id"))
        return Found(views.experiment(found, tenant.name))


async def get_by_name(request: Request) -> Found:
    name = request.body.text("experiment_name")
    async with in_tenant(request) as tenant:
        try:
            found = await tenant.experiment_by_name(name)
        except NotFound:
            raise Refused(MISSING, f"Could not find experiment with name '{name}'") from None
        return Found(views.experiment(found, tenant.name))


async def search(request: Request) -> Page:
    body: Fields = request.body
    query = ListQuery(
        filter=filters.translated(body.optional_text("filter") or "", filters.EXPERIMENTS),
        order_by=filters.list_order(body.texts("order_by"), filters.EXPERIMENTS),
        lifecycle=body.choice("view_type", VIEWS) or "active",
        limit=body.limit("max_results", _DEFAULT_RESULTS, MAX_RESULTS),
        cursor=body.optional_text("page_token") or None,
    )
    async with in_tenant(request) as tenant:
        found, token = await tenant.search_experiments(query)
        return Page([views.experiment(one, tenant.name) for one in found], token)


async def update(request: Request) -> Nothing:
    body: Fields = request.body
    text, name = body.text("experiment_id"), names.experiment_name(body, "new_name")
    async with in_tenant(request) as tenant:
        found = await experiment_of(tenant, text, active=True)
        try:
            await _change(tenant, found, ExperimentChange(name=name))
        except Conflict:
            raise _taken(name) from None
    return Nothing()


async def delete(request: Request) -> Nothing:
    return await _move(request, "active", "deleted")


async def restore(request: Request) -> Nothing:
    return await _move(request, "deleted", "active")


async def _move(request: Request, old: str, new: str) -> Nothing:
    text = request.body.text("experiment_id")
    async with in_tenant(request) as tenant:
        found = await experiment_of(tenant, text)
        if found.lifecycle != old:
            raise no_experiment(text)
        await _change(tenant, found, ExperimentChange(lifecycle=new))
    return Nothing()


async def set_tag(request: Request) -> Nothing:
    body: Fields = request.body
    tags = names.experiment_tags([(body.text("key"), body.optional_text("value") or "")])
    async with in_tenant(request) as tenant:
        found = await experiment_of(tenant, body.text("experiment_id"), active=True)
        await _change(tenant, found, ExperimentChange(tags={**tags}))
    return Nothing()


async def delete_tag(request: Request) -> Nothing:
    body: Fields = request.body
    text, key = body.text("experiment_id"), body.text("key")
    async with in_tenant(request) as tenant:
        found = await experiment_of(tenant, text, active=True)
        if key not in found.tags:
            raise Refused(MISSING, f"No tag with name: {key} in experiment with id {text}")
        await _change(tenant, found, ExperimentChange(tags={key: None}))
    return Nothing()


async def _change(tenant: Tenant, found: Experiment, change: ExperimentChange) -> None:
    await tenant.change_experiment(found.experiment_id, change)


def _taken(name: str) -> Refused:
    return Refused(EXISTS, f"Experiment(name={name}) already exists.")
