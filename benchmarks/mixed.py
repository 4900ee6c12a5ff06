"""Reads while 16 clients log: what the acknowledgements wait for, and what the reads do.

The reader is a process of its own, so that what it does with an answer takes no time from the load
generator, whose clock tells the acknowledgements' latencies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from urllib.parse import urlencode

import numpy as np

from benchmarks import bodies, fill
from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.load import Source
from benchmarks.meters import compacted
from benchmarks.plan import Plan
from benchmarks.processes import Server
from benchmarks.reads import SeriesReader
from benchmarks.report import Figures, Result, at_most
from benchmarks.rounds import alone, measure, summary
from benchmarks.searching import MANY, Search

_SHAPE = Shape(10, 100)
_PAUSE_S = 0.02
_TENANT = "default"


def mixed(plan: Plan) -> Iterator[Result]:
    """Each kind of read all the time, beside the same load without it, in turn: first flat out,
    then at half that pace, where acknowledgements wait for nothing but the reads."""
    with alone() as (server, _):
        run_id, keys = fill.loss_series(server.port, plan.series_count, plan.series_points)
        fill.runs(server.port, plan.many_runs, _TENANT)
        compacted(server)
        with Caller(server.port) as caller:
            runs = [caller.create_run(name=f"writer-{seed}") for seed in range(16)]
        writers = [
            bodies.json_batches(bodies.log_path(run), _SHAPE, seed) for seed, run in enumerate(runs)
        ]
        measure(server, writers, plan.warm_seconds)
        for name, reading in _readings(server.port, run_id, keys, plan).items():
            flat_out = _beside(server, writers, reading, plan, 0.0)
            yield _result(f"log_while_{name}", flat_out, plan)
            every_s = 2 * len(writers) / flat_out.quiet["requests_per_s"]
            at_ease = _beside(server, writers, reading, plan, every_s)
            yield _result(f"log_at_ease_while_{name}", at_ease, plan)


@dataclass
class _Beside:
    """A load without and with a reader, and what its reads cost."""

    quiet: Figures
    disturbed: Figures
    every_s: float


def _beside(
    server: Server, writers: list[Source], reading: Reading, plan: Plan, every_s: float
) -> _Beside:
    quiet, disturbed, costs = [], [], list[float]()
    for _ in range(plan.mixed_rounds):
        quiet.append(measure(server, writers, plan.seconds, every_s))
        with _reader(reading, costs):
            disturbed.append(measure(server, writers, plan.seconds, every_s))
    figures = summary(disturbed, _SHAPE.points) | _latencies(costs)
    return _Beside(summary(quiet, _SHAPE.points), figures, every_s)


def _result(name: str, found: _Beside, plan: Plan) -> Result:
    return Result(
        name,
        found.disturbed,
        {
            "clients": 16,
            "due_every_ms": round(found.every_s * 1e3, 1),
            "runs": plan.many_runs,
            "series": plan.series_count,
            "points": plan.series_points,
            "seconds": plan.seconds,
            "rounds": plan.mixed_rounds,
            "baseline": "the same load without the reader",
        },
        baseline=found.quiet,
        ratio=found.disturbed["requests_per_s"] / found.quiet["requests_per_s"],
        goals=(at_most("p99_ms", 50.0),),
    )


Reading = Callable[[], Callable[[], object]]
"""Makes, in the reader's process, the call that it makes over and over."""


def _readings(port: int, run_id: str, keys: list[str], plan: Plan) -> dict[str, Reading]:
    selective, most = (next(s for s in MANY if s.name == f"search_many_{kind}")
                       for kind in ("selective", "most_match"))  # fmt: skip
    return {
        "charting": partial(_charts, port, run_id, keys[:1], plan.series_points),
        f"charting_{len(keys)}": partial(_charts, port, run_id, keys, plan.series_points),
        "reading_history": partial(_history, port, run_id, keys[0], plan.series_points),
        "searching": partial(_searches, port, selective),
        "searching_most": partial(_searches, port, most),
    }


def _charts(port: int, run_id: str, keys: list[str], points: int) -> Callable[[], object]:
    return partial(SeriesReader(port, run_id, points).chart, keys)


def _history(port: int, run_id: str, key: str, points: int) -> Callable[[], object]:
    return partial(SeriesReader(port, run_id, points).sdk, key)


def _searches(port: int, search: Search) -> Callable[[], object]:
    caller = Caller(port)
    losses = iter(np.tile(np.linspace(*search.loss, 1_000), 1_000))

    def call() -> None:
        query = {"filter": search.filter.format(loss=round(float(next(losses)), 6))}
        query |= {"order_by": search.order_by, "limit": "50"}
        caller.get(f"/api/v1/experiments/runs?{urlencode(query)}")

    return call


@contextmanager
def _reader(reading: Reading, costs: list[float]) -> Iterator[None]:
    """Reads, waits 20 ms and reads again for as long as the block runs; adds each read's s."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_read, args=(reading, theirs), daemon=True)
    process.start()
    ours.recv()  # it has read once
    try:
        yield
    finally:
        ours.send("enough")
        costs += ours.recv()
        process.join()


def _read(reading: Reading, pipe: Connection) -> None:
    call, costs = reading(), list[float]()
    call()
    pipe.send("ready")
    while not pipe.poll(_PAUSE_S):
        start = time.perf_counter()
        call()
        costs.append(time.perf_counter() - start)
    pipe.send(costs)


def _latencies(costs: Sequence[float]) -> Figures:
    spent = np.array(costs) * 1e3
    return {
        "reads": len(spent),
        "read_p50_ms": round(float(np.median(spent)), 3),
        "read_p99_ms": round(float(np.quantile(spent, 0.99)), 3),
        "read_max_ms": round(float(spent.max()), 3),
    }
