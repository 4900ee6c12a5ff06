"""Which tenant, experiment and run a call is about.

MLflow's clients say their workspace with every call, so a call without one is about ``default``,
whatever tenant a run id in it names: ids of other tenants are not found.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from stepwell import wire
from stepwell_storage.errors import NotFound
from stepwell_storage.records import Experiment
from stepwell_storage.tenant import Tenant
from stepwell_tracker.http import Request
from stepwell_tracker.mlflow.errors import (
    INVALID,
    Refused,
    deleted_experiment,
    no_experiment,
    no_run,
)
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.tenancy import RunLease

_RUN_ID: Final = re.compile(r"[a-zA-Z0-9][\w-]{0,255}")
_DIGITS: Final = re.compile(r"[0-9]{1,40}", re.ASCII)
_INT64_MAX: Final = 2**63 - 1


def tenant_name(request: Request) -> str:
    return request.tenancy.name(request.headers) or wire.DEFAULT_TENANT


def in_tenant(request: Request, *, create: bool = False) -> AbstractAsyncContextManager[Tenant]:
    """The tenant of the headers, ``default`` without; an unknown one is empty."""
    return request.tenancy.tenant(request.headers, create=create)


def run_id_of(fields: Fields) -> str:
    """``run_id``, or ``run_uuid`` as older clients have it."""
    return (
        fields.optional_text("run_id") or fields.optional_text("run_uuid") or fields.text("run_id")
    )


@asynccontextmanager
async def in_run(request: Request, text: str) -> AsyncIterator[tuple[Tenant, str]]:
    """The tenant that has a run, and the run's id.  Raises Refused where it has none."""
    if not _RUN_ID.fullmatch(text):
        raise Refused(INVALID, f"Invalid run ID: '{text[:300]}'")
    lease = RunLease(request.tenancy, tenant_name(request), text)
    try:
        found = await lease.__aenter__()
    except NotFound:
        raise no_run(text) from None
    try:
        yield found
    finally:
        await lease.__aexit__(None, None, None)


def experiment_number(text: str) -> int:
    """Raises Refused for what is no decimal number; one that no experiment can have is -1."""
    if not _DIGITS.fullmatch(text):
        raise Refused(
            INVALID,
            f"Invalid experiment ID: '{text[:300]}'. Experiment ID must be a valid integer.",
        )
    number = int(text)
    return number if number <= _INT64_MAX else -1


async def experiment_of(tenant: Tenant, text: str, *, active: bool = False) -> Experiment:
    """An experiment by its number.  Raises Refused; also where it is deleted, if ``active``."""
    try:
        found = await tenant.experiment_by_number(experiment_number(text))
    except NotFound:
        raise no_experiment(text) from None
    if active and found.lifecycle == "deleted":
        raise deleted_experiment(text)
    return found
