"""Runs: create, list, get, change, stop, end; and what a training script logs into them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct

from stepwell import ids, wire
from stepwell_storage.clock import now_ms
from stepwell_storage.errors import Invalid, NotFound
from stepwell_storage.records import Batch, NewRun, RunChange, RunPage, RunQuery
from stepwell_tracker import columns, schema, views
from stepwell_tracker.http import Call, Reply, Request, Scope, as_json, json_reply
from stepwell_tracker.labels import changes, storable, texts
from stepwell_tracker.nicknames import nickname
from stepwell_tracker.tenancy import contradicts, parse_experiment_id

BASE = "/api/v1/experiments/runs"
RUN = BASE + "/{run_id}"
_SHOWN_KEYS = 1_000
_FEW_RUNS = 100
"""More than that, of up to 200 keys each, are encoded off the event loop."""


class SearchQuery(Struct):
    """Which runs, in which order."""

    experiment_id: Annotated[list[str], Meta(description="runs of these experiments")] = []
    status: Annotated[list[wire.Status], Meta(description="runs of these statuses")] = []
    filter: Annotated[
        str, Meta(description="the filter language: metrics.loss < 0.3 and params.lr = '0.1'")
    ] = ""
    order_by: Annotated[
        list[str], Meta(description="metrics.loss ASC, say; by default the newest first")
    ] = []
    lifecycle: Literal["active", "deleted", "all"] = "active"


class RunsQuery(SearchQuery):
    limit: Annotated[int, Meta(ge=1, le=wire.MAX_RUNS_PER_PAGE)] = 50
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    cursor: Annotated[str | None, Meta(description="next_cursor of the page before")] = None
    total: Annotated[bool, Meta(description="whether to count all matching runs")] = True
    keys: Annotated[
        list[str] | None,
        Meta(description="metric and parameter keys to carry; without it 100 of each a run"),
    ] = None


class EndQuery(Struct):
    status: wire.EndStatus = "finished"
    end_time: Annotated[
        wire.Millis | None, Meta(description="the time of the end; without it now")
    ] = None


class DeleteQuery(Struct):
    purge: Annotated[
        bool, Meta(description="for good, at once: it cannot be restored, its id is used up")
    ] = False


async def log_batch(request: Request) -> wire.BatchReply:
    """Log points, parameters and tags at once: all of it is stored, or nothing."""
    body: schema.LogBatch | wire.ColumnarBatch = request.body
    if isinstance(body, schema.LogBatch):
        batch = columns.from_json(body, now_ms())
    else:
        batch = columns.from_columns(body)
    ack = await request.tenant.log(request.run_id, batch)
    accepted = wire.Accepted(len(batch.steps) // 8, len(body.params), len(body.tags))
    return wire.BatchReply(request.run_id, accepted, ack.stop_requested)


async def log_metrics(request: Request) -> schema.LogReply:
    """Log one step: one value for each of some metrics."""
    body: schema.LogMetrics = request.body
    ack = await request.tenant.log(request.run_id, columns.from_mapping(body, now_ms()))
    return schema.LogReply(request.run_id, len(body.metrics), ack.stop_requested)


async def log_params(request: Request) -> schema.LogReply:
    """Log parameters; one that is set stays, and repeating it changes nothing."""
    body: schema.LogParams = request.body
    batch = Batch(params=texts("params", body.params))
    ack = await request.tenant.log(request.run_id, batch)
    return schema.LogReply(request.run_id, len(body.params), ack.stop_requested)


async def create_run(request: Request) -> Reply:
    """Create a run; with a ``run_id`` that exists already, the answer is that run."""
    body: wire.CreateRun = request.body
    if body.experiment_id is not None and body.experiment_name is not None:
        raise Invalid("experiment_name", "give experiment_id or experiment_name, not both")
    tenant_name = request.tenancy.name(request.headers) or wire.DEFAULT_TENANT
    run_id = _own_id("run_id", body.run_id, tenant_name)
    new = NewRun(
        run_id=run_id or ids.new_run_id(tenant_name),
        fresh=run_id is None,
        name=storable("name", body.name) if body.name else nickname(),
        start_time=now_ms() if body.start_time is None else body.start_time,
        experiment_id=_experiment_id(body),
        experiment_name=_text("experiment_name", body.experiment_name),
        description=storable("description", body.description),
        user_id=_text("user_id", body.user_id),
        parent_run_id=_own_id("parent_run_id", body.parent_run_id, tenant_name),
        tags=texts("tags", body.tags),
        params=texts("params", body.params),
    )
    if new.experiment_id is not None and not request.tenancy.exists(request.headers):
        # Only a write that will succeed makes a tenant; an empty one has nothing but Default.
        async with request.tenancy.tenant(request.headers) as empty:
            await empty.experiment(new.experiment_id)
    async with request.tenancy.tenant(request.headers, create=True) as tenant:
        run, created = await tenant.create_run(new)
    return json_reply(views.run(run), status=201 if created else 200)


async def list_runs(request: Request) -> Reply:
    """List or search runs."""
    query: RunsQuery = request.query
    page = await request.tenant.search(
        replace(
            await searched(request),
            limit=query.limit,
            offset=query.offset,
            cursor=query.cursor,
            total=query.total,
            keys=None if query.keys is None else tuple(query.keys),
        )
    )
    if len(page.runs) <= _FEW_RUNS:
        return _page_reply(page, query)
    return await asyncio.to_thread(_page_reply, page, query)


async def searched(request: Request) -> RunQuery:
    """The search that a SearchQuery asks for.  Raises NotFound for an unknown experiment."""
    query: SearchQuery = request.query
    experiment_ids = tuple(parse_experiment_id(text) for text in query.experiment_id)
    for experiment_id in experiment_ids:
        await request.tenant.experiment(experiment_id)
    return RunQuery(
        experiment_ids=experiment_ids,
        statuses=tuple(query.status),
        filter=query.filter,
        order_by=tuple(query.order_by),
        lifecycle=query.lifecycle,
    )


def _page_reply(page: RunPage, query: RunsQuery) -> Reply:
    return json_reply(
        wire.RunPage(
            runs=[views.run(one) for one in page.runs],
            limit=query.limit,
            offset=query.offset,
            next_cursor=page.next_cursor,
            total=UNSET if page.total is None else page.total,
        )
    )


async def get_run(request: Request) -> wire.Run:
    """Get a run with its parameters, tags and last metric values."""
    return views.run(await request.tenant.run(request.run_id, max_keys=_SHOWN_KEYS))


async def update_run(request: Request) -> wire.Run:
    """Change a run's name, description, status, end time or tags; ``running`` resumes it."""
    body: schema.UpdateRun = request.body
    end_time = None if body.end_time is UNSET else body.end_time
    if body.status == "running" and end_time is not None:
        raise Invalid("end_time", "a run that goes on has no end time")
    change = RunChange(
        name=None if body.name is UNSET else storable("name", body.name),
        description=(
            None if body.description is UNSET else storable("description", body.description)
        ),
        status=None if body.status is UNSET else body.status,
        end_time=end_time,
        clear_end_time=body.end_time is None,
        tags=changes(body.tags),
    )
    return views.run(await request.tenant.change_run(request.run_id, change))


