"""The baseline: the same web server decoding the same bodies into the same Structs, and no more.

What Starlette on uvicorn with msgspec costs when nothing is kept; a tracker on this stack cannot be
faster, so the ratio to it says how much of the machine storage takes.
Run as ``python -m benchmarks.discard PORT``.
"""

from __future__ import annotations

import gc
import sys

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stepwell import wire
from stepwell_tracker import schema

_json_batch = msgspec.json.Decoder(schema.LogBatch)
_columnar_batch = msgspec.msgpack.Decoder(wire.ColumnarBatch)
_new_run = msgspec.json.Decoder(wire.CreateRun)
_encode = msgspec.json.Encoder().encode
_RUN_ID = "018d9c4230808f13be8df00000000000"


async def log_batch(request: Request) -> Response:
    body = await request.body()
    if request.headers.get("content-type") == wire.COLUMNS:
        columns = _columnar_batch.decode(body)
        count = sum(len(series.values) for series in columns.series) // 8
        accepted = wire.Accepted(count, len(columns.params), len(columns.tags))
    else:
        batch = _json_batch.decode(body)
        accepted = wire.Accepted(len(batch.metrics), len(batch.params), len(batch.tags))
    return _reply(wire.BatchReply(request.path_params["run_id"], accepted), 200)


async def create_run(request: Request) -> Response:
    new = _new_run.decode(await request.body())
    run = wire.Run(
        run_id=_RUN_ID,
        experiment_id="018d9c42-3080-8f13-be8d-f00000000000",
        name=new.name or "",
        description=new.description,
        user_id=new.user_id,
        parent_run_id=new.parent_run_id,
        status="running",
        tags=new.tags,
        params={key: str(value) for key, value in new.params.items()},
        metrics={},
        start_time=new.start_time or 0,
        end_time=None,
        duration_seconds=None,
        heartbeat_at=0,
        lifecycle="active",
    )
    return _reply(run, 201)


async def health(_: Request) -> Response:
    return Response(b"{}", media_type=wire.JSON)


def _reply(body: msgspec.Struct, status: int) -> Response:
    return Response(_encode(body), status, media_type=wire.JSON)


app = Starlette(
    routes=[
        Route("/api/v1/experiments/runs", create_run, methods=["POST"]),
        Route("/api/v1/experiments/runs/{run_id}/log-batch", log_batch, methods=["POST"]),
        Route("/health", health),
    ]
)


if __name__ == "__main__":
    gc.freeze()  # as our server does
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
