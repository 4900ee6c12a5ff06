"""One series that grows to ten million points: what its last points cost against its first."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import bodies
from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.load import Source
from benchmarks.meters import compacted
from benchmarks.plan import Plan
from benchmarks.processes import Server
from benchmarks.report import Result, at_most
from benchmarks.rounds import Round, alone, measure

_SHAPE = Shape(1, 1_000)
_BOUND_SECONDS = 600.0


def growth(plan: Plan) -> Iterator[Result]:
    """One client, so that latency is cost.  A run of its own warms the server up, and compaction's
    backlog is awaited before the last part, as there was none before the first."""
    requests = plan.growth_points // _SHAPE.points
    part = max(requests // 100, 50)
    with alone() as (server, _):
        with Caller(server.port) as caller:
            runs = [caller.create_run(name=name) for name in ("warm", "long")]
        warm, source = (bodies.columnar_batches(bodies.log_path(run), _SHAPE, 0) for run in runs)
        _send(server, warm, 4 * part)
        compacted(server)
        first = _send(server, source, part)
        middle = _send(server, source, requests - 2 * part)
        compacted(server)
        last = _send(server, source, part)
    before, after = first.tally.latency_ms(), last.tally.latency_ms()
    yield Result(
        "growth",
        {
            "first_p50_ms": before["p50_ms"],
            "last_p50_ms": after["p50_ms"],
            "last_over_first": round(after["p50_ms"] / before["p50_ms"], 3),
            "cpu_last_over_first": round(last.server_cpu_s / max(first.server_cpu_s, 0.01), 3),
            "middle_points_per_s": round(middle.tally.per_second * _SHAPE.points),
            "middle_p99_ms": middle.tally.latency_ms()["p99_ms"],
        },
        {"points": plan.growth_points, "points_per_request": 1_000, "requests_per_part": part},
        goals=(at_most("last_over_first", 1.5),),
    )


def _send(server: Server, source: Source, requests: int) -> Round:
    limited = (source() for _ in range(requests))
    return measure(server, [limited.__next__], _BOUND_SECONDS)
