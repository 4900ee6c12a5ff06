"""The data directory: one owner, tenants that come and go, damage that stays where it is."""

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
from pathlib import Path

import pytest

from stepwell_storage import housekeeping
from stepwell_storage.descriptors import FILES_PER_TENANT, OTHER_FILES, affordable_tenants
from stepwell_storage.errors import Closed, Conflict, Corrupt, Invalid, NotFound, Unsupported
from stepwell_storage.records import ExperimentChange, RunChange, RunQuery
from stepwell_storage.store import Options, Store
from tests.storage.conftest import RUN, batch, new_run


async def test_a_second_owner_is_refused_with_the_pid_of_the_first(store: Store, data: Path):
    with pytest.raises(Unsupported, match=str(os.getpid())):
        await Store.open(data)


async def test_a_directory_is_free_once_its_owner_closed(data: Path):
    await (await Store.open(data)).close()
    await (await Store.open(data)).close()


async def test_a_read_in_an_unknown_tenant_finds_default_and_creates_nothing(
    store: Store, data: Path
):
    async with store.lease("nobody", create=False) as tenant:
        page = await tenant.experiments()
        assert [e.name for e in page.experiments] == ["Default"]
        assert (await tenant.search(RunQuery())).runs == []
        with pytest.raises(NotFound):
            await tenant.run(RUN)
    assert not (data / "tenants" / "nobody").exists()
    assert store.names() == []


async def test_a_write_to_the_empty_tenant_is_refused_rather_than_forgotten(store: Store):
    async with store.lease("nobody", create=False) as tenant:
        with pytest.raises(NotFound, match="no tenant nobody"):
            await tenant.create_run(new_run())
    assert store.names() == []


async def test_changing_a_run_does_not_make_it_look_alive(store: Store):
    async with store.lease("a", create=True) as tenant:
        await tenant.create_run(new_run())
        before = (await tenant.run(RUN)).heartbeat_at
        await asyncio.sleep(0.005)
        assert (await tenant.change_run(RUN, RunChange(name="b"))).heartbeat_at == before
        await tenant.change_run(RUN, RunChange(status="failed"))
        resumed = await tenant.change_run(RUN, RunChange(status="running"))
        assert resumed.heartbeat_at > before


async def test_the_empty_tenant_has_the_default_it_will_have(store: Store):
    async with store.lease("Later", create=False) as tenant:
        before = (await tenant.experiments()).experiments[0].experiment_id
    async with store.lease("later", create=True) as tenant:
        assert (await tenant.experiments()).experiments[0].experiment_id == before


async def test_names_are_one_whatever_their_case(store: Store, data: Path):
    async with store.lease("Acme-Corp", create=True) as tenant:
        await tenant.create_run(new_run())
    async with store.lease("aCME-cORP", create=False) as tenant:
        assert (await tenant.run(RUN)).run_id == RUN
    assert [entry.name for entry in (data / "tenants").iterdir()] == ["acme-corp"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "-a", ".a", "a" * 64, "ä", "a b", "a\0b", "a\n"]
)
async def test_a_name_that_could_climb_out_is_refused(store: Store, data: Path, name: str):
    with pytest.raises(Invalid):
        async with store.lease(name, create=True):
            pass
    assert not list((data / "tenants").iterdir())


async def test_idle_tenants_are_closed_and_come_back_whole(data: Path):
    store = await Store.open(data, Options(compact=False, max_open_tenants=3))
    for n in range(10):
        async with store.lease(f"t{n}", create=True) as tenant:
            await tenant.create_run(new_run())
            await tenant.log(RUN, batch("loss", range(n + 1)))
        assert len(store.opened()) <= 4
    for n in range(10):
        async with store.lease(f"t{n}", create=False) as tenant:
            assert len(await tenant.points(RUN, "loss")) == n + 1
            assert (await tenant.series(RUN)).series[0].count == n + 1
    await store.close()


