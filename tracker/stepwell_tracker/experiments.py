"""Experiments: create, list, get, change, delete, restore."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct
from msgspec.structs import replace

from stepwell import wire
from stepwell_storage.clock import now_ms
from stepwell_storage.errors import NotFound
from stepwell_storage.records import ExperimentChange
from stepwell_tracker import schema, views
from stepwell_tracker.http import Call, Reply, Request, Scope, as_json, json_reply
from stepwell_tracker.labels import changes, storable, texts

BASE = "/api/v1/experiments"
ONE = BASE + "/{experiment_id}"


class ExperimentsQuery(Struct):
    name: Annotated[str | None, Meta(description="only the experiment of exactly this name")] = None
    lifecycle: Literal["active", "deleted", "all"] = "active"
    limit: Annotated[int, Meta(ge=1, le=wire.MAX_RUNS_PER_PAGE)] = 50
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    cursor: Annotated[str | None, Meta(description="next_cursor of the page before")] = None


class DeleteQuery(Struct):
    purge: Annotated[
        bool, Meta(description="for good, at once: it cannot be restored, its name is free again")
    ] = False


async def create_experiment(request: Request) -> Reply:
    """Create an experiment."""
    body: schema.CreateExperiment = request.body
    name = storable("name", body.name)
    description = storable("description", body.description)
    tags = texts("tags", body.tags)
    async with request.tenancy.tenant(request.headers, create=True) as tenant:
        made = await tenant.create_experiment(name, description=description, tags=tags)
    return json_reply(views.experiment(made), status=201)


async def list_experiments(request: Request) -> wire.ExperimentPage:
    """List experiments, by number."""
    query: ExperimentsQuery = request.query
    if query.name is not None:
        return await _by_name(request, query)
    page = await request.tenant.experiments(
        lifecycle=query.lifecycle, limit=query.limit, offset=query.offset, cursor=query.cursor
    )
    return wire.ExperimentPage(
        experiments=[views.experiment(one) for one in page.experiments],
        total=page.total,
        limit=query.limit,
        offset=query.offset,
        next_cursor=page.next_cursor,
    )


async def _by_name(request: Request, query: ExperimentsQuery) -> wire.ExperimentPage:
    assert query.name is not None
    try:
        found = [await request.tenant.experiment_by_name(storable("name", query.name))]
    except NotFound:
        found = []
    matching = [one for one in found if query.lifecycle in (one.lifecycle, "all")]
    shown = matching[query.offset :]
    return wire.ExperimentPage(
        experiments=[views.experiment(one) for one in shown],
        total=len(matching),
        limit=query.limit,
        offset=query.offset,
    )


async def get_experiment(request: Request) -> wire.Experiment:
    """Get an experiment."""
    return views.experiment(await request.tenant.experiment(request.experiment_id))


async def update_experiment(request: Request) -> wire.Experiment:
    """Change an experiment's name, description or tags, where its tags are as expected."""
    body: schema.UpdateExperiment = request.body
    return await _change(
        request,
        ExperimentChange(
            name=None if body.name is UNSET else storable("name", body.name),
            description=(
                None if body.description is UNSET else storable("description", body.description)
            ),
            tags=changes(body.tags),
            expected_tags=changes(body.if_tags, "if_tags"),
        ),
    )


async def delete_experiment(request: Request) -> wire.Experiment:
    """Delete an experiment and its runs; they can be restored, unless purged: deleted for good."""
    query: DeleteQuery = request.query
    if not query.purge:
        return await _change(request, ExperimentChange(lifecycle="deleted"))
    gone = views.experiment(await request.tenant.experiment(request.experiment_id))
    async with request.tenancy.tenant(request.headers, create=True) as tenant:
        await tenant.purges.experiment(request.experiment_id)
    return replace(gone, lifecycle="deleted", run_count=0)


async def purge_deleted(request: Request) -> schema.Purged:
    """Delete for good what was deleted before; its bytes come back in the minutes after."""
    body: schema.PurgeDeleted = request.body
    if not request.tenancy.exists(request.headers):
        return schema.Purged(0, 0, 0)
    found = await request.tenant.purges.expired(now_ms() - body.older_than_s * 1000)
    return schema.Purged(found.runs, found.experiments, found.models)


async def restore_experiment(request: Request) -> wire.Experiment:
    """Restore a deleted experiment and all its runs."""
    return await _change(request, ExperimentChange(lifecycle="active"))


async def _change(request: Request, change: ExperimentChange) -> wire.Experiment:
    """The tenant may be one that is not there yet, with Default to change: now it is made."""
    async with request.tenancy.tenant(request.headers, create=True) as tenant:
        changed = await tenant.change_experiment(request.experiment_id, change)
    return views.experiment(changed)


_ANSWER = as_json(wire.Experiment)
CALLS = (
    Call(
        "POST", BASE, create_experiment, scope=Scope.LATER, statuses=(201,), errors=(409,),
        body=as_json(schema.CreateExperiment), answer=_ANSWER,
    ),
    Call(
        "GET", BASE, list_experiments, query=ExperimentsQuery,
        answer=as_json(wire.ExperimentPage),
    ),
    Call(
        "POST", BASE + "/gc", purge_deleted, body=as_json(schema.PurgeDeleted),
        answer=as_json(schema.Purged),
    ),
    Call("GET", ONE, get_experiment, scope=Scope.EXPERIMENT, answer=_ANSWER),
    Call(
        "PATCH", ONE, update_experiment, scope=Scope.EXPERIMENT, errors=(409,),
        body=as_json(schema.UpdateExperiment), answer=_ANSWER,
    ),
    Call(
        "DELETE", ONE, delete_experiment, scope=Scope.EXPERIMENT, query=DeleteQuery,
        errors=(409,), answer=_ANSWER,
    ),
    Call(
        "POST", ONE + "/restore", restore_experiment, scope=Scope.EXPERIMENT, errors=(409,),
        answer=_ANSWER,
    ),
)  # fmt: skip
