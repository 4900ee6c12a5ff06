"""What the server can be told: one list, units in the names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from stepwell import wire


class Settings(Struct, frozen=True, kw_only=True):
    """Each field is a setting of ``stepwell serve``; its description is the option's help."""

    data: Annotated[Path, Meta(description="folder that holds everything")] = Path("stepwell-data")
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on")] = wire.DEFAULT_PORT
    keep_deleted_s: Annotated[
        int,
        Meta(ge=0, description="seconds after which what was deleted can no longer be restored"),
    ] = 30 * 24 * 3600
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="further names that the Host header may carry; *.example.org and * work"),
    ] = ()
    root_path: Annotated[str, Meta(description="path prefix behind a proxy")] = ""
    no_auth: Annotated[
        bool, Meta(description="listen beyond loopback although there are no tokens")
    ] = False
