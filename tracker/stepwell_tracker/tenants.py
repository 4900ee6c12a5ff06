"""Which tenants there are."""

from __future__ import annotations

from stepwell import wire
from stepwell_tracker import schema
from stepwell_tracker.http import Call, Request, Scope, as_json


async def list_tenants(request: Request) -> schema.Tenants:
    """List the tenants of this server, by name."""
    names = {*request.tenancy.names(), wire.DEFAULT_TENANT}
    return schema.Tenants(sorted(names))


CALLS = (
    Call(
        "GET", "/api/v1/tenants", list_tenants, scope=Scope.SERVER, answer=as_json(schema.Tenants),
    ),
)  # fmt: skip
