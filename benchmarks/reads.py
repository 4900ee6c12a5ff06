"""Reading a long series whole and as a chart, and what reads cost those who write meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from benchmarks import bodies, fill
from benchmarks.api import Caller
from benchmarks.bodies import Floats, Shape
from benchmarks.meters import compacted
from benchmarks.plan import Plan
from benchmarks.processes import Server
from benchmarks.report import Goal, Result, at_most
from benchmarks.rounds import alone, measure, summary
from benchmarks.timing import expect, repeat
from stepwell import ExperimentTracker, wire

_BULK = "/api/v1/experiments/runs/series"
_PIXELS = 1_500
_columnar = msgspec.msgpack.Decoder(wire.ColumnarReply)
_json_page = msgspec.json.Decoder(wire.History)


def reads(plan: Plan) -> Iterator[Result]:
    """History of one series by SDK, by columns and by JSON; charts of one series and of all."""
    with alone() as (server, _):
        run_id, keys = fill.loss_series(server.port, plan.series_count, plan.series_points)
        compacted(server)
        reader = _Reader(server, run_id, plan.series_points)
        cases: list[tuple[str, Callable[[], object], tuple[Goal, ...]]] = [
            ("history_sdk", lambda: reader.sdk(keys[0]), (at_most("p50_ms", 500.0),)),
            ("history_columns", lambda: reader.columns([keys[0]]), ()),
            ("history_json", lambda: reader.json(keys[0]), ()),
            ("chart", lambda: reader.chart(keys[:1]), (at_most("p50_ms", 10.0),)),
            (f"chart_{len(keys)}_series", lambda: reader.chart(keys), (at_most("p50_ms", 150.0),)),
            ("series_list", lambda: reader.series(), ()),
        ]
        for name, call, goals in cases:
            figures = repeat(call, plan.reads)
            yield Result(name, figures, _settings(plan), goals=goals)


class _Reader:
    """Each call checks what it got: an answer that leaves points out is no answer."""

    def __init__(self, server: Server, run_id: str, points: int) -> None:
        self._caller = Caller(server.port)
        self._tracker = ExperimentTracker(f"http://127.0.0.1:{server.port}")
        self._run, self._points = run_id, points
        self._truth: Floats = fill.noisy_loss(points, 0)

    def sdk(self, key: str) -> None:
        arrays = self._tracker.get_metric_arrays(self._run, key)
        expect(len(arrays.values) == self._points, "the SDK's history is not whole")

    def columns(self, keys: list[str]) -> None:
        reply = self._bulk(wire.SeriesRequest([self._run], keys))
        expect(len(reply.series[0].values) == 8 * self._points, "the columns are not whole")

    def chart(self, keys: list[str]) -> None:
        """1,500 buckets, one a pixel: the first, lowest, highest and last point of each."""
        reply = self._bulk(wire.SeriesRequest([self._run], keys, max_points=4 * _PIXELS))
        expect(len(reply.series) == len(keys), "series are missing from the chart")
        values = np.frombuffer(reply.series[0].values, np.float64)
        kept = values.min() == self._truth.min() and values.max() == self._truth.max()
        expect(len(values) <= 4 * _PIXELS and bool(kept), "the chart lost an extreme")

    def json(self, key: str) -> None:
        count, cursor, path = 0, "", f"/api/v1/experiments/runs/{self._run}/metrics/{key}"
        while True:
            text = self._caller.get(f"{path}?limit={wire.MAX_POINTS_PER_PAGE}{cursor}")
            page = _json_page.decode(text)
            count += len(page.points)
            if page.next_cursor is None:
                break
            cursor = f"&cursor={page.next_cursor}"
        expect(count == self._points, "the JSON history is not whole")

    def series(self) -> None:
        self._caller.get(f"/api/v1/experiments/runs/{self._run}/metrics")

    def _bulk(self, request: wire.SeriesRequest) -> wire.ColumnarReply:
        return _columnar.decode(self._caller.post(_BULK, request, accept=wire.COLUMNS))


def mixed(plan: Plan) -> Iterator[Result]:
    """16 clients log flat out, without and with a reader that asks for charts all the time."""
    shape = Shape(10, 100)
    with alone() as (server, _):
        run_id, keys = fill.loss_series(server.port, 5, plan.series_points)
        compacted(server)
        with Caller(server.port) as caller:
            runs = [caller.create_run(name=f"writer-{seed}") for seed in range(16)]
        writers = [
            bodies.json_batches(bodies.log_path(run), shape, seed) for seed, run in enumerate(runs)
        ]
        quiet, disturbed = [], []
        charts = _ChartThread(server, run_id, keys, plan.series_points)
        for _ in range(plan.rounds):
            quiet.append(measure(server, writers, plan.seconds))
            with charts:
                disturbed.append(measure(server, writers, plan.seconds))
        figures = summary(disturbed, shape.points)
        figures |= charts.figures()
        yield Result(
            "ingest_while_charting",
            figures,
            {**_settings(plan), "clients": 16, "baseline": "the same without the reader"},
            baseline=(alone_figures := summary(quiet, shape.points)),
            ratio=figures["requests_per_s"] / alone_figures["requests_per_s"],
            goals=(at_most("p99_ms", 50.0),),
        )


class _ChartThread:
    """Asks for five charts, waits 20 ms, asks again, for as long as its block runs."""

    def __init__(self, server: Server, run_id: str, keys: list[str], points: int) -> None:
        self._reader = _Reader(server, run_id, points)
        self._keys, self._costs = keys, list[float]()
        self._running = threading.Event()
        self._thread = threading.Thread()

    def __enter__(self) -> None:
        self._running.set()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._running.clear()
        self._thread.join()

    def _read(self) -> None:
        while self._running.is_set():
            start = time.perf_counter()
            self._reader.chart(self._keys)
            self._costs.append(time.perf_counter() - start)
            time.sleep(0.02)

    def figures(self) -> dict[str, float]:
        costs = np.array(self._costs) * 1e3
        return {
            "charts": len(costs),
            "chart_p50_ms": round(float(np.median(costs)), 3),
            "chart_max_ms": round(float(costs.max()), 3),
        }


def _settings(plan: Plan) -> dict[str, float | str]:
    return {
        "points": plan.series_points,
        "series": plan.series_count,
        "calls": plan.reads,
        "pixels": _PIXELS,
    }
