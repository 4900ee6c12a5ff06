"""What the server says of itself to MLflow's clients."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from stepwell_tracker.http import Reply, Request

VERSION: Final = "3.17.2"
"""Of the protocol: clients compare it with versions of MLflow."""


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


async def server_info(request: Request) -> ServerInfo:
    return ServerInfo()


async def version(request: Request) -> Reply:
    return Reply(VERSION.encode(), media="text/plain; charset=utf-8")
