"""The engine against a dictionary: batches in any order, repeated, searched, compacted, crashed,
deleted, brought back, and deleted for good."""

import math
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import initialize, invariant, rule

from stepwell_storage.errors import Conflict, NotFound, Purged
from stepwell_storage.points import ordered
from stepwell_storage.records import ConsoleLine, ExperimentChange, NewRun, RunChange, RunQuery
from stepwell_storage.series import ChartQuery
from stepwell_storage.shared import Steps
from stepwell_storage.tenant import Tenant
from tests.storage.model_machine import Machine
from tests.storage.model_registry import RegistryAgainstDictionary
from tests.storage.model_runs import (
    EXPERIMENTS,
    PARAMS,
    RUNS,
    SEARCHES,
    TAGS,
    ModelRun,
    batch_of,
    lifecycles,
    points,
)

FILES = st.sampled_from(["card.md", "deep/weights.bin"])
CHANGES = st.dictionaries(st.sampled_from("st"), st.none() | st.text(max_size=3))
Logged = list[tuple[str, int, int, float]]


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


class EngineAgainstDictionary(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, ModelRun] = {}
        self.numbers = {"Default": 0}
        self.closed: set[str] = set()
        self.purged: set[str] = set()
        self.used_numbers = {0}
        self.sent: tuple[str, Logged, dict[str, str], dict[str, str]] | None = None

    @initialize(logged=points)
    def begin_with_a_run(self, logged: Logged) -> None:
        self.create(RUNS[0], "vision", {"a": "1"}, {})
        self.log(RUNS[0], [*logged, ("loss", 3, 3, 0.5)], {}, {})
        self.compact()

    def expected(self, run: str) -> type[Exception] | None:
        """What a write to this run is answered, as far as its lifecycle goes."""
        if run in self.purged:
            return Purged
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
        """MLflow's id: never given twice, not even when it was purged, and for ever the same."""
        number = self.call("experiment_by_name", name).number
        if name not in self.numbers:
            assert number > max(self.used_numbers)
            self.used_numbers.add(number)
        assert self.numbers.setdefault(name, number) == number

    @rule(name=st.sampled_from(EXPERIMENTS), lifecycle=lifecycles)
    def delete_or_restore_experiment(self, name: str, lifecycle: str) -> None:
        if name not in self.numbers or (name in self.closed) == (lifecycle == "deleted"):
            return
        self.change_experiment(name, ExperimentChange(lifecycle=lifecycle))
        (self.closed.add if lifecycle == "deleted" else self.closed.discard)(name)
        for run in self.model.values():
            if run.experiment == name:
                run.deleted = lifecycle == "deleted"

    def change_experiment(self, name: str, change: ExperimentChange) -> type[Exception] | None:
        found = self.call("experiment_by_number", self.numbers[name])
        return self.refusal("change_experiment", found.experiment_id, change)

    @rule(old=st.sampled_from(EXPERIMENTS[1:]), new=st.sampled_from(EXPERIMENTS[1:]))
    def rename_experiment(self, old: str, new: str) -> None:
        if old not in self.numbers or old == new:
            return
        taken = new in self.numbers
        refusal = self.change_experiment(old, ExperimentChange(name=new))
        assert refusal is (Conflict if taken else None)
        if taken:
            return
        self.numbers[new] = self.numbers.pop(old)
        if old in self.closed:
            self.closed.remove(old)
            self.closed.add(new)
        for run in self.model.values():
            run.experiment = new if run.experiment == old else run.experiment

    @rule(name=st.sampled_from(EXPERIMENTS))
    def purge_experiment(self, name: str) -> None:
        if name not in self.numbers:
            return
        found = self.call("experiment_by_number", self.numbers[name])
        refusal = self.refusal("purges.experiment", found.experiment_id)
        assert refusal is (Conflict if name == "Default" else None)
        if refusal is not None:
            return
        assert self.refusal("experiment", found.experiment_id) is NotFound
        assert self.refusal("purges.experiment", found.experiment_id) is NotFound
        del self.numbers[name]
        self.closed.discard(name)
        for run in [run for run, model in self.model.items() if model.experiment == name]:
            self.bury(run)

    # --- runs ----------------------------------------------------------------------------------

    @rule(
        run=st.sampled_from(RUNS), experiment=st.sampled_from(EXPERIMENTS), params=PARAMS, tags=TAGS
    )
    def create(self, run: str, experiment: str, params: dict[str, str], tags: dict[str, str]):
        new = NewRun(
            run_id=run, name=run, start_time=1, experiment_name=experiment, params=params, tags=tags
        )
        if run in self.purged:
            assert self.refusal("create_run", new) is Purged
            return
        if run not in self.model and experiment in self.closed:
            assert self.refusal("create_run", new) is Conflict
            return
        _, created = self.call("create_run", new)
        assert created == (run not in self.model)
        if created:
            self.model[run] = ModelRun(experiment, params=dict(params), tags=dict(tags))
            self.learn_number(experiment)

    @rule(run=st.sampled_from(RUNS), logged=points, params=PARAMS, tags=TAGS)
    def log(self, run: str, logged: Logged, params: dict[str, str], tags: dict[str, str]):
        expected = self.expected(run)
        if expected is None and self.model[run].refuses(params):
            expected = Conflict
        assert self.refusal("log", run, batch_of(logged, params, tags)) is expected
        self.sent = run, logged, params, tags
        if expected is None:
            self.model[run].add(logged, params, tags)

    @rule()
    def log_the_same_again(self) -> None:
        """As a client does that never saw the answer."""
        if self.sent:
            self.log(*self.sent)

    @rule(run=st.sampled_from(RUNS), lines=st.lists(st.sampled_from(["", "epoch 1", "\x1b[1m☃"])))
    def print_lines(self, run: str, lines: list[str]) -> None:
        told = [ConsoleLine("stdout", 5, text) for text in lines]
        expected = self.expected(run)
        assert self.refusal("log_console", run, told) is expected
        if expected is None:
            self.model[run].lines += lines

    def change(self, run: str, change: RunChange) -> bool:
        """Whether it was done, as it must be; a purged run is just not there."""
        expected = self.expected(run)
        if change.lifecycle and expected is Conflict:
            expected = None
        told = NotFound if expected is Purged else expected
        assert self.refusal("change_run", run, change) is told
        return expected is None

    @rule(
        run=st.sampled_from(RUNS),
        status=st.sampled_from(["finished", "failed", "killed", "running"]),
        at=st.integers(0, 9),
    )
    def end_or_resume(self, run: str, status: str, at: int) -> None:
        is_end = status != "running"
        change = RunChange(status=status, end_time=at if is_end else None, ending=is_end)
        if self.change(run, change) and self.model[run].status != status:
            self.model[run].status = status
            self.model[run].end_time = at if is_end else None

    @rule(run=st.sampled_from(RUNS), lifecycle=lifecycles)
    def delete_or_restore(self, run: str, lifecycle: str) -> None:
        if self.change(run, RunChange(lifecycle=lifecycle)):
            self.model[run].deleted = lifecycle == "deleted"

    @rule(run=st.sampled_from(RUNS), tags=CHANGES)
    def change_tags(self, run: str, tags: dict[str, str | None]) -> None:
        if self.change(run, RunChange(tags=tags)):
            merged = self.model[run].tags | tags
            self.model[run].tags = {key: text for key, text in merged.items() if text is not None}

    @rule(run=st.sampled_from(RUNS))
    def purge(self, run: str) -> None:
        known = run in self.model
        assert self.refusal("purges.run", run) is (None if known else NotFound)
        if known:
            self.bury(run)

    def bury(self, run: str) -> None:
        del self.model[run]
        self.purged.add(run)

    # --- files: whether the run takes them is the server's to ask ------------------------------

    @rule(run=st.sampled_from(RUNS), path=FILES, data=st.binary(max_size=8))
    def put_file(self, run: str, path: str, data: bytes) -> None:
        if run in self.model:
            self.ask(lambda tenant: tenant.artifacts.of_run(run).put(path, body(data)))
            self.model[run].files[path] = data

    @rule(run=st.sampled_from(RUNS), path=FILES | st.just("deep"))
    def delete_file(self, run: str, path: str) -> None:
        if run in self.model:
            files = self.model[run].files
            gone = [one for one in files if f"{one}/".startswith(f"{path}/")]
            deleted = self.ask(lambda tenant: tenant.artifacts.of_run(run).delete(path))
            assert deleted == bool(gone)
            for one in gone:
                del files[one]

    # --- what the store does by itself ---------------------------------------------------------

    @rule()
    def compact(self) -> None:
        self.runner.run(self.store.compact("default"))
        for run, model in self.model.items():
            for stats in self.call("series", run).series:
                assert stats.exact
                assert stats.count == len(model.series[stats.key])

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
            assert self.ask(partial(files_of, run)) == model.files
            for stats in self.call("series", run).series:
                self.compare_statistics(stats, sorted(model.series[stats.key]))
            for key, expected in model.series.items():
                self.compare_history(run, key, sorted(expected))

    @invariant()
    def what_is_not_in_the_dictionary_is_not_there(self) -> None:
        for run in set(RUNS) - set(self.model):
            assert self.refusal("run", run) is NotFound
            assert self.refusal("points", run, "loss") is (
                Purged if run in self.purged else NotFound
            )
        there = self.call("experiments", lifecycle="all").experiments
        assert {one.name: one.number for one in there} == self.numbers
        assert {one.name for one in there if one.lifecycle == "deleted"} == self.closed

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

    def compare_statistics(self, stats: Any, expected: list[tuple[int, int, int]]) -> None:
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


async def files_of(run: str, tenant: Tenant) -> dict[str, bytes]:
    files = tenant.artifacts.of_run(run)
    found = {}
    for folder in ("", "deep"):
        for entry in (await files.entries(folder)).entries:
            if not entry.is_dir:
                async with await files.open(entry.path) as file:
                    found[entry.path] = await file.read(0, 100)
    return found


def case_of(machine: Any, examples: int, steps: int) -> type:
    """A test of a machine, and how far it goes."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return type("Case", (machine.TestCase,), {"settings": chosen})


TestEngine = case_of(EngineAgainstDictionary, 15, 25)
TestEngineAtLength = pytest.mark.slow(case_of(EngineAgainstDictionary, 300, 60))
TestRegistry = case_of(RegistryAgainstDictionary, 15, 20)
