"""The engine against a dictionary: batches in any order, repeated, searched, compacted, crashed."""

import asyncio
import math
import shutil
import struct
import tempfile
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stepwell_storage import writer
from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.points import ordered
from stepwell_storage.records import (
    Batch,
    ConsoleLine,
    ExperimentChange,
    NewRun,
    RunChange,
    RunQuery,
)
from stepwell_storage.series import ChartQuery
from stepwell_storage.shared import Steps
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


EXPERIMENTS = ["Default", "vision", "nlp"]
PARAMS = st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "x", "1.0"]))
TAGS = st.dictionaries(st.sampled_from("st"), st.sampled_from(["1", "", "\n☃"]))
lifecycles = st.sampled_from(["active", "deleted"])


def batch_of(
    logged: list[tuple[str, int, int, float]], params: dict[str, str], tags: dict[str, str]
) -> Batch:
    batch = Batch(params=params, tags=tags)
    for key in KEYS:
        mine = [point for point in logged if point[0] == key]
        if mine:
            batch.keys.append(key)
            batch.counts.append(len(mine))
            batch.steps += array("q", [p[1] for p in mine]).tobytes()
            batch.timestamps += array("q", [p[2] for p in mine]).tobytes()
            batch.values += struct.pack(f"<{len(mine)}d", *[p[3] for p in mine])
    return batch


@dataclass
class ModelRun:
    """What the engine must say of a run."""

    experiment: str
    series: dict[str, set[tuple[int, int, int]]] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    status: str = "running"
    end_time: int | None = None
    deleted: bool = False

    def last(self, key: str) -> int | None:
        """The last value, ordered; None without one."""
        return max(self.series[key])[2] if key in self.series else None

    def numbers(self, key: str) -> list[int]:
        nan = ordered(math.nan)
        return [value for _, _, value in self.series.get(key, ()) if value != nan]


def _greatest_is_at_least(run: ModelRun, bound: float) -> bool:
    numbers = run.numbers("loss")
    return bool(numbers) and max(numbers) >= ordered(bound)


def _last_is_below(run: ModelRun, bound: float) -> bool:
    last = run.last("loss")
    return last is not None and last < ordered(bound)


SEARCHES: dict[str, Callable[[ModelRun], bool]] = {
    "params.a = 'x'": lambda run: run.params.get("a") == "x",
    "params.a = 1": lambda run: run.params.get("a") in ("1", "1.0"),
    "not params.b = 'x'": lambda run: run.params.get("b") != "x",
    "params.a != 'x'": lambda run: run.params.get("a", "x") != "x",
    "tags.t IS NOT NULL and tags.t != ''": lambda run: run.tags.get("t", "") != "",
    "metrics.loss < 1.5": lambda run: _last_is_below(run, 1.5),
    "max(metrics.loss) >= 0.5": lambda run: _greatest_is_at_least(run, 0.5),
    "metrics.\"val/acc\" IS NULL or attributes.status = 'failed'": (
        lambda run: "val/acc" not in run.series or run.status == "failed"
    ),
}


class EngineAgainstDictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folders: list[tempfile.TemporaryDirectory[str]] = []
        self.runner = asyncio.Runner()
        self.model: dict[str, ModelRun] = {}
        self.numbers = {"Default": 0}
        self.closed: set[str] = set()

    @initialize(interval=st.sampled_from([0.0, 0.25]))
    def begin(self, interval: float) -> None:
        """At 0 every commit catches the statistics up, at 0.25 almost none does."""
        writer.FLUSH_INTERVAL_S = interval
        self.start(self.new_folder())

    def new_folder(self) -> Path:
        self.folders.append(tempfile.TemporaryDirectory())
        return Path(self.folders[-1].name)

    def start(self, folder: Path) -> None:
        self.data = folder
        self.store = self.runner.run(Store.open(folder, Options(compact=False)))

    def call(self, method: str, *args: object, **kwargs: object) -> Any:
        async def go() -> Any:
            async with self.store.lease("default", create=True) as tenant:
                return await getattr(tenant, method)(*args, **kwargs)

        return self.runner.run(go())

    def refusal(self, method: str, *args: object, **kwargs: object) -> type[Exception] | None:
        """What kind of refusal the answer was; None where it was done."""
        try:
            self.call(method, *args, **kwargs)
        except (NotFound, Conflict) as error:
            return type(error)
        return None

    def expected(self, run: str) -> type[Exception] | None:
        """What a write to this run is answered, as far as its lifecycle goes."""
        if run not in self.model:
            return NotFound
        return Conflict if self.model[run].deleted else None

    # --- experiments ---------------------------------------------------------------------------

    @rule(name=st.sampled_from(EXPERIMENTS))
    def create_experiment(self, name: str) -> None:
        refusal = self.refusal("create_experiment", name)
        assert refusal is (Conflict if name in self.numbers else None)
        self.learn_number(name)

    def learn_number(self, name: str) -> None:
        """MLflow's id: never given twice, and for ever the same."""
        number = self.call("experiment_by_name", name).number
        assert self.numbers.setdefault(name, number) == number
        assert len(set(self.numbers.values())) == len(self.numbers)

    @rule(name=st.sampled_from(EXPERIMENTS), lifecycle=lifecycles)
    def delete_or_restore_experiment(self, name: str, lifecycle: str) -> None:
        if name not in self.numbers or (name in self.closed) == (lifecycle == "deleted"):
            return
        found = self.call("experiment_by_number", self.numbers[name])
        self.call("change_experiment", found.experiment_id, ExperimentChange(lifecycle=lifecycle))
        (self.closed.add if lifecycle == "deleted" else self.closed.discard)(name)
        for run in self.model.values():
            if run.experiment == name:
                run.deleted = lifecycle == "deleted"

    # --- runs ----------------------------------------------------------------------------------

    @rule(
        run=st.sampled_from(RUNS), experiment=st.sampled_from(EXPERIMENTS), params=PARAMS, tags=TAGS
    )
    def create(self, run: str, experiment: str, params: dict[str, str], tags: dict[str, str]):
        new = NewRun(
            run_id=run, name=run, start_time=1, experiment_name=experiment, params=params, tags=tags
        )
        if run not in self.model and experiment in self.closed:
            assert self.refusal("create_run", new) is Conflict
            return
        _, created = self.call("create_run", new)
        assert created == (run not in self.model)
        if created:
            self.model[run] = ModelRun(experiment, params=dict(params), tags=dict(tags))
            self.learn_number(experiment)

    @rule(run=st.sampled_from(RUNS), logged=points, params=PARAMS, tags=TAGS)
    def log(
        self,
        run: str,
        logged: list[tuple[str, int, int, float]],
        params: dict[str, str],
        tags: dict[str, str],
    ):
        expected = self.expected(run)
        if expected is None and any(
            self.model[run].params.get(key, value) != value for key, value in params.items()
        ):
            expected = Conflict
        assert self.refusal("log", run, batch_of(logged, params, tags)) is expected
        if expected:
            return
        model = self.model[run]
        model.params.update(params)
        model.tags.update(tags)
        for key, step, timestamp, value in logged:
            model.series.setdefault(key, set()).add((step, timestamp, ordered(value)))

    @rule(run=st.sampled_from(RUNS), lines=st.lists(st.sampled_from(["", "epoch 1", "\x1b[1m☃"])))
    def print_lines(self, run: str, lines: list[str]) -> None:
        told = [ConsoleLine("stdout", 5, text) for text in lines]
        expected = self.expected(run)
        assert self.refusal("log_console", run, told) is expected
        if expected is None:
            self.model[run].lines += lines

    @rule(
        run=st.sampled_from(RUNS),
        status=st.sampled_from(["finished", "failed", "killed", "running"]),
        at=st.integers(0, 9),
    )
    def end_or_resume(self, run: str, status: str, at: int) -> None:
        is_end = status != "running"
        change = RunChange(status=status, end_time=at if is_end else None, ending=is_end)
        expected = self.expected(run)
        assert self.refusal("change_run", run, change) is expected
        if expected is None and self.model[run].status != status:
            self.model[run].status = status
            self.model[run].end_time = at if is_end else None

    @rule(run=st.sampled_from(RUNS), lifecycle=lifecycles)
    def delete_or_restore(self, run: str, lifecycle: str) -> None:
        expected = NotFound if run not in self.model else None
        assert self.refusal("change_run", run, RunChange(lifecycle=lifecycle)) is expected
        if expected is None:
            self.model[run].deleted = lifecycle == "deleted"

    # --- what the store does, and what happens to it -------------------------------------------

    @rule()
    def compact(self) -> None:
        self.runner.run(self.store.compact("default"))
        for run, model in self.model.items():
            for stats in self.call("series", run).series:
                assert stats.exact
                assert stats.count == len(model.series[stats.key])

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self.start(self.data)

    @rule()
    def crash(self) -> None:
        """The files as they are at this moment, opened by another server."""
        folder = self.new_folder()
        shutil.copytree(self.data, folder, dirs_exist_ok=True)
        self.runner.run(self.store.close())
        self.start(folder)

    # --- the comparison ------------------------------------------------------------------------

    @invariant()
    def everything_is_there_once_and_in_order(self) -> None:
        for run, model in self.model.items():
            found = self.call("run", run)
            assert found.params == model.params
            assert found.tags == model.tags
            assert set(found.metrics) == set(model.series)
            assert (found.status, found.end_time) == (model.status, model.end_time)
            assert found.experiment_number == self.numbers[model.experiment]
            assert found.lifecycle == ("deleted" if model.deleted else "active")
            assert [line[3] for line in self.call("console", run).lines] == model.lines
            for stats in self.call("series", run).series:
                self.compare_statistics(stats, sorted(model.series[stats.key]))
            for key, expected in model.series.items():
                self.compare_history(run, key, sorted(expected))

    @invariant()
    def searches_find_what_the_dictionary_finds(self) -> None:
        for lifecycle in ("active", "deleted", "all"):
            query = RunQuery(lifecycle=lifecycle)
            expected = {
                run
                for run, model in self.model.items()
                if lifecycle == "all" or model.deleted == (lifecycle == "deleted")
            }
            assert {run.run_id for run in self.call("search", query).runs} == expected
        for text, predicate in SEARCHES.items():
            query = RunQuery(filter=text, lifecycle="all", order_by=("metrics.loss DESC",))
            page = self.call("search", query)
            expected = {run for run, model in self.model.items() if predicate(model)}
            assert {run.run_id for run in page.runs} == expected, text
            assert page.total == len(expected)
            lasts = [self.model[run.run_id].last("loss") for run in page.runs]
            known = [last for last in lasts if last is not None]
            assert lasts[: len(known)] == known, "runs without the metric come last"

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
        query = ChartQuery([key], Steps.of(None, None), max_points=8)
        (chart,) = self.call("charts", [run], query)
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
        for folder in self.folders:
            folder.cleanup()


TestEngineAgainstDictionary = EngineAgainstDictionary.TestCase
TestEngineAgainstDictionary.settings = settings(
    max_examples=20,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
