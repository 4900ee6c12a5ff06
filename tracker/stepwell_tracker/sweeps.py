"""Many runs as columns, for charts of a whole sweep."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated

import msgspec
from msgspec import Meta

from stepwell import wire
from stepwell_storage.sweeps import Numbers, Sweep, Texts
from stepwell_tracker import schema
from stepwell_tracker.http import Call, Reply, Request
from stepwell_tracker.runs import BASE, SearchQuery, searched

_pack = msgspec.msgpack.Encoder().encode


class SweepQuery(SearchQuery):
    limit: Annotated[int, Meta(ge=1, le=schema.MAX_RUNS_IN_COLUMNS)] = schema.MAX_RUNS_IN_COLUMNS
    keys: Annotated[
        list[str],
        Meta(
            max_length=schema.MAX_KEYS_IN_COLUMNS,
            description="the parameters and metrics to carry",
        ),
    ] = []


async def get_sweep(request: Request) -> Reply:
    """Search runs, and answer them as columns."""
    query: SweepQuery = request.query
    search = replace(await searched(request), limit=query.limit, keys=tuple(query.keys))
    sweep = await request.tenant.sweep(search)
    return Reply(await asyncio.to_thread(_columns, sweep), media=wire.COLUMNS)


def _columns(sweep: Sweep) -> bytes:
    return _pack(
        schema.ColumnarRuns(
            wire.COLUMNS_FORMAT,
            bytes.fromhex("".join(sweep.run_ids)),
            sweep.names,
            [_param(key, texts) for key, texts in sweep.params.items()],
            [_metric(key, numbers) for key, numbers in sweep.metrics.items()],
            sweep.total or 0,
        )
    )


def _param(key: str, texts: Texts) -> schema.ColumnarParam:
    return schema.ColumnarParam(key, texts.words, texts.places.tobytes())


def _metric(key: str, numbers: Numbers) -> schema.ColumnarMetric:
    present = b"" if numbers.present.all() else numbers.present.tobytes()
    return schema.ColumnarMetric(key, numbers.values.tobytes(), present)


CALLS = (
    Call(
        "GET", BASE + "/columns", get_sweep, query=SweepQuery, errors=(404,),
        answer={wire.COLUMNS: schema.ColumnarRuns},
    ),
)  # fmt: skip
