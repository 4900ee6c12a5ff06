"""Series: which a run has, the points of one, and many at once for charts."""

from __future__ import annotations

from itertools import product
from typing import Annotated

from msgspec import Meta, Struct

from stepwell import wire
from stepwell_storage.errors import Invalid, LimitExceeded
from stepwell_storage.points import Points
from stepwell_storage.series import ChartQuery, too_many
from stepwell_storage.shared import Steps
from stepwell_storage.tenant import Tenant
from stepwell_tracker import schema, views
from stepwell_tracker.histories import Found, history_reply, series_reply
from stepwell_tracker.http import Call, Reply, Request, Scope, as_json
from stepwell_tracker.labels import check_keys, storable
from stepwell_tracker.runs import BASE, RUN
from stepwell_tracker.tenancy import parse_run_id


class SeriesQuery(Struct):
    prefix: Annotated[str, Meta(description="only keys that begin with this")] = ""
    limit: Annotated[int, Meta(ge=1, le=schema.MAX_SERIES_PER_REQUEST)] = 1_000
    cursor: Annotated[str | None, Meta(description="next_cursor of the page before")] = None


class HistoryQuery(Struct):
    start_step: Annotated[wire.Millis | None, Meta(description="the first step wanted")] = None
    end_step: Annotated[wire.Millis | None, Meta(description="the last step wanted")] = None
    max_points: Annotated[
        Annotated[int, Meta(ge=4, le=wire.MAX_POINTS_PER_PAGE)] | None,
        Meta(description="ask for buckets that keep every extreme, if there are more points"),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=wire.MAX_POINTS_PER_PAGE)] = 10_000
    cursor: Annotated[str | None, Meta(description="next_cursor of the page before")] = None


async def list_series(request: Request) -> schema.SeriesPage:
    """List a run's series, by key: sizes, last points and extremes."""
    query: SeriesQuery = request.query
    page = await request.tenant.series(
        request.run_id,
        prefix=storable("prefix", query.prefix),
        cursor=query.cursor,
        limit=query.limit,
    )
    series = [views.series(stats) for stats in page.series]
    return schema.SeriesPage(request.run_id, series, page.total, page.next_cursor)


async def list_keys(request: Request) -> schema.MetricKeys:
    """List the names of all of a run's series."""
    return schema.MetricKeys(request.run_id, await request.tenant.metric_keys(request.run_id))


async def get_history(request: Request) -> Reply:
    """Get the points of one series, in order."""
    query: HistoryQuery = request.query
    key = request.path["key"]
    if not request.scope["path"].endswith(key):  # the router's pattern drops a last newline
        raise Invalid("key", "a key has no control characters")
    check_keys([key], lambda key: "key")
    as_columns = request.accepts(wire.COLUMNS)
    if query.max_points is not None:
        if query.cursor is not None:
            raise Invalid("cursor", "max_points answers in one page: leave the cursor out")
        steps = Steps.of(query.start_step, query.end_step)
        chart = ChartQuery([key], steps, query.max_points)
        charts = await request.tenant.charts([request.run_id], chart)
        found = (
            Found.of(charts[0])
            if charts
            else Found(request.run_id, key, Points.empty(), None, True)
        )
    else:
        page = await request.tenant.history(
            request.run_id, key,
            start_step=query.start_step, end_step=query.end_step,
            cursor=query.cursor, limit=query.limit,
        )  # fmt: skip
        found = Found(request.run_id, key, page.points, page.next_cursor)
    return await history_reply(found, as_columns=as_columns)


async def get_series(request: Request) -> Reply:
    """Get many series at once: every pair of a run and a key that has points."""
    body: schema.SeriesRequest = request.body
    keys = list(dict.fromkeys(body.keys))
    check_keys(keys, lambda key: f"keys[{body.keys.index(key)}]")
    run_ids = list(dict.fromkeys(parse_run_id(text) for text in body.run_ids))
    if len(run_ids) * len(keys) > schema.MAX_SERIES_PER_REQUEST:
        raise LimitExceeded(
            "keys", f"at most {schema.MAX_SERIES_PER_REQUEST} pairs of a run and a key at once"
        )
    found: list[Found] = []
    if run_ids:
        async with request.tenancy.runs(request.headers, run_ids) as tenant:
            found = await _read(tenant, run_ids, keys, body)
    return await series_reply(found, as_columns=request.accepts(wire.COLUMNS))


async def _read(
    tenant: Tenant, run_ids: list[str], keys: list[str], body: schema.SeriesRequest
) -> list[Found]:
    if body.max_points is not None:
        steps = Steps.of(body.start_step, body.end_step)
        query = ChartQuery(keys, steps, body.max_points, schema.MAX_POINTS_PER_REPLY)
        return [Found.of(chart) for chart in await tenant.charts(run_ids, query)]
    found: list[Found] = []
    left = schema.MAX_POINTS_PER_REPLY
    for run_id, key in product(run_ids, keys):  # one by one: refused before memory is spent
        page = await tenant.history(
            run_id, key,
            start_step=body.start_step, end_step=body.end_step, limit=left + 1,
        )  # fmt: skip
        left -= len(page.points)
        if left < 0:
            raise too_many(schema.MAX_POINTS_PER_REPLY)
        if len(page.points):
            found.append(Found(run_id, key, page.points))
    return found


CALLS = (
    Call(
        "POST", BASE + "/series", get_series, scope=Scope.LATER, errors=(404,),
        body=as_json(schema.SeriesRequest),
        answer={wire.JSON: schema.SeriesReply, wire.COLUMNS: wire.ColumnarReply},
    ),
    Call(
        "GET", RUN + "/metrics", list_series, scope=Scope.RUN, query=SeriesQuery,
        answer=as_json(schema.SeriesPage),
    ),
    Call(
        "GET", RUN + "/metric-keys", list_keys, scope=Scope.RUN, answer=as_json(schema.MetricKeys),
    ),
    Call(
        "GET", RUN + "/metrics/{key:path}", get_history, scope=Scope.RUN, query=HistoryQuery,
        answer={wire.JSON: schema.History, wire.COLUMNS: wire.ColumnarReply},
    ),
)  # fmt: skip
