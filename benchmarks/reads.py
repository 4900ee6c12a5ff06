"""Reading a long series whole and as a chart."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from benchmarks import fill
from benchmarks.api import Caller
from benchmarks.bodies import Floats
from benchmarks.meters import compacted
from benchmarks.plan import Plan
from benchmarks.report import Goal, Result, at_most
from benchmarks.rounds import alone
from benchmarks.timing import expect, repeat
from stepwell import ExperimentTracker, wire
from stepwell_tracker import schema

_BULK = "/api/v1/experiments/runs/series"
_PIXELS = 1_500
_columnar = msgspec.msgpack.Decoder(wire.ColumnarReply)
_json_page = msgspec.json.Decoder(schema.History)


def reads(plan: Plan) -> Iterator[Result]:
    """History of one series by SDK, by columns and by JSON; charts of one series and of all."""
    with alone() as (server, _):
        run_id, keys = fill.loss_series(server.port, plan.series_count, plan.series_points)
        compacted(server)
        reader = SeriesReader(server.port, run_id, plan.series_points)
        cases: list[tuple[str, Callable[[], object], tuple[Goal, ...]]] = [
            ("history_sdk", lambda: reader.sdk(keys[0]), (at_most("p50_ms", 300.0),)),
            ("history_columns", lambda: reader.columns([keys[0]]), ()),
            ("history_json", lambda: reader.json(keys[0]), ()),
            ("chart", lambda: reader.chart(keys[:1]), (at_most("p50_ms", 10.0),)),
            (f"chart_{len(keys)}_series", lambda: reader.chart(keys), (at_most("p50_ms", 150.0),)),
            ("series_list", lambda: reader.series(), ()),
        ]
        for name, call, goals in cases:
            figures = repeat(call, plan.reads, server)
            yield Result(name, figures, _settings(plan), goals=goals)


class SeriesReader:
    """Each call checks what it got: an answer that leaves points out is no answer."""

    def __init__(self, port: int, run_id: str, points: int) -> None:
        self._caller = Caller(port)
        self._tracker = ExperimentTracker(f"http://127.0.0.1:{port}")
        self._run, self._points = run_id, points
        self._truth: Floats = fill.noisy_loss(points, 0)

    def sdk(self, key: str) -> None:
        arrays = self._tracker.get_metric_arrays(self._run, key)
        expect(len(arrays.values) == self._points, "the SDK's history is not whole")

    def columns(self, keys: list[str]) -> None:
        reply = self._bulk(schema.SeriesRequest([self._run], keys))
        expect(len(reply.series[0].values) == 8 * self._points, "the columns are not whole")

    def chart(self, keys: list[str]) -> None:
        """1,500 buckets, one a pixel: the first, lowest, highest and last point of each."""
        reply = self._bulk(schema.SeriesRequest([self._run], keys, max_points=4 * _PIXELS))
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

    def _bulk(self, request: schema.SeriesRequest) -> wire.ColumnarReply:
        return _columnar.decode(self._caller.post(_BULK, request, accept=wire.COLUMNS))


def _settings(plan: Plan) -> dict[str, float | str]:
    return {
        "points": plan.series_points,
        "series": plan.series_count,
        "calls": plan.reads,
        "pixels": _PIXELS,
    }
