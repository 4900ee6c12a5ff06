"""The whole server on one screen: routes, middleware, exception handlers, lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from stepwell_storage.errors import Purged, StorageError
from stepwell_storage.migrations import refuse_newer
from stepwell_storage.store import Options, Store
from stepwell_tracker import (
    artifacts,
    console,
    events,
    experiments,
    health,
    openapi,
    pages,
    runs,
    series,
    sweeps,
    tenants,
)
from stepwell_tracker.config import Settings
from stepwell_tracker.errors import Gone, Refusal
from stepwell_tracker.gate import Gate
from stepwell_tracker.http import Call, Reply, Resource, Server, problem_reply
from stepwell_tracker.mlflow import api as mlflow
from stepwell_tracker.observe import Observed
from stepwell_tracker.tenancy import Tenancy

# In the order of routing: what is asked most stands first, fixed words before parameters.
CALLS: Sequence[Call] = (
    *runs.LOGGING,
    *series.CALLS,
    *events.CALLS,
    *sweeps.CALLS,
    *runs.CALLS,
    *artifacts.CALLS,
    *console.CALLS,
    *tenants.CALLS,
    *experiments.CALLS,
    *health.CALLS,
    *openapi.CALLS,
)

# Starlette answers by the nearest ancestor; the router raises HTTPException for an unknown path.
REFUSALS = (
    StorageError, Refusal, msgspec.MsgspecError, HTTPException, ClientDisconnect, Exception,
)  # fmt: skip


def create_app(settings: Settings) -> Starlette:
    """The ASGI application; its lifespan opens the store, and closes it.

    Raises stepwell_storage.errors.Unsupported on startup where the folder has another owner, or was
    written by a newer version.
    """
    server = Server(settings, CALLS)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(refuse_newer, settings.data / "tenants")
        server.store = await Store.open(
            settings.data, Options(keep_deleted_s=settings.keep_deleted_s)
        )
        server.tenancy = Tenancy(server.store)
        try:
            yield
        finally:
            await server.store.close()

    app = Starlette(
        routes=[
            *(
                Route(path, Resource(server, [call for call in CALLS if call.path == path]))
                for path in dict.fromkeys(call.path for call in CALLS)
            ),
            *mlflow.routes(server),
            *pages.routes(settings.root_path),
        ],
        middleware=[Middleware(Observed, server.observations), Middleware(Gate, settings)],
        exception_handlers=dict.fromkeys(REFUSALS, answer_problem),  # type: ignore[arg-type]
        lifespan=lifespan,
    )
    app.state.server = server
    app.router.redirect_slashes = False  # a key may end with a slash
    return app


async def answer_problem(request: Request, exc: Exception) -> Reply:
    if isinstance(exc, Purged) and _writes_to_run(request):
        # To its writer a deleted run is a conflict, so that late data is set aside, not repeated.
        exc = Gone(str(exc))
    return problem_reply(exc)


def _writes_to_run(request: Request) -> bool:
    """Not one that asks for many runs' series, which is a POST, too; nor one that deletes."""
    names_it = "run_id" in request.path_params or request.url.path.endswith(runs.BASE)
    return names_it and request.method in ("POST", "PUT", "PATCH")
