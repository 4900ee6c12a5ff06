"""Series: which a run has, the points of one, and many at once for charts."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from stepwell import wire
from stepwell_storage.errors import Invalid, LimitExceeded
from stepwell_storage.points import Points
from stepwell_storage.tenant import Tenant
from stepwell_tracker import views
from stepwell_tracker.histories import Found, history_reply, series_reply
from stepwell_tracker.http import Call, Reply, Request, Scope, as_json
from stepwell_tracker.labels import check_keys, storable
from stepwell_tracker.runs import BASE, RUN
from stepwell_tracker.tenancy import parse_run_id


class SeriesQuery(Struct):
    prefix: Annotated[str, Meta(description="only keys that begin with this")] = ""
    limit: Annotated[int, Meta(ge=1, le=wire.MAX_SERIES_PER_REQUEST)] = 1_000
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


async def list_series(request: Request) -> wire.SeriesPage:
    """List a run's series, by key: sizes, last points and extremes."""
    query: SeriesQuery = request.query
    page = await request.tenant.series(
        request.run_id,
        prefix=storable("prefix", query.prefix),
        cursor=query.cursor,
        limit=query.limit,
    )
    series = [views.series(stats) for stats in page.series]
    return wire.SeriesPage(request.run_id, series, page.total, page.next_cursor)


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
        charts = await request.tenant.charts(
            [request.run_id], [key],
            max_points=query.max_points, start_step=query.start_step, end_step=query.end_step,
        )  # fmt: skip
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
    body: wire.SeriesRequest = request.body
    keys = list(dict.fromkeys(body.keys))
    check_keys(keys, lambda key: f"keys[{body.keys.index(key)}]")
    run_ids = list(dict.fromkeys(parse_run_id(text) for text in body.run_ids))
    if len(run_ids) * len(keys) > wire.MAX_SERIES_PER_REQUEST:
        raise LimitExceeded(
            "keys", f"at most {wire.MAX_SERIES_PER_REQUEST} pairs of a run and a key at once"
        )
    found: list[Found] = []
    if run_ids:
        async with request.tenancy.runs(request.headers, run_ids) as tenant:
            found = await _read(tenant, run_ids, keys, body)
    return await series_reply(found, as_columns=request.accepts(wire.COLUMNS))


async def _read(
    tenant: Tenant, run_ids: list[str], keys: list[str], body: wire.SeriesRequest
) -> list[Found]:
    """One run after the other, so that the limit is met before the memory is spent."""
    found: list[Found] = []
    left = wire.MAX_POINTS_PER_REPLY
    for run_id in run_ids:
        if body.max_points is None:
            read = await _whole(tenant, run_id, keys, body, left)
        else:
            charts = await tenant.charts(
                [run_id], keys,
                max_points=body.max_points, start_step=body.start_step, end_step=body.end_step,
            )  # fmt: skip
            read = [Found.of(chart) for chart in charts]
        found += read
        left -= sum(len(one.points) for one in read)
        _check_left(left)
    return found


async def _whole(
    tenant: Tenant, run_id: str, keys: list[str], body: wire.SeriesRequest, left: int
) -> list[Found]:
    found = []
    for key in keys:
        page = await tenant.history(
            run_id, key,
            start_step=body.start_step, end_step=body.end_step, limit=left + 1,
        )  # fmt: skip
        left -= len(page.points)
        _check_left(left)
        if len(page.points):
            found.append(Found(run_id, key, page.points))
    return found


def _check_left(left: int) -> None:
    if left < 0:
        raise LimitExceeded(
            "max_points",
            f"this is more than {wire.MAX_POINTS_PER_REPLY} points: ask for fewer series or"
            " points, or page through the histories",
        )


CALLS = (
    Call(
        "POST", BASE + "/series", get_series, scope=Scope.LATER, errors=(404,),
        body=as_json(wire.SeriesRequest),
        answer={wire.JSON: wire.SeriesReply, wire.COLUMNS: wire.ColumnarReply},
    ),
    Call(
        "GET", RUN + "/metrics", list_series, scope=Scope.RUN, query=SeriesQuery,
        answer=as_json(wire.SeriesPage),
    ),
    Call(
        "GET", RUN + "/metrics/{key:path}", get_history, scope=Scope.RUN, query=HistoryQuery,
        answer={wire.JSON: wire.History, wire.COLUMNS: wire.ColumnarReply},
    ),
)  # fmt: skip
