"""What the server says of itself to MLflow's clients, and its workspaces: the tenants."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct, field

from stepwell import wire
from stepwell_tracker.http import Reply, Request, json_reply
from stepwell_tracker.mlflow.errors import EXISTS, INVALID, MISSING, Refused

VERSION: Final = "3.17.2"
"""Of the protocol: clients compare it with versions of MLflow."""
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])")
_RESERVED: Final = frozenset(("workspaces", "api", "ajax-api", "static-files"))


class ServerInfo(Struct):
    store_type: str = "SqlStore"
    workspaces_enabled: bool = True
    trace_archival_enabled: bool = False
    multipart_uploads_enabled: bool = False
    multipart_downloads_enabled: bool = False
    presigned_upload_run_id_supported: bool = False
    presigned_upload_model_id_supported: bool = False
    artifacts_presigned_only: bool = False
    artifact_serving_enabled: bool = True
    features_enabled: dict[str, bool] = field(default_factory=lambda: {"gateway": False})


class Workspace(Struct):
    name: str


class Workspaces(Struct):
    workspaces: list[Workspace]


class FoundWorkspace(Struct):
    workspace: Workspace


async def server_info(request: Request) -> ServerInfo:
    return ServerInfo()


async def version(request: Request) -> Reply:
    return Reply(VERSION.encode(), media="text/plain; charset=utf-8")


async def list_workspaces(request: Request) -> Workspaces:
    names = sorted({*request.server.store.names(), wire.DEFAULT_TENANT})
    return Workspaces([Workspace(name) for name in names])


async def get_workspace(request: Request) -> FoundWorkspace:
    return FoundWorkspace(Workspace(_known(request)))


async def create_workspace(request: Request) -> Reply:
    name = request.body.text("name")
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise Refused(
            INVALID,
            f"Invalid value \"{name[:100]}\" for parameter 'name' supplied: a workspace has 2 to 63"
            " lower-case letters, digits and dashes, a letter or digit first and last",
        )
    if request.server.store.exists(name) or name == wire.DEFAULT_TENANT:
        raise Refused(EXISTS, f"Workspace '{name}' already exists.")
    async with request.server.store.lease(name, create=True) as tenant:
        return json_reply(FoundWorkspace(Workspace(tenant.name)), status=201)


def _known(request: Request) -> str:
    name = request.path["name"].lower()
    if name != wire.DEFAULT_TENANT and not request.server.store.exists(name):
        raise Refused(MISSING, f"Workspace '{name[:100]}' not found.")
    return name
