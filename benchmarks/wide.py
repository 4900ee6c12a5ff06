"""Wide steps: what a point costs where a request holds 1,000 keys, and where a run holds 50,000.

Compaction is in every figure.  A load lasts until units have been compacted under it, throughput
is that of its second half, and ``cpu_us_per_point`` is the CPU time of all of the server's
processes from the first request until no point waits in the journal, over all points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import monotonic

from benchmarks import bodies
from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.load import Source
from benchmarks.meters import compacted, meter
from benchmarks.plan import Plan
from benchmarks.processes import Server
from benchmarks.report import Figures, Result, at_most
from benchmarks.rounds import alone, measure, summary

Make = Callable[[str, Shape, int], Source]
_FORMATS: dict[str, Make] = {
    "json": bodies.json_batches,
    "columnar": bodies.columnar_batches,
}
_NARROW, _WIDE = Shape(10, 100), Shape(1_000, 1)
_PARTS = 4
_GOALS = (at_most("wide_over_narrow_cost", 3.0), at_most("cpu_wide_over_narrow", 3.0))


def wide(plan: Plan) -> Iterator[Result]:
    """1,000 keys with a point each against ten keys with a hundred, 16 clients, a run each."""
    for form, make in _FORMATS.items():
        narrow = _measured(plan, partial(_of_runs, make, _NARROW, 16))
        broad = _measured(plan, partial(_of_runs, make, _WIDE, 16))
        yield _result(f"wide_{form}", plan, narrow, broad, {"clients": 16, "keys": 1_000})


def many_series(plan: Plan) -> Iterator[Result]:
    """Four runs that grow to 50,000 series each, 1,000 keys a request, four clients."""
    groups = 5 if plan.quick else 50
    for form, make in _FORMATS.items():
        narrow = _measured(plan, partial(_of_runs, make, _NARROW, 4))
        broad = _measured(plan, partial(_growing, make, groups))
        more: dict[str, float | str] = {"clients": 4, "series_per_run": 1_000 * groups}
        yield _result(f"many_series_{form}", plan, narrow, broad, more)


def _of_runs(make: Make, shape: Shape, clients: int, port: int) -> list[Source]:
    with Caller(port) as caller:
        runs = [caller.create_run(name=f"run-{seed}") for seed in range(clients)]
    return [make(bodies.log_path(run), shape, seed) for seed, run in enumerate(runs)]


def _growing(make: Make, groups: int, port: int) -> list[Source]:
    """One client a run, whose requests go through all groups of 1,000 keys over and over."""
    with Caller(port) as caller:
        runs = [caller.create_run(name=f"wide-{seed}") for seed in range(4)]
    return [
        bodies.in_turn(
            [
                make(bodies.log_path(run), Shape(1_000, 1, 1_000 * group), group)
                for group in range(groups)
            ]
        )
        for run in runs
    ]


def _measured(plan: Plan, sources: Callable[[int], Sequence[Source]]) -> Figures:
    with alone() as (server, _):
        return _load(plan, server, sources(server.port))


def _load(plan: Plan, server: Server, sources: Sequence[Source]) -> Figures:
    before = server.cpu_seconds()
    rounds = [measure(server, sources, plan.wide_seconds / _PARTS) for _ in range(_PARTS)]
    figures = summary(rounds[_PARTS // 2 :], _WIDE.points)
    figures["compacted_under_load"] = meter(server.port, "compacted_points_total")
    figures["journal_mb_at_end"] = round(meter(server.port, "journal_bytes") / 2**20, 1)
    begun = monotonic()
    done = compacted(server)
    figures["compacted_after_s"] = round(monotonic() - begun, 1) if done else float("inf")
    sent = sum(len(one.tally.latencies) for one in rounds) * _WIDE.points
    figures["cpu_us_per_point"] = round((server.cpu_seconds() - before) / sent * 1e6, 3)
    return figures


def _result(
    name: str, plan: Plan, narrow: Figures, broad: Figures, more: dict[str, float | str]
) -> Result:
    def over(figure: str) -> float:
        return round(max(broad[figure], 1e-9) / max(narrow[figure], 1e-9), 3)

    figures = dict(broad)
    figures["wide_over_narrow_cost"] = round(1 / over("points_per_s"), 3)
    figures["cpu_wide_over_narrow"] = over("cpu_us_per_point")
    settings: dict[str, float | str] = {
        "points": 1_000,
        "seconds": plan.wide_seconds,
        "baseline": "ten keys with a hundred points each",
        **more,
    }
    ratio = broad["points_per_s"] / narrow["points_per_s"]
    return Result(name, figures, settings, baseline=narrow, ratio=ratio, goals=_GOALS)
