"""Versions of registered models: made from the files of a run, a model or another version."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from stepwell_storage.records import ListQuery, NewVersion
from stepwell_tracker.http import Request
from stepwell_tracker.mlflow import filters, names, views
from stepwell_tracker.mlflow.errors import INVALID, Refused
from stepwell_tracker.mlflow.experiments import Nothing
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.registered import (
    FoundVersion,
    find,
    find_version,
    stage_of,
    version_of,
)
from stepwell_tracker.mlflow.scopes import in_tenant
from stepwell_tracker.mlflow.sources import Asked, resolve

_DEFAULT_RESULTS: Final = 10_000
_MAX_RESULTS: Final = 200_000
_TIES: Final = ("name", "version_number DESC")
_ACTIVE_STAGES: Final = ("Staging", "Production")


class Page(Struct, omit_defaults=True):
    model_versions: list[views.ModelVersion] = []
    next_page_token: str | None = None


class DownloadUri(Struct):
    artifact_uri: str


async def create(request: Request) -> FoundVersion:
    body: Fields = request.body
    name = names.registered_model_name(body)
    tags = names.registry_tags(body.pairs("tags"))
    asked = Asked(
        source=body.text("source"),
        run_id=body.optional_text("run_id") or None,
        model_id=body.optional_text("model_id") or None,
        is_prompt=filters.is_prompt(tags),
    )
    async with in_tenant(request) as tenant:
        await find(tenant, name)
        source = await resolve(tenant, asked)
        new = NewVersion(
            name=name,
            source=source.source,
            location=source.location,
            description=body.optional_text("description"),
            run_id=source.run_id,
            run_link=body.optional_text("run_link") or None,
            model_id=source.model_id,
            tags=tags,
        )
        return FoundVersion(views.model_version(await tenant.registry.create_version(new)))


async def get(request: Request) -> FoundVersion:
    name, version = _named(request)
    async with in_tenant(request) as tenant:
        return FoundVersion(views.model_version(await find_version(tenant, name, version)))


async def search(request: Request) -> Page:
    body: Fields = request.body
    grammar = filters.MODEL_VERSIONS
    query = ListQuery(
        filter=filters.without_prompts(body.optional_text("filter") or "", grammar),
        order_by=filters.list_order(body.texts("order_by"), grammar, _TIES),
        limit=body.limit("max_results", _DEFAULT_RESULTS, _MAX_RESULTS),
        cursor=body.optional_text("page_token") or None,
    )
    async with in_tenant(request) as tenant:
        found, token = await tenant.registry.search_versions(query)
    return Page([views.model_version(one) for one in found], token)


async def download_uri(request: Request) -> DownloadUri:
    name, version = _named(request)
    async with in_tenant(request) as tenant:
        return DownloadUri((await find_version(tenant, name, version)).location)


async def update(request: Request) -> FoundVersion:
    name, version = _named(request)
    description = request.body.optional_text("description")
    async with in_tenant(request) as tenant:
        await find_version(tenant, name, version)
        found = await tenant.registry.describe_version(name, version, description)
    return FoundVersion(views.model_version(found))


async def transition_stage(request: Request) -> FoundVersion:
    body: Fields = request.body
    name, version = _named(request)
    stage = stage_of(body.text("stage"))
    archive = body.flag("archive_existing_versions")
    if archive and stage not in _ACTIVE_STAGES:
        raise Refused(
            INVALID,
            "Model version transition cannot archive existing model versions because"
            f" '{stage}' is not an Active stage. Valid stages are {', '.join(_ACTIVE_STAGES)}",
        )
    async with in_tenant(request) as tenant:
        await find_version(tenant, name, version)
        found = await tenant.registry.set_stage(name, version, stage, archive=archive)
    return FoundVersion(views.model_version(found))


async def delete(request: Request) -> Nothing:
    """Its number is not used again; the files stay with their run or model."""
    name, version = _named(request)
    async with in_tenant(request) as tenant:
        await find_version(tenant, name, version)
        await tenant.registry.delete_version(name, version)
    return Nothing()


async def set_tag(request: Request) -> Nothing:
    body: Fields = request.body
    name, version = _named(request)
    tags = names.registry_tags([(body.text("key"), body.optional_text("value") or "")])
    async with in_tenant(request) as tenant:
        await find_version(tenant, name, version)
        for key, value in tags.items():
            await tenant.registry.set_version_tag(name, version, key, value)
    return Nothing()


async def delete_tag(request: Request) -> Nothing:
    """None of that name is fine."""
    name, version = _named(request)
    key = request.body.text("key")
    async with in_tenant(request) as tenant:
        await find_version(tenant, name, version)
        await tenant.registry.delete_version_tag(name, version, key)
    return Nothing()


def _named(request: Request) -> tuple[str, int]:
    return names.registered_model_name(request.body), version_of(request.body)
