"""Runs as a list shows them: whole, or cut where it says so."""

import pytest

from stepwell_storage.records import Batch, RunQuery
from stepwell_storage.tenant import Tenant
from tests.storage.run_sets import RunSet, log_into, random_runs


@pytest.fixture(scope="module")
def run_set(tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    return RunSet(tmp_path_factory.mktemp("runs"), random_runs(3, 90))


def test_every_run_is_whole(run_set: RunSet) -> None:
    runs, reader = run_set
    found = {run.run_id: run for run in reader.find(lifecycle="all", limit=1_000).runs}
    for run in runs:
        have = found[run.run_id]
        assert (have.name, have.description, have.status) == (run.name, run.description, run.status)
        assert (have.user_id, have.parent_run_id) == (run.user_id, run.parent_run_id)
        assert (have.start_time, have.end_time) == (run.start_time, run.end_time)
        assert (have.experiment_id, have.lifecycle) == (run.experiment_id, run.lifecycle)
        assert have.stop_requested is False
        assert have.truncated is False
        assert (have.tags, have.params) == (run.tags, run.params)
        last = {key: repr(values[-1]) for key, values in run.metrics.items()}
        assert {key: repr(value) for key, value in have.metrics.items()} == last


async def test_a_list_carries_the_named_keys_or_a_hundred_of_each(tenant: Tenant) -> None:
    run, other = random_runs(7, 2)
    run.metrics = {f"m{n:03}": [float(n)] for n in range(150)}
    run.params = {f"p{n:03}": str(n) for n in range(101)}
    run.tags = {f"t{n:03}": str(n) for n in range(120)}
    other.metrics, other.params = {"m000": [1.0]}, {f"p{n:03}": "x" for n in range(100)}
    for one in (run, other):
        one.lifecycle = "active"
    await log_into(tenant, [run, other])

    found = {run.run_id: run for run in (await tenant.search(RunQuery())).runs}
    assert (len(found[run.run_id].metrics), len(found[run.run_id].params)) == (100, 100)
    assert found[run.run_id].metrics == {f"m{n:03}": float(n) for n in range(100)}
    assert found[run.run_id].truncated
    assert found[run.run_id].tags == run.tags
    assert (found[other.run_id].params, found[other.run_id].truncated) == (other.params, False)

    keys = ("m149", "p100", "p100", "t001", "unknown")
    found = {run.run_id: run for run in (await tenant.search(RunQuery(keys=keys))).runs}
    assert found[run.run_id].metrics == {"m149": 149.0}
    assert found[run.run_id].params == {"p100": "100"}
    assert found[run.run_id].tags == run.tags
    assert not found[run.run_id].truncated
    found = {run.run_id: run for run in (await tenant.search(RunQuery(keys=()))).runs}
    assert (found[run.run_id].metrics, found[run.run_id].params) == ({}, {})

    one_run = await tenant.run(run.run_id)
    assert (len(one_run.metrics), one_run.params, one_run.truncated) == (150, run.params, False)
    assert (await tenant.run(run.run_id, max_keys=149)).truncated


async def test_ranks_that_write_are_listed(tenant: Tenant) -> None:
    (run,) = random_runs(8, 1)
    run.lifecycle = "active"
    await log_into(tenant, [run])
    for rank in (0, 3):
        await tenant.log(run.run_id, Batch(rank=rank))
    assert set((await tenant.run(run.run_id)).writers) == {"0", "3"}
    assert set((await tenant.search(RunQuery())).runs[0].writers) == {"0", "3"}