def open_files(data: Path, ending: str = "") -> int:
    """Of this process, below the data directory."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            file = str(entry.readlink())
            found += file.startswith(str(data)) and file.endswith(ending)
    return found


async def test_many_tenants_at_work_hold_a_bounded_number_of_files(data: Path):
    store = await Store.open(data, Options(compact=False, max_open_tenants=8))

    async def use(name: str) -> None:
        async with store.lease(name, create=True) as tenant:
            await tenant.create_run(new_run())
            await tenant.log(RUN, batch("loss", range(5)))
            await asyncio.gather(*(tenant.points(RUN, "loss") for _ in range(6)))

    for first in range(0, 64, 8):
        await asyncio.gather(*(use(f"t{n}") for n in range(first, first + 8)))
        assert open_files(data) <= 1 + 9 * FILES_PER_TENANT
    assert len(store.names()) == 64
    await store.close()
    assert open_files(data) == 0


def test_fewer_tenants_stay_open_where_files_are_scarce(monkeypatch: pytest.MonkeyPatch):
    limits = [(1_024, 1_024)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    assert affordable_tenants(256) == (1_024 - OTHER_FILES) // FILES_PER_TENANT
    assert limits == [(1_024, 1_024)]
    limits.append((1_024, 1_048_576))
    assert affordable_tenants(256) == 256
    assert limits[-1] == (OTHER_FILES + 256 * FILES_PER_TENANT, 1_048_576)
    assert affordable_tenants(256) == 256  # enough by now


async def test_a_tenant_that_nobody_reads_closes_its_readers(
    data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(housekeeping, "IDLE_S", 0.2)
    store = await Store.open(data)
    async with store.lease("default", create=True) as tenant:
        await tenant.create_run(new_run())
        await tenant.log(RUN, batch("loss", range(5)))
        await asyncio.gather(*(tenant.points(RUN, "loss") for _ in range(4)))
        assert open_files(data, "-wal") > 1
        # SQLite keeps the descriptor of the database itself for the next reader: closing it would
        # take the writer's lock away.
        async with asyncio.timeout(20):
            while open_files(data, "-wal") > 1:
                await asyncio.sleep(0.05)
        assert len(await tenant.points(RUN, "loss")) == 5
    await store.close()
    assert open_files(data) == 0


async def test_tenants_in_use_are_not_evicted(data: Path):
    store = await Store.open(data, Options(compact=False, max_open_tenants=2))

    async def use(name: str) -> None:
        async with store.lease(name, create=True) as tenant:
            await tenant.create_run(new_run())
            for step in range(5):
                await tenant.log(RUN, batch("loss", [step]))
                await asyncio.sleep(0.002)
            assert len(await tenant.points(RUN, "loss")) == 5

    await asyncio.gather(*(use(f"t{n % 6}x{n}") for n in range(12)))
    await store.close()


async def test_one_file_never_has_two_writers_while_tenants_churn(data: Path):
    store = await Store.open(data, Options(compact=False, max_open_tenants=1))

    async def use(name: str, step: int) -> None:
        async with store.lease(name, create=True) as tenant:
            run = f"{step:032x}"
            await tenant.create_run(new_run(run))
            await tenant.log(run, batch("loss", range(3)))

    await asyncio.gather(*(use(f"t{n % 3}", n) for n in range(60)))
    for name in ("t0", "t1", "t2"):
        async with store.lease(name, create=False) as tenant:
            assert (await tenant.search(RunQuery())).total == 20
    await store.close()


async def test_a_copied_folder_is_a_tenant(data: Path, tmp_path: Path):
    store = await Store.open(data, Options(compact=False))
    async with store.lease("a", create=True) as tenant:
        await tenant.create_run(new_run())
        await tenant.log(RUN, batch("loss", range(10)))
    await store.close()
    shutil.copytree(data / "tenants" / "a", tmp_path / "other" / "tenants" / "b")
    other = await Store.open(tmp_path / "other")
    async with other.lease("b", create=False) as tenant:
        assert len(await tenant.points(RUN, "loss")) == 10
    await other.close()


async def test_a_damaged_tenant_leaves_the_others_alone(store: Store, data: Path):
    async with store.lease("good", create=True) as tenant:
        await tenant.create_run(new_run())
    bad = data / "tenants" / "bad"
    bad.mkdir()
    (bad / "tenant.db").write_bytes(b"no database at all" * 1_000)
    with pytest.raises(Corrupt, match="tenant bad"):
        async with store.lease("bad", create=True):
            pass
    async with store.lease("good", create=False) as tenant:
        assert (await tenant.run(RUN)).run_id == RUN


async def test_a_file_of_a_newer_version_is_refused_with_advice(store: Store, data: Path):
    async with store.lease("a", create=True):
        pass
    await store.close()
    with sqlite3.connect(data / "tenants" / "a" / "tenant.db") as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    store = await Store.open(data)
    with pytest.raises(Unsupported, match="newer Stepwell"):
        async with store.lease("a", create=True):
            pass
    await store.close()


async def test_after_close_every_call_says_so(data: Path):
    store = await Store.open(data)
    await store.close()
    with pytest.raises(Closed):
        async with store.lease("a", create=True):
            pass


async def test_what_was_queued_at_close_is_committed(data: Path):
    store = await Store.open(data, Options(compact=False))
    async with store.lease("a", create=True) as tenant:
        await tenant.create_run(new_run())
        pending = [
            asyncio.ensure_future(tenant.log(RUN, batch("loss", [step]))) for step in range(50)
        ]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*pending)
    store = await Store.open(data, Options(compact=False))
    async with store.lease("a", create=False) as tenant:
        assert len(await tenant.points(RUN, "loss")) == 50
    await store.close()


async def test_a_deleted_experiment_takes_its_runs_along_and_brings_them_back(store: Store):
    async with store.lease("a", create=True) as tenant:
        run, created = await tenant.create_run(new_run(experiment_name="e"))
        assert created
        await tenant.log(RUN, batch("loss", [1]))
        await tenant.change_experiment(run.experiment_id, ExperimentChange(lifecycle="deleted"))
        assert (await tenant.run(RUN)).lifecycle == "deleted"
        with pytest.raises(Conflict):
            await tenant.log(RUN, batch("loss", [2]))
        with pytest.raises(Conflict):
            await tenant.create_run(new_run(f"{2:032x}", experiment_name="e"))
        await tenant.change_experiment(run.experiment_id, ExperimentChange(lifecycle="active"))
        await tenant.log(RUN, batch("loss", [2]))
        assert len(await tenant.points(RUN, "loss")) == 2


async def test_an_experiment_named_by_many_at_once_is_made_once(store: Store):
    async with store.lease("a", create=True) as tenant:
        made = await asyncio.gather(
            *(
                tenant.create_run(new_run(f"{n:032x}", experiment_name="shared"))
                for n in range(1, 40)
            )
        )
        assert len({run.experiment_id for run, _ in made}) == 1
        assert all(created for _, created in made)
        assert (await tenant.experiments()).total == 2


async def test_the_same_run_id_made_by_many_at_once_is_made_once(store: Store):
    async with store.lease("a", create=True) as tenant:
        made = await asyncio.gather(*(tenant.create_run(new_run()) for _ in range(20)))
        assert sum(created for _, created in made) == 1
        assert {run.run_id for run, _ in made} == {RUN}


async def test_the_same_end_changes_nothing_and_another_wins(store: Store):
    async with store.lease("a", create=True) as tenant:
        await tenant.create_run(new_run())
        end = RunChange(status="finished", end_time=5_000, ending=True)
        first = await tenant.change_run(RUN, end)
        again = await tenant.change_run(
            RUN, RunChange(status="finished", end_time=9_000, ending=True)
        )
        assert (first.status, first.end_time) == (again.status, again.end_time)
        other = await tenant.change_run(RUN, RunChange(status="failed", end_time=9_000))
        assert (other.status, other.end_time) == ("failed", 9_000)
        resumed = await tenant.change_run(RUN, RunChange(status="running"))
        assert (resumed.status, resumed.end_time) == ("running", None)


async def test_a_parameter_that_would_change_fails_the_whole_batch(store: Store):
    async with store.lease("a", create=True) as tenant:
        await tenant.create_run(new_run(params={"lr": "0.1"}))
        bad = batch("loss", [1])
        bad.params = {"new": "1", "lr": "0.2"}
        bad.tags = {"t": "1"}
        good = batch("acc", [1])
        results = await asyncio.gather(
            tenant.log(RUN, bad), tenant.log(RUN, good), return_exceptions=True
        )
        assert isinstance(results[0], Conflict)
        assert not isinstance(results[1], BaseException)
        run = await tenant.run(RUN)
        assert (run.params, run.tags, list(run.metrics)) == ({"lr": "0.1"}, {}, ["acc"])


async def test_a_cancelled_request_cancels_nothing_that_was_queued(store: Store):
    async with store.lease("a", create=True) as tenant:
        await tenant.create_run(new_run())
        tasks = [asyncio.ensure_future(tenant.log(RUN, batch("loss", [n]))) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 10
        assert len(await tenant.points(RUN, "loss")) == 20
        await tenant.log(RUN, batch("loss", [99]))  # no transaction was left open
        assert len(await tenant.points(RUN, "loss")) == 21
