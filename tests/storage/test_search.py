"""Searches: the order is total, every page is where it should be, every run whole."""

import contextlib
import functools
import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings, strategies as st

from stepwell.ids import new_run_id
from stepwell_storage import cursors, plan
from stepwell_storage.errors import BadCursor, Invalid
from stepwell_storage.records import Batch, RunChange, RunQuery
from stepwell_storage.tenant import Tenant
from tests.storage.conftest import batch, new_run
from tests.storage.naive_filters import NUMBER_ATTRIBUTES, TEXT_ATTRIBUTES, as_number, metric
from tests.storage.run_sets import (
    METRICS,
    PARAMS,
    TAGS,
    FileReader,
    Logged,
    RunSet,
    log_into,
    random_runs,
    saved,
)

Key = Callable[[Logged], tuple[Any, ...]]
"""How present the value is, then the value: for one direction, and for the other."""


@pytest.fixture(scope="module")
def run_set(tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    return RunSet(tmp_path_factory.mktemp("runs"), random_runs(3, 90))


# --- order ---------------------------------------------------------------------------------------


def presence(run: Logged, entity: str, key: str, aggregate: str) -> tuple[int, Any]:
    """(0, value) of what is there, then (1, ...) NaN or a parameter's text, then (2, ...)."""
    value: Any
    if entity == "metrics":
        value = metric(run, key, aggregate or "last")
        if value is None or value != value:
            return (2 if value is None else 1), 0
        return 0, (value, math.copysign(1, value))
    if entity == "params":
        text = run.params.get(key)
        number = as_number(text)
        if number is not None:
            return 0, (number, math.copysign(1, number))
        return (2, "") if text is None else (1, text)
    if entity == "tags":
        value = run.tags.get(key)
    else:
        value = {**TEXT_ATTRIBUTES, **NUMBER_ATTRIBUTES}[key][0](run)
    return (2, 0) if value is None else (0, value)


Item = tuple[str, str, str, bool]
"""Entity, key, aggregate, descending."""


def ordered(runs: list[Logged], items: list[Item]) -> list[str]:
    def compare(one: Logged, other: Logged) -> int:
        for entity, key, aggregate, descending in items:
            a, b = presence(one, entity, key, aggregate), presence(other, entity, key, aggregate)
            if a[0] != b[0]:
                return a[0] - b[0]
            if a[1] != b[1]:
                return (1 if a[1] > b[1] else -1) * (-1 if descending else 1)
        return 1 if one.run_id > other.run_id else -1

    return [run.run_id for run in sorted(runs, key=functools.cmp_to_key(compare))]


def written(item: Item) -> str:
    entity, key, aggregate, descending = item
    name = entity + ".`" + key.replace("`", "``") + "`"
    return (f"{aggregate}({name})" if aggregate else name) + (" DESC" if descending else "")


ITEMS: st.SearchStrategy[Item] = st.one_of(
    st.tuples(
        st.just("metrics"),
        st.sampled_from([*METRICS, "unknown"]),
        st.sampled_from(["", "min", "max", "count"]),
        st.booleans(),
    ),
    st.tuples(
        st.just("params"), st.sampled_from([*PARAMS, "unknown"]), st.just(""), st.booleans()
    ),
    st.tuples(st.just("tags"), st.sampled_from([*TAGS, "unknown"]), st.just(""), st.booleans()),
    st.tuples(
        st.just("attributes"),
        st.sampled_from(
            ["run_id", "name", "status", "user_id", "parent_run_id", "description", "lifecycle",
             "experiment", "experiment_id", "start_time", "end_time", "duration", "heartbeat_at"]
        ),
        st.just(""),
        st.booleans(),
    ),
)  # fmt: skip
ORDERS = st.lists(ITEMS, min_size=1, max_size=3, unique_by=lambda item: item[:3])
FILTERS: dict[str, Callable[[Logged], bool]] = {
    "": lambda run: True,
    "metrics.loss is not null": lambda run: "loss" in run.metrics,
    "metrics.loss is not null and params.lr is not null": lambda run: (
        "loss" in run.metrics and "lr" in run.params
    ),
    "params.lr is not null or tags.team is null": lambda run: (
        "lr" in run.params or "team" not in run.tags
    ),
}


@settings(max_examples=200, deadline=None)
@given(
    items=ORDERS,
    limit=st.integers(1, 40),
    filter=st.sampled_from(list(FILTERS)),
    total=st.booleans(),
    lifecycle=st.sampled_from(["all", "active"]),
)
def test_pages_by_cursor_give_every_run_once_and_in_order(
    run_set: RunSet, items: list[Item], limit: int, filter: str, total: bool, lifecycle: str
) -> None:
    query = {"limit": limit, "filter": filter, "total": total, "lifecycle": lifecycle}
    follow(run_set, items, query)


@settings(max_examples=200, deadline=None)
@given(
    items=ORDERS,
    limit=st.integers(1, 4),
    filter=st.sampled_from(list(FILTERS)),
    lifecycle=st.sampled_from(["all", "active"]),
    sample=st.sampled_from([(1, 1), (1, 4), (1, 9)]),
)
def test_pages_by_a_sample_give_every_run_once_and_in_order(
    run_set: RunSet,
    items: list[Item],
    limit: int,
    filter: str,
    lifecycle: str,
    sample: tuple[int, int],
) -> None:
    """With bounds that take so few runs for enough."""
    with mock.patch.multiple(plan, _SAMPLE=sample[0], _MIN_SAMPLE=sample[1]):
        query = {"limit": limit, "filter": filter, "total": True, "lifecycle": lifecycle}
        follow(run_set, items, query)


def follow(run_set: RunSet, items: list[Item], query: dict[str, Any]) -> None:
    """Page by page, from the first to the last."""
    runs, reader = run_set
    limit, total = query["limit"], query["total"]
    holds = FILTERS[query["filter"]]
    runs = [r for r in runs if holds(r) and query["lifecycle"] in (r.lifecycle, "all")]
    query["order_by"] = tuple(map(written, items))
    found: list[str] = []
    cursor = None
    while len(found) <= len(runs):
        page = reader.find(cursor=cursor, **query)
        assert page.total == (len(runs) if total else None)
        found += [run.run_id for run in page.runs]
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.runs) == limit
    assert found == ordered(runs, items)


