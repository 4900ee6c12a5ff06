"""MLflow's workspaces, which are this server's tenants: listed, made, described, removed."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from stepwell import wire
from stepwell_storage.store import Store
from stepwell_tracker.http import Reply, Request, json_reply
from stepwell_tracker.mlflow.errors import EXISTS, INVALID, MISSING, Refused
from stepwell_tracker.mlflow.fields import Fields

_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])")
_RESERVED: Final = frozenset(("workspaces", "api", "ajax-api", "static-files"))
_MODES: Final = ("SET_DEFAULT", "CASCADE", "RESTRICT")
_NOTE: Final = "description"


class Workspace(Struct, omit_defaults=True):
    name: str
    description: str | None = None


class Listed(Struct):
    workspaces: list[Workspace]


class Found(Struct):
    workspace: Workspace


async def find_all(request: Request) -> Listed:
    store = request.server.store
    names = sorted({*store.names(), wire.DEFAULT_TENANT})
    return Listed([await _workspace(store, name) for name in names])


async def get(request: Request) -> Found:
    return Found(await _workspace(request.server.store, _known(request)))


async def create(request: Request) -> Reply:
    body: Fields = request.body
    name, description = body.text("name"), body.optional_text(_NOTE)
    if name == wire.DEFAULT_TENANT:
        raise Refused(INVALID, f"The '{name}' workspace is reserved and cannot be created")
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise Refused(
            INVALID,
            f"Invalid value \"{name[:100]}\" for parameter 'name' supplied: a workspace has 2 to 63"
            " lower-case letters, digits and dashes, a letter or digit first and last",
        )
    _refuse_artifact_root(body)
    if request.server.store.exists(name):
        raise Refused(EXISTS, f"Workspace '{name}' already exists.")
    async with request.server.store.lease(name, create=True) as tenant:
        if description is not None:
            await tenant.set_note(_NOTE, description)
    return json_reply(Found(Workspace(name, description)), status=201)


async def update(request: Request) -> Found:
    body: Fields = request.body
    name, description = _known(request), body.optional_text(_NOTE)
    _refuse_artifact_root(body)
    if description is None:
        raise Refused(INVALID, "Workspace update must have at least one key: its description")
    async with request.server.store.lease(name, create=True) as tenant:
        await tenant.set_note(_NOTE, description)
    return Found(Workspace(name, description))


async def delete(request: Request) -> Reply:
    """``RESTRICT`` (the default) refuses one that holds anything, ``CASCADE`` removes all of it.

    ``SET_DEFAULT`` would move what it holds to the default workspace.  Here a run's id names its
    tenant, so that only an empty one can be removed so.
    """
    name = request.path["name"].lower()
    if name == wire.DEFAULT_TENANT:
        raise Refused(INVALID, f"The '{name}' workspace is reserved and cannot be deleted")
    mode = Fields.of_query(request.scope["query_string"]).optional_text("mode") or "RESTRICT"
    if mode not in _MODES:
        known = ", ".join(_MODES)
        raise Refused(INVALID, f"Invalid deletion mode '{mode[:100]}'. Must be one of: {known}")
    name = _known(request)
    if mode != "CASCADE":
        async with request.server.store.lease(name, create=False) as tenant:
            if not await tenant.is_empty():
                raise Refused(INVALID, _not_empty(name, mode))
    await request.server.store.remove(name)
    return Reply(b"", status=204)


def _not_empty(name: str, mode: str) -> str:
    start = f"Cannot delete workspace '{name}': it still contains resources."
    if mode == "RESTRICT":
        return f"{start} Remove them first, or delete with mode=CASCADE."
    return f"{start} They cannot move to another workspace, as their ids name this one."


async def _workspace(store: Store, name: str) -> Workspace:
    return Workspace(name, await store.note_of(name, _NOTE))


def _known(request: Request) -> str:
    name = request.path["name"].lower()
    if name != wire.DEFAULT_TENANT and not request.server.store.exists(name):
        raise Refused(MISSING, f"Workspace '{name[:100]}' not found.")
    return name


def _refuse_artifact_root(body: Fields) -> None:
    if body.optional_text("default_artifact_root"):
        raise body.refuse("default_artifact_root", "this server keeps a workspace's files itself")
