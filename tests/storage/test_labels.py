"""Parameters and tags of new runs: in sight from their acknowledgement on, filed or not."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stepwell_storage.backups import back_up
from stepwell_storage.check import verify
from stepwell_storage.errors import Conflict
from stepwell_storage.parquet_export import export
from stepwell_storage.parquet_tables import read_rows
from stepwell_storage.records import Batch, NewRun, RunChange, RunQuery
from stepwell_storage.store import Options
from stepwell_storage.tenant import Tenant
from tests.storage.conftest import Opening, new_run

QUIET = Options(compact=False)
COUNT = 40
PARAM = {"id": "integer", "key": "integer", "run": "integer", "value": "text",
         "number": "integer", "run_id": "text", "name": "text"}  # fmt: skip
FRESH = "select (select count(*) from fresh_param), (select count(*) from fresh_tag)"


def run_id(number: int) -> str:
    return f"{number + 1:032x}"


def fresh(number: int) -> NewRun:
    params = {"seed": str(number), "model": f"m{number % 4}", "lr": f"{number / 8}"}
    return new_run(run_id(number), params=params, tags={"host": f"node-{number % 3}"})


async def create(tenant: Tenant, numbers: Sequence[int]) -> None:
    await asyncio.gather(*(tenant.create_run(fresh(number)) for number in numbers))


async def burst(tenant: Tenant) -> None:
    """Runs whose parameters and tags wait to be filed: a tenant that was just opened."""
    await create(tenant, range(COUNT))
    assert tenant.writer.labels.unfiled


def counted(data: Path, query: str = FRESH) -> tuple[int, ...]:
    file = data / "tenants" / "acme" / "tenant.db"
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        rows: tuple[int, ...] = connection.execute(query).fetchone()
        return rows


async def assert_all_there(tenant: Tenant) -> None:
    for number in range(COUNT):
        run = await tenant.run(run_id(number))
        assert (run.params, run.tags) == (fresh(number).params, fresh(number).tags)
    page = await tenant.search(RunQuery(filter="params.model = 'm1' and tags.host = 'node-2'"))
    wanted = {run_id(n) for n in range(COUNT) if n % 4 == 1 and n % 3 == 2}
    assert {run.run_id for run in page.runs} == wanted
    page = await tenant.search(RunQuery(filter="params.lr > 4", order_by=("params.lr DESC",)))
    assert [run.run_id for run in page.runs] == [run_id(n) for n in range(COUNT - 1, 32, -1)]


async def test_they_are_found_as_soon_as_they_are_acknowledged(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await burst(tenant)
        assert counted(data) == (3 * COUNT, COUNT)
        await assert_all_there(tenant)
        assert counted(data) == (0, 0)
        assert not tenant.writer.labels.unfiled
    await store.close()
    assert (await verify(data)).problems == []


async def test_what_a_crash_left_is_filed_at_the_next_opening(
    data: Path, tmp_path: Path, opening: Opening
):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await burst(tenant)
        back_up(data, ["acme"], tmp_path / "crashed")  # the file as it stands
    crashed = tmp_path / "crashed"
    assert counted(crashed) == (3 * COUNT, COUNT)
    assert (await verify(crashed)).problems == []
    again = await opening(crashed, QUIET)
    async with again.lease("acme", create=False) as tenant:
        assert counted(crashed) == (0, 0)
        await assert_all_there(tenant)


async def test_the_file_is_closed_with_everything_in_its_place(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await burst(tenant)
    await store.close()
    assert counted(data) == (0, 0)


async def test_parquet_of_a_tenant_in_use_has_those_that_are_not_filed_yet(
    data: Path, tmp_path: Path, opening: Opening
):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await burst(tenant)
        export(data, "acme", tmp_path / "out", lambda *_: None)
        assert counted(data) != (0, 0)
    [file] = (tmp_path / "out" / "tables" / "param").iterdir()
    rows = [row for page in read_rows(file, PARAM) for row in page]
    found = sorted((run, name, value) for *_, value, _, run, name in rows)
    assert found == sorted(
        (run_id(n), key, text) for n in range(COUNT) for key, text in fresh(n).params.items()
    )


async def test_a_parameter_of_a_new_run_stays_as_it_is(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await burst(tenant)
        await tenant.log(run_id(7), Batch(params={"seed": "7", "more": "1"}))
        await create(tenant, [COUNT])
        with pytest.raises(Conflict):
            await tenant.log(run_id(COUNT), Batch(params={"seed": "8"}))
        assert (await tenant.run(run_id(7))).params == fresh(7).params | {"more": "1"}
        assert (await tenant.run(run_id(COUNT))).params == fresh(COUNT).params


async def test_a_tag_set_right_behind_the_creation_wins(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await create(tenant, [0])
        await asyncio.gather(  # one group
            create(tenant, range(1, COUNT)),
            tenant.change_run(run_id(0), RunChange(tags={"host": "changed"})),
            create(tenant, [COUNT]),
        )
        await tenant.log(run_id(COUNT), Batch(tags={"host": "logged"}))
        await tenant.change_run(run_id(1), RunChange(tags={"host": None}))
        found = [(await tenant.run(run_id(n))).tags for n in (0, 1, 2, COUNT)]
        assert found == [{"host": "changed"}, {}, fresh(2).tags, {"host": "logged"}]


async def test_nothing_is_left_of_a_new_run_that_is_purged_at_once(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await burst(tenant)
        await tenant.purges.run(run_id(5))
        while await tenant.purges.dispose():
            pass
    await store.close()
    assert counted(data, "select count(*) from param") == (3 * (COUNT - 1),)
    assert (await verify(data)).problems == []


async def test_they_are_read_where_the_disk_has_no_room_to_file_them(data: Path, opening: Opening):
    store = await opening(data, QUIET)
    async with store.lease("acme", create=True) as tenant:
        await create(tenant, [0])
        many = [new_run(run_id(n), params={f"p{k}": "x" * 200 for k in range(20)})
                for n in range(1, 60)]  # fmt: skip
        await asyncio.gather(*(tenant.create_run(new) for new in many))
        database: Any = tenant.writer._database
        writer = database._writer  # SQLite's own bound is a full disk to it
        [(pages,)] = await writer.fetch("pragma page_count")
        await writer.fetch(f"pragma max_page_count={pages}")
        assert (await tenant.run(many[-1].run_id)).params == many[-1].params
        assert tenant.writer.labels.unfiled
        await writer.fetch("pragma max_page_count=1073741823")
        page = await tenant.search(RunQuery(filter=f"params.p19 = '{'x' * 200}'"))
        assert page.total == 59
        assert not tenant.writer.labels.unfiled
