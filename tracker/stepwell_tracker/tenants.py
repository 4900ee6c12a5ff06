"""Which tenants there are."""

from __future__ import annotations

from stepwell import wire
from stepwell_tracker.http import Call, Request, Scope, as_json


async def list_tenants(request: Request) -> wire.Tenants:
    """List the tenants of this server, by name."""
    names = {*request.tenancy.names(), wire.DEFAULT_TENANT}
    return wire.Tenants(sorted(names))


CALLS = (
    Call(
        "GET", "/api/v1/tenants", list_tenants, scope=Scope.SERVER, answer=as_json(wire.Tenants),
    ),
)  # fmt: skip
