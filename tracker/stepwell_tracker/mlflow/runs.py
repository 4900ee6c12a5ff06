"""Runs: made, changed, found.  The name and the tag ``mlflow.runName`` are one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from msgspec import Struct

from stepwell import ids
from stepwell_storage.clock import now_ms
from stepwell_storage.errors import Conflict
from stepwell_storage.points import Points
from stepwell_storage.records import LastPoint, NewRun, Run, RunChange, RunQuery
from stepwell_storage.tenant import Tenant
from stepwell_tracker.http import Request
from stepwell_tracker.mlflow import filters, names, views
from stepwell_tracker.mlflow.errors import INVALID, Refused, deleted_experiment, deleted_run
from stepwell_tracker.mlflow.experiments import MAX_RESULTS, VIEWS, Nothing
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.ingest import split_tags
from stepwell_tracker.mlflow.scopes import (
    experiment_number,
    experiment_of,
    in_run,
    in_tenant,
    run_id_of,
    tenant_name,
)
from stepwell_tracker.nicknames import nickname

_DEFAULT_RESULTS: Final = 1_000
_STATUSES: Final[dict[str | int, str]] = {
    "RUNNING": "running", "SCHEDULED": "scheduled", "FINISHED": "finished", "FAILED": "failed",
    "KILLED": "killed", 1: "running", 2: "scheduled", 3: "finished", 4: "failed", 5: "killed",
}  # fmt: skip


class Found(Struct):
    run: views.Run


class Updated(Struct):
    run_info: views.RunInfo


class Page(Struct, omit_defaults=True):
    runs: list[views.Run] = []
    next_page_token: str | None = None


async def create(request: Request) -> Found:
    body: Fields = request.body
    text = body.text("experiment_id")
    tags = names.tags(dict(body.pairs("tags")), "tags")
    name = body.optional_text("run_name") or None
    tagged = tags.get(views.RUN_NAME)
    if name and tagged and name != tagged:
        raise Refused(
            INVALID,
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different"
            f" values (run_name='{name}', mlflow.runName='{tagged}').",
        )
    start = body.optional_integer("start_time")
    kept, change = split_tags(tags)
    new = NewRun(
        run_id=ids.new_run_id(tenant_name(request)),
        name=name or tagged or nickname(),
        start_time=start or now_ms(),
        description=(change.description if change else None) or "",
        user_id=body.optional_text("user_id"),
        parent_run_id=ids.parse_run_id(tags.get(views.PARENT, "")),
        tags=kept,
        fresh=True,
    )
    # A tenant is made by a write that can succeed: every tenant has experiment 0, and no other.
    async with in_tenant(request, create=experiment_number(text) == 0) as tenant:
        found = await experiment_of(tenant, text, active=True)
        try:
            run, _ = await tenant.create_run(replace(new, experiment_id=found.experiment_id))
        except Conflict:
            raise deleted_experiment(text) from None
        return Found(views.run(run, views.location(found)))


async def get(request: Request) -> Found:
    async with in_run(request, run_id_of(request.body)) as (tenant, run_id):
        run = await tenant.run(run_id, complete=True)
        return Found((await _shown(tenant, [run]))[0])


async def update(request: Request) -> Updated:
    body: Fields = request.body
    change = RunChange(
        status=body.choice("status", _STATUSES),
        end_time=body.optional_integer("end_time"),
        keeps_end_time=True,
        name=body.optional_text("run_name") or None,
    )
    if change.name is not None:
        change = replace(change, name=change.name[: names.MAX_TAG_CHARS])
    async with in_run(request, run_id_of(body)) as (tenant, run_id):
        try:
            run = await tenant.change_run(run_id, change)
        except Conflict:
            raise deleted_run(run_id) from None
        found = await tenant.experiment_by_number(run.experiment_number)
        return Updated(views.run_info(run, views.location(found)))


async def delete(request: Request) -> Nothing:
    return await _move(request, "deleted")


async def restore(request: Request) -> Nothing:
    return await _move(request, "active")


async def _move(request: Request, lifecycle: str) -> Nothing:
    async with in_run(request, run_id_of(request.body)) as (tenant, run_id):
        await tenant.change_run(run_id, RunChange(lifecycle=lifecycle))
    return Nothing()


async def search(request: Request) -> Page:
    body: Fields = request.body
    query = RunQuery(
        experiment_numbers=tuple(map(experiment_number, body.texts("experiment_ids"))),
        filter=filters.translated(body.optional_text("filter") or "", filters.RUNS),
        order_by=filters.run_order(body.texts("order_by")),
        lifecycle=body.choice("run_view_type", VIEWS) or "active",
        limit=body.limit("max_results", _DEFAULT_RESULTS, MAX_RESULTS),
        cursor=body.optional_text("page_token") or None,
        total=False,
        complete=True,
        params_as_text=True,
    )
    async with in_tenant(request) as tenant:
        page = await tenant.search(query)
        return Page(await _shown(tenant, page.runs), page.next_cursor)


async def _shown(tenant: Tenant, runs: Sequence[Run]) -> list[views.Run]:
    places: dict[int, str] = {}
    for run in runs:
        await _settle_nan(tenant, run)
        number = run.experiment_number
        if number not in places:
            places[number] = views.location(await tenant.experiment_by_number(number))
    return [views.run(run, places[run.experiment_number]) for run in runs]


async def _settle_nan(tenant: Tenant, run: Run) -> None:
    """Where the last point is NaN, another of its step and time may come after it: MLflow takes
    NaN for 0 there, and we for the greatest of all values."""
    for key, last in run.last_points.items():
        if last.value != last.value:
            points = await tenant.points(run.run_id, key, start_step=last.step, end_step=last.step)
            run.last_points[key] = _latest(points, last)


def _latest(points: Points, last: LastPoint) -> LastPoint:
    rivals = points.values[points.timestamps == last.timestamp].tolist()
    value = max(rivals, key=lambda rival: rival if rival == rival else 0.0, default=last.value)
    return last._replace(value=value)