async def delete_run(request: Request) -> wire.Run:
    """Delete a run; it can be restored, unless it is purged: deleted for good."""
    query: DeleteQuery = request.query
    if not query.purge:
        change = RunChange(lifecycle="deleted")
        return views.run(await request.tenant.change_run(request.run_id, change))
    gone = await request.tenant.run(request.run_id)
    await request.tenant.purges.run(
        request.run_id
    )  # at once: a crash leaves it whole, or not at all
    return views.run(replace(gone, lifecycle="deleted"))


async def restore_run(request: Request) -> wire.Run:
    """Restore a deleted run."""
    change = RunChange(lifecycle="active")
    return views.run(await request.tenant.change_run(request.run_id, change))


async def stop_run(request: Request) -> schema.StopReply:
    """Ask a run to stop: the next acknowledgement to its writer says so."""
    run = await request.tenant.change_run(request.run_id, RunChange(stop_requested=True))
    return schema.StopReply("Run asked to stop", request.run_id, run.stop_requested)


async def end_run(request: Request) -> wire.EndReply:
    """End a run; repeating the same status changes nothing, another one wins."""
    query: EndQuery = request.query
    change = RunChange(status=query.status, end_time=query.end_time, ending=True)
    run = await request.tenant.change_run(request.run_id, change)
    seconds = views.duration_seconds(run)
    return wire.EndReply("Run ended", run.run_id, query.status, seconds or 0.0)


def _own_id(path: str, text: str | None, tenant: str) -> str | None:
    """A run id of the body, which must be of the same tenant.  Raises Invalid and NotFound."""
    if text is None:
        return None
    run_id = ids.parse_run_id(text)
    if run_id is None:
        raise Invalid(path, "run ids are 32 hex digits, or a UUID")
    if contradicts(tenant, run_id):
        raise NotFound(f"{path} {text} belongs to another tenant than {tenant}")
    return run_id


def _experiment_id(body: wire.CreateRun) -> str | None:
    return None if body.experiment_id is None else parse_experiment_id(body.experiment_id)


def _text(path: str, text: str | None) -> str | None:
    return None if text is None else storable(path, text)


_ANSWER = as_json(wire.Run)
LOGGING = (
    Call(
        "POST", RUN + "/log-batch", log_batch, scope=Scope.RUN, errors=(409,),
        body={wire.JSON: schema.LogBatch, wire.COLUMNS: wire.ColumnarBatch},
        answer=as_json(wire.BatchReply),
    ),
    Call(
        "POST", RUN + "/log-metrics", log_metrics, scope=Scope.RUN, errors=(409,),
        body=as_json(schema.LogMetrics), answer=as_json(schema.LogReply),
    ),
    Call(
        "POST", RUN + "/log-params", log_params, scope=Scope.RUN, errors=(409,),
        body=as_json(schema.LogParams), answer=as_json(schema.LogReply),
    ),
    Call(
        "POST", BASE, create_run, scope=Scope.LATER, statuses=(201, 200), errors=(404, 409),
        body=as_json(wire.CreateRun), answer=_ANSWER,
    ),
)  # fmt: skip
CALLS = (
    Call(
        "GET", BASE, list_runs, query=RunsQuery, errors=(404,), answer=as_json(wire.RunPage)
    ),
    Call(
        "POST", RUN + "/end", end_run, scope=Scope.RUN, query=EndQuery, errors=(409,),
        answer=as_json(wire.EndReply),
    ),
    Call(
        "POST", RUN + "/stop", stop_run, scope=Scope.RUN, errors=(409,),
        answer=as_json(schema.StopReply),
    ),
    Call("POST", RUN + "/restore", restore_run, scope=Scope.RUN, errors=(409,), answer=_ANSWER),
    Call("GET", RUN, get_run, scope=Scope.RUN, answer=_ANSWER),
    Call(
        "PATCH", RUN, update_run, scope=Scope.RUN, errors=(409,),
        body=as_json(schema.UpdateRun), answer=_ANSWER,
    ),
    Call(
        "DELETE", RUN, delete_run, scope=Scope.RUN, query=DeleteQuery, errors=(409,),
        answer=_ANSWER,
    ),
)  # fmt: skip