@settings(max_examples=30, deadline=None)
@given(items=ORDERS, limit=st.integers(1, 40), offset=st.integers(0, 120))
def test_pages_by_offset_are_slices_of_the_same_order(
    run_set: RunSet, items: list[Item], limit: int, offset: int
) -> None:
    runs, reader = run_set
    order_by = tuple(map(written, items))
    page = reader.find(order_by=order_by, limit=limit, offset=offset, lifecycle="all")
    expected = ordered(runs, items)
    assert [run.run_id for run in page.runs] == expected[offset : offset + limit]
    assert page.total == len(runs)
    assert (page.next_cursor is None) == (offset + limit >= len(runs))


def test_the_newest_come_first_unless_told_otherwise(run_set: RunSet) -> None:
    runs, reader = run_set
    expected = ordered(runs, [("attributes", "start_time", "", True)])
    assert reader.ids(lifecycle="all") == expected
    pages, cursor = [], None
    for _ in range(9):
        page = reader.find(lifecycle="all", limit=10, cursor=cursor)
        pages += [run.run_id for run in page.runs]
        cursor = page.next_cursor
    assert pages == expected
    assert cursor is None


@pytest.mark.parametrize("limit", [1, 2, 7, 40])
@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("window", [1, 3, 20])
def test_every_way_to_begin_finds_the_same_runs(
    run_set: RunSet, limit: int, total: bool, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the newest runs, by number, with a rare key, with a rare parameter, with a time."""
    monkeypatch.setattr(plan, "_WINDOW", window)
    runs, reader = run_set
    filters: dict[str, Callable[[Logged], bool]] = {
        "metrics.loss is not null": lambda run: "loss" in run.metrics,
        "metrics.rare is not null": lambda run: "rare" in run.metrics,
        "params.lr = 'é' and metrics.loss is not null": lambda run: (
            run.params.get("lr") == "é" and "loss" in run.metrics
        ),
        "start_time < 0 and tags.team is null": lambda run: (
            run.start_time < 0 and "team" not in run.tags
        ),
    }
    for filter, holds in filters.items():
        expected = [run for run in runs if holds(run)]
        found: list[str] = []
        cursor = None
        while len(found) <= len(expected):
            page = reader.find(
                filter=filter, limit=limit, total=total, cursor=cursor, lifecycle="all"
            )
            found += [run.run_id for run in page.runs]
            cursor = page.next_cursor
            assert page.total == (len(expected) if total else None)
            if cursor is None:
                break
        assert found == ordered(expected, [("attributes", "start_time", "", True)])


async def test_a_key_that_appears_between_two_pages_spoils_no_cursor(tenant: Tenant) -> None:
    """Nothing has the key at first, so the order is by run id alone; then a run of the first page
    gets it, which moves that run and no other."""
    runs = [run for run in random_runs(5, 30) if run.lifecycle == "active"]
    await log_into(tenant, runs)
    ids = sorted(run.run_id for run in runs)
    fresh = {
        "metrics.one desc": batch("one", [1]),
        "params.two": Batch(params={"two": "2"}),
        "tags.three": Batch(tags={"three": "3"}),
    }
    for order, logged in fresh.items():
        query = RunQuery(order_by=(order,), limit=10)
        first = await tenant.search(query)
        assert [run.run_id for run in first.runs] == ids[:10]
        await tenant.log(ids[3], logged)
        assert (await tenant.search(query)).runs[0].run_id == ids[3]
        second = await tenant.search(replace(query, cursor=first.next_cursor))
        assert [run.run_id for run in second.runs] == ids[10:20]


async def test_long_texts_order_by_their_beginning_and_their_cursors_stay_short(
    tenant: Tenant,
) -> None:
    beginning = "日" * 250
    runs = random_runs(6, 8)
    for number, run in enumerate(runs):
        run.lifecycle = "active"
        run.params = {"text": beginning + "z" * (8 - number)}
    await log_into(tenant, runs)
    query = RunQuery(order_by=("params.text",), limit=3)
    page = await tenant.search(query)
    found = [run.run_id for run in page.runs]
    while page.next_cursor:
        assert len(page.next_cursor) < 1_200
        page = await tenant.search(replace(query, cursor=page.next_cursor))
        found += [run.run_id for run in page.runs]
    assert found == sorted(run.run_id for run in runs)


def test_the_same_field_twice_is_no_order(run_set: RunSet) -> None:
    for twice in (
        ("metrics.loss", "metric.loss desc"),
        ("metrics.loss", "last(metrics.loss)"),
        ("start_time", "attributes.created desc"),
        ("name", "`run name`"),
        ("params.unknown", "params.unknown"),
    ):
        with pytest.raises(Invalid, match="twice") as caught:
            run_set.reader.find(order_by=twice)
        assert caught.value.path == "order_by"
    run_set.reader.find(order_by=("metrics.loss", "min(metrics.loss)", "params.loss"))


# --- what narrows a search -----------------------------------------------------------------------


def test_experiments_statuses_and_lifecycle_narrow_the_search(run_set: RunSet) -> None:
    runs, reader = run_set
    ids = {run.experiment: run.experiment_id for run in runs}
    assert len(ids) > 2
    for experiments in (["fraud"], ["Default", "it's"]):
        for statuses in ((), ("failed",), ("running", "killed", "nonsense")):
            for lifecycle in ("active", "deleted", "all"):
                for filter in ("", "metrics.loss is not null"):
                    expected = {
                        run.run_id
                        for run in runs
                        if run.experiment in experiments
                        and (not statuses or run.status in statuses)
                        and lifecycle in (run.lifecycle, "all")
                        and (not filter or "loss" in run.metrics)
                    }
                    page = reader.find(
                        experiment_ids=tuple(ids[name] for name in experiments),
                        statuses=statuses,
                        lifecycle=lifecycle,
                        filter=filter,
                        limit=1_000,
                    )
                    assert {run.run_id for run in page.runs} == expected
                    assert page.total == len(expected)


def test_unknown_experiments_have_no_runs_and_hide_no_others(run_set: RunSet) -> None:
    runs, reader = run_set
    unknown = "00000000-0000-0000-0000-000000000000"
    page = reader.find(experiment_ids=(unknown,))
    assert (page.runs, page.total, page.next_cursor) == ([], 0, None)
    page = reader.find(experiment_ids=(unknown, runs[0].experiment_id), lifecycle="all")
    assert page.total == sum(run.experiment == runs[0].experiment for run in runs)


@pytest.mark.parametrize("filter", ["", "metrics.loss is not null", "name = 'x'", "metrics.no = 1"])
@pytest.mark.parametrize("total", [True, False])
async def test_an_empty_tenant_answers_with_an_empty_page(
    tenant: Tenant, filter: str, total: bool
) -> None:
    page = await tenant.search(
        RunQuery(filter=filter, order_by=("metrics.loss", "params.x desc"), total=total)
    )
    assert (page.runs, page.next_cursor, page.total) == ([], None, 0 if total else None)


def test_a_tenant_whose_runs_are_gone_for_good_is_searched_like_an_empty_one(
    tmp_path: Path,
) -> None:
    """The keys are still known, and nothing has them."""
    path = saved(tmp_path, random_runs(9, 3))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for table in ("run", "param", "tag", "series"):
            connection.execute(f"delete from {table}")  # noqa: S608  # one of four
    reader = FileReader(path)
    for filter in ("", "metrics.loss < 1", "params.lr is null", "start_time = 0 or tags.team = ''"):
        for order in ("start_time desc", "metrics.loss"):
            page = reader.find(filter=filter, order_by=(order,))
            assert (page.runs, page.total, page.next_cursor) == ([], 0, None)


async def test_runs_that_are_gone_while_rows_of_theirs_are_there_are_not_counted(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_WINDOW", 1)
    names = [new_run_id("acme") for _ in range(6)]
    for number, run_id in enumerate(names):
        await tenant.create_run(new_run(run_id, params={"lr": "1"}))
        await tenant.log(run_id, batch("loss", [0], value=float(number)))
    await tenant.change_run(names[0], RunChange(lifecycle="deleted"))
    await tenant.purges.run(names[1])
    filter = "metrics.loss < 5 and params.lr = '1'"
    for lifecycle, expected in (("active", names[2:5]), ("all", [names[0], *names[2:5]])):
        for limit in (2, 50):  # the total is counted by itself, or with the page
            page = await tenant.search(RunQuery(filter=filter, lifecycle=lifecycle, limit=limit))
            assert len(page.runs) == min(limit, len(expected))
            assert {run.run_id for run in page.runs} <= set(expected)
            assert page.total == len(expected)


def test_beyond_the_last_page_the_total_is_still_right(run_set: RunSet) -> None:
    runs, reader = run_set
    for filter in ("", "metrics.loss is not null"):
        page = reader.find(filter=filter, offset=5_000, lifecycle="all")
        assert (page.runs, page.next_cursor) == ([], None)
        assert page.total == sum(not filter or "loss" in run.metrics for run in runs)
    page = reader.find(limit=0, lifecycle="all")
    assert (page.runs, page.next_cursor, page.total) == ([], None, len(runs))


@pytest.mark.parametrize(
    ("path", "value"), [("lifecycle", "gone"), ("limit", -1), ("offset", -1), ("offset", 2**64)]
)
def test_nonsense_is_named(run_set: RunSet, path: str, value: Any) -> None:
    with pytest.raises(Invalid) as caught:
        run_set.reader.find(**{path: value})
    assert caught.value.path == path


# --- cursors -------------------------------------------------------------------------------------


def test_a_cursor_belongs_to_its_question(run_set: RunSet) -> None:
    reader = run_set.reader
    query = {"filter": "start_time is not null", "order_by": ("metrics.loss desc",), "limit": 5}
    cursor = reader.find(**query).next_cursor
    assert cursor
    assert len(reader.find(**query | {"cursor": cursor, "limit": 7, "total": False}).runs) == 7
    for other in (
        {"filter": ""},
        {"order_by": ("metrics.loss",)},
        {"order_by": ()},
        {"statuses": ("failed",)},
        {"lifecycle": "all"},
        {"experiment_ids": (run_set.runs[0].experiment_id,)},
    ):
        with pytest.raises(BadCursor):
            reader.find(**query | other, cursor=cursor)


def test_damaged_and_forged_cursors_are_refused(run_set: RunSet) -> None:
    reader = run_set.reader
    query = {"order_by": ("metrics.loss desc", "name"), "limit": 5}
    cursor = reader.find(**query).next_cursor
    assert cursor
    fingerprint, loss, name, run_id = cursors.decode("runs", cursor)
    forged = [
        (fingerprint,),
        (fingerprint, loss, name),
        (fingerprint, loss, name, run_id, run_id),
        (fingerprint, name, loss, run_id),
        (fingerprint, loss, name, 5),
        (fingerprint, str(loss), name, run_id),
        (fingerprint, loss, name.encode(), run_id),
        (5, loss, name, run_id),
        (),
    ]
    bad = [cursors.encode("runs", *values) for values in forged]
    bad += [cursors.encode("series", name), cursor[:-1], cursor + "A", "", "?", "a" * 100]
    for text in bad:
        with pytest.raises(BadCursor):
            reader.find(cursor=text, **query)


# --- cost ----------------------------------------------------------------------------------------


def test_the_number_of_statements_does_not_grow_with_the_page(run_set: RunSet) -> None:
    reader = run_set.reader
    counts = []
    for limit in (1, 80):
        reader.asked.clear()
        reader.find(limit=limit, lifecycle="all", filter="metrics.loss is not null")
        counts.append(len(reader.asked))
    assert counts[0] == counts[1] <= 12


@pytest.mark.parametrize(
    ("filter", "order_by"),
    [
        ("metrics.loss < 0.3", ("metrics.loss",)),
        ("metrics.loss < 0.3 and params.model = 'xgboost' and tags.team = 'a'", ("name",)),
        ("params.lr = 0.1", ()),
        ("metrics.rare is not null or not params.lr = 0.1", ("params.model", "tags.team desc")),
        ("params.model like 'x%' and params.model is null", ("min(metrics.loss) desc",)),
        ("", ("metrics.loss", "params.lr")),
    ],
)
@pytest.mark.parametrize("total", [True, False])
def test_rows_of_keys_are_looked_up_and_never_scanned(
    run_set: RunSet, filter: str, order_by: tuple[str, ...], total: bool
) -> None:
    reader = run_set.reader
    reader.asked.clear()
    reader.find(filter=filter, order_by=order_by, total=total, lifecycle="all")
    steps = reader.plans()
    assert len(steps) > 5
    joined = [step for step in steps if step.split()[1][0] in "mpt" and step.split()[1] != "tag"]
    assert joined
    assert not [step for step in steps if step.startswith("SCAN") and step in joined]
    assert not [step for step in steps if "AUTOMATIC" in step]


def test_a_rare_value_is_found_by_its_index(run_set: RunSet) -> None:
    reader = run_set.reader
    for filter, index in [
        ("params.lr = 'é' and metrics.loss is not null", "param_by_value (key=? AND value=?"),
        ("params.lr = 9007199254740992 and metrics.loss < 1", "param_by_number (key=? AND number"),
        ("tags.team = 'é' and metrics.loss is not null", "tag_by_value (key=? AND value=?"),
        ("run_id = 'x' and metrics.loss is not null", "(run_id=?"),
        ("parent_run_id = 'x' and metrics.loss is not null", "run_by_parent (parent_run_id=?"),
    ]:
        reader.asked.clear()
        reader.find(filter=filter, order_by=("name",), lifecycle="all")
        assert any(index in step for step in reader.plans()), (filter, reader.plans())


def test_the_default_page_ends_where_the_page_ends(run_set: RunSet) -> None:
    reader = run_set.reader
    reader.asked.clear()
    reader.find(total=False)
    assert not [step for step in reader.plans() if "TEMP B-TREE" in step]
