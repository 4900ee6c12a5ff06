"""The engine against a dictionary: random batches, orders, duplicates, compactions, restarts."""

import asyncio
import math
import struct
import tempfile
from array import array
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stepwell_storage import writer
from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.points import ordered
from stepwell_storage.records import Batch, NewRun, RunChange, RunQuery
from stepwell_storage.store import Options, Store
from stepwell_storage.writer import FLUSH_INTERVAL_S

RUNS = [f"{n:032x}" for n in range(1, 4)]
KEYS = ["loss", "val/acc", "ünï code"]
steps = st.one_of(st.integers(0, 12), st.sampled_from([-(2**63), 2**63 - 1, -1]))
times = st.one_of(st.integers(0, 3), st.just(1_707_723_600_000))
values = st.one_of(
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1.5, -2.5, 5e-324]),
    st.floats(),
)
points = st.lists(st.tuples(st.sampled_from(KEYS), steps, times, values), max_size=25)


def batch_of(logged: list[tuple[str, int, int, float]], params: dict[str, str]) -> Batch:
    batch = Batch(params=params)
    for key in KEYS:
        mine = [point for point in logged if point[0] == key]
        if mine:
            batch.keys.append(key)
            batch.counts.append(len(mine))
            batch.steps += array("q", [p[1] for p in mine]).tobytes()
            batch.timestamps += array("q", [p[2] for p in mine]).tobytes()
            batch.values += struct.pack(f"<{len(mine)}d", *[p[3] for p in mine])
    return batch


class EngineAgainstDictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.model: dict[str, dict[str, set[tuple[int, int, int]]]] = {}
        self.params: dict[str, dict[str, str]] = {}
        self.deleted: set[str] = set()

    @initialize(interval=st.sampled_from([0.0, 0.25]))
    def begin(self, interval: float) -> None:
        """At 0 every commit catches the statistics up, at 0.25 almost none does."""
        writer.FLUSH_INTERVAL_S = interval
        self.start()

    def start(self) -> None:
        self.store = self.runner.run(Store.open(Path(self.folder.name), Options(compact=False)))

    def call(self, method: str, *args: object, **kwargs: object) -> Any:
        async def go() -> Any:
            async with self.store.lease("default", create=True) as tenant:
                return await getattr(tenant, method)(*args, **kwargs)

        return self.runner.run(go())

    @rule(run=st.sampled_from(RUNS))
    def create(self, run: str) -> None:
        _, created = self.call("create_run", NewRun(run_id=run, name=run, start_time=1))
        assert created == (run not in self.model)
        self.model.setdefault(run, {})
        self.params.setdefault(run, {})

    @rule(
        run=st.sampled_from(RUNS),
        logged=points,
        params=st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "x"])),
    )
    def log(self, run: str, logged: list[tuple[str, int, int, float]], params: dict[str, str]):
        expected: type[Exception] | None = None
        if run not in self.model:
            expected = NotFound
        elif run in self.deleted or any(
            self.params[run].get(key, value) != value for key, value in params.items()
        ):
            expected = Conflict
        try:
            self.call("log", run, batch_of(logged, params))
        except (NotFound, Conflict) as error:
            refusal: type[Exception] | None = type(error)
        else:
            refusal = None
        assert refusal is expected
        if refusal:
            return
        self.params[run].update(params)
        for key, step, timestamp, value in logged:
            point = (step, timestamp, ordered(value))
            self.model[run].setdefault(key, set()).add(point)

    @rule(run=st.sampled_from(RUNS), lifecycle=st.sampled_from(["active", "deleted"]))
    def delete_or_restore(self, run: str, lifecycle: str) -> None:
        if run in self.model:
            self.call("change_run", run, RunChange(lifecycle=lifecycle))
            (self.deleted.add if lifecycle == "deleted" else self.deleted.discard)(run)

    @rule()
    def compact(self) -> None:
        self.runner.run(self.store.compact("default"))
        for run, keys in self.model.items():
            for stats in self.call("series", run).series:
                assert stats.exact
                assert stats.count == len(keys[stats.key])

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self.start()

    @invariant()
    def everything_is_there_once_and_in_order(self) -> None:
        for run, keys in self.model.items():
            found = self.call("run", run)
            assert found.params == self.params[run]
            assert set(found.metrics) == set(keys)
            for stats in self.call("series", run).series:
                self.compare_statistics(stats, sorted(keys[stats.key]))
            for key, expected in keys.items():
                self.compare_history(run, key, sorted(expected))
        active = {run.run_id for run in self.call("search", RunQuery()).runs}
        assert active == set(self.model) - self.deleted

    def compare_statistics(self, stats, expected: list[tuple[int, int, int]]) -> None:
        nan = ordered(math.nan)
        assert stats.count == len(expected) or (not stats.exact and stats.count > len(expected))
        last = (stats.last_step, stats.last_timestamp, ordered(stats.last))
        assert last == expected[-1]
        numbers = [(value, step) for step, _, value in expected if value != nan]
        if not numbers:
            assert stats.min is None
            assert stats.max is None
            return
        assert (ordered(stats.min), stats.min_step) == min(numbers)
        high = max(value for value, _ in numbers)
        assert ordered(stats.max) == high
        assert stats.max_step == min(step for value, step in numbers if value == high)

    def compare_history(self, run: str, key: str, expected: list[tuple[int, int, int]]) -> None:
        whole = self.call("points", run, key)
        assert [tuple(whole.position(row)) for row in range(len(whole))] == expected
        paged, cursor = [], None
        while True:
            page = self.call("history", run, key, cursor=cursor, limit=4)
            paged += [tuple(page.points.position(row)) for row in range(len(page.points))]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert paged == expected
        (chart,) = self.call("charts", [run], [key], max_points=8)
        if chart.counts is not None:
            assert chart.counts.sum() == len(expected)
        drawn = {tuple(chart.points.position(row)) for row in range(len(chart.points))}
        assert drawn <= set(expected)
        assert {expected[0], expected[-1]} <= drawn
        numbers = [point[2] for point in expected if point[2] != ordered(math.nan)]
        if numbers:
            assert {min(numbers), max(numbers)} <= {point[2] for point in drawn}

    def teardown(self) -> None:
        writer.FLUSH_INTERVAL_S = FLUSH_INTERVAL_S
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()


TestEngineAgainstDictionary = EngineAgainstDictionary.TestCase
TestEngineAgainstDictionary.settings = settings(
    max_examples=20,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
