"""Whether the server lives, whether it can write, and what it has counted."""

from __future__ import annotations

import asyncio

from stepwell_tracker import schema
from stepwell_tracker.http import Call, Reply, Request, Scope, as_json
from stepwell_tracker.observe import MEDIA, exposition
from stepwell_tracker.probe import free_bytes


async def get_health(request: Request) -> schema.Health:
    """Whether the server lives: from its first answer on, every call works."""
    return schema.Health()


async def get_ready(request: Request) -> schema.Readiness:
    """Whether the server can write: 503 when its disk is full or does not answer."""
    await request.server.probe.check(request.server.settings.data)
    return schema.Readiness()


async def get_metrics(request: Request) -> Reply:
    """What the server has counted, for Prometheus."""
    server = request.server
    free = await asyncio.to_thread(free_bytes, server.settings.data)
    text = exposition(server.store, server.observations, len(server.streams), free)
    return Reply(text.encode(), media=MEDIA)


CALLS = (
    Call("GET", "/health", get_health, scope=Scope.SERVER, answer=as_json(schema.Health)),
    Call(
        "GET", "/ready", get_ready, scope=Scope.SERVER, answer=as_json(schema.Readiness),
        errors=(503,),
    ),
    Call("GET", "/metrics", get_metrics, scope=Scope.SERVER, answer={"text/plain": None}),
)  # fmt: skip
