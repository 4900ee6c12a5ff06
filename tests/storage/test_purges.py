"""Deletion for good: nothing is left, in slices, whatever interrupts it; the id is used up."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from stepwell_storage import purges
from stepwell_storage.check import verify
from stepwell_storage.errors import Conflict, NotFound, Purged
from stepwell_storage.records import (
    ConsoleLine,
    Dataset,
    DatasetUse,
    ExperimentChange,
    ModelUse,
    NewModel,
    RunChange,
    RunQuery,
)
from stepwell_storage.store import Options
from stepwell_storage.tenant import Tenant
from tests.storage.conftest import RUN, Opening, batch, new_run

OTHER = "1" * 32
MODEL = "m-" + "2" * 32
QUIET = Options(compact=False)
OF_RUNS = ("param", "tag", "fresh_param", "fresh_tag", "series", "journal", "journal_run", "chunk",
           "writer", "dataset_use",
           "dataset_use_tag", "model_use", "console")  # fmt: skip


async def body(data: bytes):
    yield data


async def fill(tenant: Tenant, run_id: str, experiment: str = "lab") -> None:
    """A run with something in every table, sealed and not."""
    new = new_run(run_id, experiment_name=experiment, params={"lr": "1"}, tags={"t": "a"})
    await tenant.create_run(new)
    await tenant.log(run_id, batch("loss", range(30_000)))
    ranked = batch("acc", range(10))
    ranked.rank = 1
    await tenant.log(run_id, ranked)
    await tenant.log_console(run_id, [ConsoleLine("stdout", 1, "hello")])
    data = Dataset("d", run_id[:8], "local", "{}", None, None)
    await tenant.datasets.link(run_id, [DatasetUse(data, {"context": "train"})],
                               [ModelUse("output", MODEL, 0)])  # fmt: skip
    await tenant.artifacts.of_run(run_id).put("deep/card.md", body(b"# card"))


def counts(data: Path) -> dict[str, int]:
    """Rows of each table that belongs to runs."""
    path = data / "tenants" / "acme" / "tenant.db"
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return {
            table: connection.execute(f"select count(*) from {table}").fetchone()[0]  # noqa: S608
            for table in (*OF_RUNS, "run", "dataset")
        }


async def everything(tenant: Tenant) -> set[str]:
    page = await tenant.search(RunQuery(lifecycle="all"))
    return {run.run_id for run in page.runs}


async def test_nothing_of_a_purged_run_is_left_and_nothing_else_is_touched(
    data: Path, opening: Opening
):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await fill(tenant, OTHER)
        await store.compact("acme")
        before = counts(data)
        await fill(tenant, RUN)
        await store.compact("acme")
        await tenant.log(RUN, batch("loss", range(30_000, 30_100)))
        await tenant.purges.run(RUN)
        assert await everything(tenant) == {OTHER}
        await store.dispose("acme")
        assert counts(data) == before
        assert not (data / "tenants/acme/artifacts/runs" / RUN).exists()
        assert not (data / "tenants/acme" / purges.MARKER).exists()
        assert len(await tenant.points(OTHER, "loss")) == 30_000
    await store.close()
    assert (await verify(data)).problems == []


async def test_its_id_is_unknown_to_readers_and_refused_to_writers_for_ever(
    data: Path, opening: Opening
):
    store = await opening(data, QUIET)
    for _ in range(2):
        async with store.lease("acme", create=True) as tenant:
            if not tenant.writer.catalog.any_purged:
                await fill(tenant, RUN)
                await tenant.purges.run(RUN)
            for call in (
                tenant.run(RUN), tenant.log(RUN, batch("loss", [1])), tenant.create_run(new_run()),
                tenant.change_run(RUN, RunChange(lifecycle="active")), tenant.purges.run(RUN),
            ):  # fmt: skip
                with pytest.raises(NotFound):
                    await call
            with pytest.raises(Purged):
                await tenant.create_run(new_run())
            with pytest.raises(Purged):
                await tenant.log(RUN, batch("loss", [1]))
        await store.close()
        store = await opening(data, QUIET)
    await store.close()


async def test_a_batch_and_a_creation_queued_behind_the_purge_leave_nothing(
    data: Path, opening: Opening
):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await fill(tenant, RUN)
        done = await asyncio.gather(
            tenant.log(RUN, batch("loss", [50_000])),
            tenant.purges.run(RUN),
            *(tenant.log(RUN, batch("loss", [60_000 + n])) for n in range(5)),
            tenant.create_run(new_run()),
            return_exceptions=True,
        )
        assert isinstance(done[-1], Purged)
        await store.dispose("acme")
        assert set(counts(data).values()) == {0}
        assert tenant.writer.backlog.bytes == tenant.writer.backlog.points == 0
    await store.close()
    assert (await verify(data)).problems == []


@pytest.mark.parametrize("slices", [0, 1, 2, 3, 5, 8, 12])
async def test_a_purge_that_is_interrupted_goes_on_at_the_next_start(
    data: Path, slices: int, monkeypatch: pytest.MonkeyPatch, opening: Opening
):
    monkeypatch.setattr(purges, "SLICE_BYTES", 1)
    monkeypatch.setattr(purges, "SLICE_ROWS", 1)
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await fill(tenant, RUN)
        await store.compact("acme")
        await tenant.log(RUN, batch("loss", range(7)))
        await tenant.purges.run(RUN)
        for _ in range(slices):
            await tenant.purges.dispose()
    await store.close()
    assert (data / "tenants/acme" / purges.MARKER).exists()
    assert (await verify(data)).problems == []  # in the middle of it, too
    store = await opening(data, Options())  # by itself, though nobody asks for this tenant
    for _ in range(200):
        if not (data / "tenants/acme" / purges.MARKER).exists():
            break
        await asyncio.sleep(0.05)
    assert set(counts(data).values()) == {0}
    await store.close()
    assert (await verify(data)).problems == []


async def test_an_experiment_goes_with_all_that_it_has_and_its_name_is_free(
    data: Path, opening: Opening
):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await fill(tenant, OTHER, "other")
        for number in range(250):
            await tenant.create_run(new_run(f"{number:032x}", experiment_name="lab"))
        await fill(tenant, RUN)
        lab = await tenant.experiment_by_name("lab")
        await tenant.models.create(NewModel(MODEL, lab.number, "net"))
        await tenant.artifacts.of_model(MODEL).put("w.bin", body(b"1"))
        await tenant.purges.experiment(lab.experiment_id)
        with pytest.raises(NotFound):
            await tenant.experiment(lab.experiment_id)
        with pytest.raises(NotFound):
            await tenant.models.get(MODEL, deleted=True)
        assert await everything(tenant) == {OTHER}
        again = await tenant.create_experiment("lab")
        assert again.number > lab.number  # in MLflow's protocol it is the id: never used twice
        await store.dispose("acme")
        assert counts(data)["run"] == 1
        assert not (data / "tenants/acme/artifacts/models").exists()
    await store.close()
    assert (await verify(data)).problems == []


async def test_an_experiment_that_is_being_purged_cannot_be_restored(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await fill(tenant, RUN)
        lab = await tenant.experiment_by_name("lab")
        await tenant._change(lambda tx: tenant.purges._condemn(tx, lab.experiment_id))
        with pytest.raises(Conflict, match="deleted for good"):
            await tenant.change_experiment(lab.experiment_id, ExperimentChange(lifecycle="active"))
        with pytest.raises(Conflict):
            await tenant.create_run(new_run(OTHER, experiment_name="lab"))
    await store.close()
    store = await opening(data, QUIET)
    async with store.lease("acme", create=False) as tenant:
        assert tenant.purges.pending
        await store.dispose("acme")
        assert await everything(tenant) == set()
        with pytest.raises(NotFound):
            await tenant.experiment(lab.experiment_id)
    await store.close()


async def test_default_cannot_be_purged(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        default = await tenant.experiment_by_number(0)
        with pytest.raises(Conflict, match="Default"):
            await tenant.purges.experiment(default.experiment_id)
        assert (await tenant.experiment_by_number(0)).lifecycle == "active"
    await store.close()


async def test_what_was_deleted_long_ago_goes_by_itself_and_what_was_restored_stays(
    data: Path, opening: Opening
):
    store = await opening(data, Options(keep_deleted_s=2.0))
    async with store.lease("acme", create=True) as tenant:
        await fill(tenant, RUN, "a")
        await fill(tenant, OTHER, "b")
        for name in ("a", "b"):
            gone = await tenant.experiment_by_name(name)
            await tenant.change_experiment(
                gone.experiment_id, ExperimentChange(lifecycle="deleted")
            )
        await tenant.change_run(OTHER, RunChange(lifecycle="active"))
        for _ in range(200):
            found = await everything(tenant)
            if found == {OTHER}:
                break
            assert RUN in found
            await asyncio.sleep(0.05)
        assert await everything(tenant) == {OTHER}
        await store.dispose("acme")  # the experiment follows its last run
        with pytest.raises(NotFound):
            await tenant.experiment_by_name("a")
        assert len(await tenant.points(OTHER, "loss")) == 30_000
    await store.close()


async def test_the_file_shrinks_by_what_the_run_took(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    path = data / "tenants/acme/tenant.db"
    async with store.lease("acme", create=True) as tenant:
        await fill(tenant, OTHER)
        await store.compact("acme")
        before = path.stat().st_size
        await tenant.create_run(new_run())
        for start in range(0, 400_000, 20_000):
            await tenant.log(RUN, batch("noise", range(start, start + 20_000)))
        await store.compact("acme")
        grown = path.stat().st_size - before
        await tenant.purges.run(RUN)
        await store.dispose("acme")
        left = path.stat().st_size - before
        assert left <= 0.05 * grown
    await store.close()
