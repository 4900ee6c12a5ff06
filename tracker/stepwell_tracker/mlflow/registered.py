"""Registered models: names under which versions of a model are found, with tags and aliases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.records import ListQuery, ModelVersion, RegisteredModel
from stepwell_storage.tenant import Tenant
from stepwell_tracker.http import Request
from stepwell_tracker.mlflow import filters, names, views
from stepwell_tracker.mlflow.errors import EXISTS, INVALID, MISSING, Refused
from stepwell_tracker.mlflow.experiments import Nothing
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.scopes import in_tenant

STAGES: Final = ("None", "Staging", "Production", "Archived")
MAX_ALIAS_CHARS: Final = 255
_ALIAS: Final = re.compile(r"[\w\-]+")
_RESERVED_ALIAS: Final = re.compile(r"v\d+|latest", re.IGNORECASE)
_DEFAULT_RESULTS: Final = 100
_MAX_RESULTS: Final = 1_000


class Found(Struct):
    registered_model: views.RegisteredModel


class FoundVersion(Struct):
    model_version: views.ModelVersion


class Page(Struct, omit_defaults=True):
    registered_models: list[views.RegisteredModel] = []
    next_page_token: str | None = None


class Versions(Struct, omit_defaults=True):
    model_versions: list[views.ModelVersion] = []


async def create(request: Request) -> Found:
    body: Fields = request.body
    name = names.registered_model_name(body)
    description = body.optional_text("description")
    tags = names.registry_tags(body.pairs("tags"))
    async with in_tenant(request, create=True) as tenant:
        try:
            made = await tenant.registry.create(name, description=description, tags=tags)
        except Conflict:
            raise _taken_by(await find(tenant, name), tags) from None
    return _found(made)


async def get(request: Request) -> Found:
    name = names.registered_model_name(request.body)
    async with in_tenant(request) as tenant:
        return _found(await find(tenant, name))


async def search(request: Request) -> Page:
    body: Fields = request.body
    grammar = filters.REGISTERED_MODELS
    query = ListQuery(
        filter=filters.without_prompts(body.optional_text("filter") or "", grammar),
        order_by=filters.list_order(body.texts("order_by"), grammar, ("name",)),
        limit=body.limit("max_results", _DEFAULT_RESULTS, _MAX_RESULTS),
        cursor=body.optional_text("page_token") or None,
    )
    async with in_tenant(request) as tenant:
        found, token = await tenant.registry.search(query)
    return Page([views.registered_model(one) for one in found], token)


async def rename(request: Request) -> Found:
    body: Fields = request.body
    name = names.registered_model_name(body)
    new_name = names.registered_model_name(body, "new_name")
    async with in_tenant(request) as tenant:
        await find(tenant, name)
        try:
            return _found(await tenant.registry.rename(name, new_name))
        except Conflict:
            raise _taken(new_name) from None


async def update(request: Request) -> Found:
    body: Fields = request.body
    name = names.registered_model_name(body)
    description = body.optional_text("description")
    async with in_tenant(request) as tenant:
        await find(tenant, name)
        return _found(await tenant.registry.describe(name, description))


async def delete(request: Request) -> Nothing:
    """With its versions; the files stay with their runs and models."""
    name = names.registered_model_name(request.body)
    async with in_tenant(request) as tenant:
        await find(tenant, name)
        await tenant.registry.delete(name)
    return Nothing()


async def latest_versions(request: Request) -> Versions:
    """The newest version of each stage, or of those asked for."""
    body: Fields = request.body
    name = names.registered_model_name(body)
    stages = {stage_of(stage) for stage in body.texts("stages")} or set(STAGES)
    async with in_tenant(request) as tenant:
        found = (await find(tenant, name)).latest
    return Versions([views.model_version(one) for one in found if one.stage in stages])


async def set_tag(request: Request) -> Nothing:
    body: Fields = request.body
    name = names.registered_model_name(body)
    tags = names.registry_tags([(body.text("key"), body.optional_text("value") or "")])
    async with in_tenant(request) as tenant:
        await find(tenant, name)
        for key, value in tags.items():
            await tenant.registry.set_tag(name, key, value)
    return Nothing()


async def delete_tag(request: Request) -> Nothing:
    """None of that name is fine."""
    body: Fields = request.body
    name, key = names.registered_model_name(body), body.text("key")
    async with in_tenant(request) as tenant:
        await find(tenant, name)
        await tenant.registry.delete_tag(name, key)
    return Nothing()


async def set_alias(request: Request) -> Nothing:
    body: Fields = request.body
    name, alias, version = names.registered_model_name(body), _alias(body), version_of(body)
    if _RESERVED_ALIAS.fullmatch(alias):
        raise Refused(INVALID, f"Version alias name '{alias}' is reserved.")
    async with in_tenant(request) as tenant:
        await find_version(tenant, name, version)
        await tenant.registry.set_alias(name, alias, version)
    return Nothing()


async def delete_alias(request: Request) -> Nothing:
    """None of that name is fine."""
    body: Fields = request.body
    name, alias = names.registered_model_name(body), _alias(body)
    async with in_tenant(request) as tenant:
        await find(tenant, name)
        await tenant.registry.delete_alias(name, alias)
    return Nothing()


async def get_by_alias(request: Request) -> FoundVersion:
    """``latest`` is the newest version of all."""
    body: Fields = request.body
    name, alias = names.registered_model_name(body), _alias(body)
    async with in_tenant(request) as tenant:
        return FoundVersion(views.model_version(await aliased(tenant, name, alias)))


# --- what versions share --------------------------------------------------------------------------


async def find(tenant: Tenant, name: str) -> RegisteredModel:
    """Raises Refused where there is none."""
    try:
        return await tenant.registry.get(name)
    except NotFound:
        raise Refused(MISSING, f"Registered Model with name={name} not found") from None


async def find_version(tenant: Tenant, name: str, version: int) -> ModelVersion:
    """Raises Refused where there is none."""
    try:
        return await tenant.registry.version(name, version)
    except NotFound:
        message = f"Model Version (name={name}, version={version}) not found"
        raise Refused(MISSING, message) from None


async def aliased(tenant: Tenant, name: str, alias: str) -> ModelVersion:
    """Raises Refused where the model or the alias is unknown."""
    model = await find(tenant, name)
    if alias.lower() == "latest":
        return newest(model)
    found = await tenant.registry.aliased(name, alias)
    if found is None:
        raise Refused(INVALID, f"Registered model alias {alias} not found.")
    return found


def newest(model: RegisteredModel) -> ModelVersion:
    """Raises Refused where it has no version."""
    if not model.latest:
        raise Refused(MISSING, f"Latest version not found for model {model.name}.")
    return max(model.latest, key=lambda one: one.version)


def version_of(body: Fields) -> int:
    """The number of a version, which the protocol writes as a text."""
    if isinstance(given := body.given("version"), int) and not isinstance(given, bool):
        return given
    text = body.text("version")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Refused(INVALID, f"Parameter 'version' must be an integer, got '{text[:100]}'.")
    return int(text)


def stage_of(text: str) -> str:
    """A stage as it is kept.  Raises Refused."""
    for stage in STAGES:
        if stage.lower() == text.lower():
            return stage
    raise Refused(
        INVALID,
        f"Invalid Model Version stage: {text[:100]}. Value must be one of {', '.join(STAGES)}.",
    )


def _alias(body: Fields) -> str:
    alias = body.text("alias")
    if len(alias) > MAX_ALIAS_CHARS or not _ALIAS.fullmatch(alias):
        raise Refused(
            INVALID,
            f"Invalid alias name: '{alias[:300]}'. Alias names may only contain alphanumerics,"
            f" underscores (_) and dashes (-), and have at most {MAX_ALIAS_CHARS} characters.",
        )
    return alias


def _found(model: RegisteredModel) -> Found:
    return Found(views.registered_model(model))


def _taken_by(existing: RegisteredModel, tags: Mapping[str, str]) -> Refused:
    """MLflow keeps prompts and models under the same names, and says which of them it met."""
    old, new = _kind(existing.tags), _kind(tags)
    if old == new:
        return Refused(EXISTS, f"{new} (name={existing.name}) already exists.")
    return Refused(
        EXISTS,
        f"Tried to create a {new.lower()} with name '{existing.name}', but the name is already"
        f" taken by a {old.lower()}.",
    )


def _kind(tags: Mapping[str, str]) -> str:
    return "Prompt" if filters.is_prompt(tags) else "Registered Model"


def _taken(name: str) -> Refused:
    return Refused(EXISTS, f"Registered Model (name={name}) already exists.")
