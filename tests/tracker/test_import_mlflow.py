"""MLflow's database into a tenant: whole, once, and with a word for whatever is wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwell.ids import new_run_id
from stepwell_storage.check import verify
from stepwell_storage.exports import all_models, all_registered
from stepwell_storage.records import ExperimentChange, NewRun, RunChange
from stepwell_storage.store import Store
from stepwell_tracker.porting import importing, mlflow_sql
from stepwell_tracker.porting.source import LARGEST
from tests.tracker.mlflow_stores import (
    GONE,
    HOUR_MS,
    MODEL,
    ONE,
    TWO,
    changing,
    database,
    loss,
    odd,
)
from tests.tracker.porting import Opened, complete, import_mlflow, points

Import = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return database(tmp_path / "mlflow.db")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run_import(source: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    """The exit code and everything that was said."""

    async def call(*more: str, address: str | None = None) -> tuple[int, str]:
        code = await import_mlflow(address or f"sqlite:///{source}", data, *more)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def tables(data: Path) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with sqlite3.connect(f"file:{data}/tenants/default/tenant.db?mode=ro", uri=True) as found:
        rows = found.execute("select name from sqlite_master where type='table'").fetchall()
        return {
            name: found.execute(f"select * from {name} order by 1").fetchall()  # noqa: S608
            for (name,) in rows
        }


async def test_every_field_of_a_database_arrives(run_import: Import, data: Path):
    code, said = await run_import()
    assert code == 0, said
    assert "3 runs new" in said
    async with Opened(data) as tenant:
        one = await tenant.run(ONE, complete=True)
        assert (one.name, one.status, one.user_id) == ("run 1", "finished", "me")
        assert one.end_time == one.start_time + HOUR_MS == one.heartbeat_at
        assert one.params == {"lr": "0.1", "empty": ""}
        assert one.tags == {"uni": "größe 漢字", "mlflow.user": "me"}
        assert one.description == "a note"
        assert [use.dataset.name for use in one.datasets] == ["mine"]
        assert one.datasets[0].tags == {"mlflow.data.context": "train"}
        assert [tuple(use) for use in one.models] == [("output", MODEL, 3)]
        two = await tenant.run(TWO, complete=True)
        assert (two.status, two.end_time, two.parent_run_id) == ("running", None, ONE)
        assert two.tags["mlflow.note.content"] == ""
        gone = await tenant.run(GONE, complete=True)
        assert (gone.lifecycle, gone.status) == ("deleted", "killed")
        for run_id in (ONE, TWO, GONE):
            assert await tenant.points(run_id, "loss") == loss()
            assert await tenant.points(run_id, "odd/key a") == odd()
        assert (await tenant.experiment_by_number(7)).lifecycle == "deleted"
        alpha = await tenant.experiment_by_number(1)
        assert (alpha.name, alpha.created_at, alpha.updated_at) == ("alpha", 1_001, 2_001)
        assert alpha.tags == {"team": "alpha"}
        assert (await tenant.experiment_by_number(0)).created_at == 1_000
        async with tenant.whole() as reader:
            [(model, deleted)] = [one async for one in all_models(reader)]
            [(best, versions)] = [one async for one in all_registered(reader)]
    assert (model.model_id, model.status, deleted) == (MODEL, "ready", None)
    assert (model.params, model.tags["t"]) == ({"p": "1"}, "1")
    assert [(m.key, m.value, m.dataset_name) for m in model.metrics] == [("acc", 0.5, "mine")]
    assert (best.name, best.aliases, best.tags) == ("best", {"champion": 2}, {"r": "1"})
    assert [(v.version, v.stage, v.model_id) for v in versions] == [(2, "Production", MODEL)]
    findings = await verify(data)
    assert (findings.problems, findings.points) == ([], 3 * 705)


async def test_a_second_import_changes_nothing(run_import: Import, data: Path):
    assert (await run_import())[0] == 0
    async with Opened(data) as tenant:
        await tenant.settle()
    before = tables(data)
    code, said = await run_import()
    assert (code, "0 runs new, 0 brought up to date, 3 here already" in said) == (0, True), said
    assert tables(data) == before


async def test_a_run_that_grew_is_brought_up_to_date(run_import: Import, source: Path, data: Path):
    await run_import()
    with changing(source) as db:
        rows = [("loss", 0.25, 9, TWO, step, 0) for step in range(700, 800)]
        db.executemany("insert into metrics (key, value, timestamp, run_uuid, step, is_nan)"
                       " values (?, ?, ?, ?, ?, ?)", rows)  # fmt: skip
        db.execute("update runs set status='FINISHED', end_time=99 where run_uuid=?", (TWO,))
        db.execute("insert into params (key, value, run_uuid) values ('new', '1', ?)", (TWO,))
        db.execute("delete from tags where key='mlflow.parentRunId' and run_uuid=?", (TWO,))
        db.execute("update experiments set last_update_time=9 where experiment_id=1")
        db.execute("update logged_models set status=3, last_updated_timestamp_ms=50")
    code, said = await run_import()
    assert (code, "0 runs new, 1 brought up to date, 2 here already" in said) == (0, True), said
    run = await complete(data, TWO)
    assert (run.status, run.end_time, run.params["new"]) == ("finished", 99, "1")
    assert run.tags == {"mlflow.note.content": ""}
    assert len(await points(data, TWO, "loss")) == 800


async def test_what_was_changed_here_is_kept_and_told_of(
    run_import: Import, source: Path, data: Path
):
    await run_import()
    async with Opened(data) as tenant:
        await tenant.change_run(ONE, RunChange(tags={"mine": "1"}))
    code, said = await run_import()
    assert code == 0
    assert f"changed here since its import: run {ONE}: tags mine" in said
    with changing(source) as db:
        db.execute("update runs set end_time=99 where run_uuid=?", (ONE,))
    code, said = await run_import()
    assert code == 1
    assert f"run {ONE} is left as it is here: it was changed here and in the source" in said
    assert (await complete(data, ONE)).tags["mine"] == "1"


async def test_a_run_that_is_here_by_itself_is_left_alone(run_import: Import, data: Path):
    async with Opened(data) as tenant:
        await tenant.create_run(NewRun(ONE, "mine", 5, params={"lr": "0.2"}))
    code, said = await run_import()
    assert code == 1
    assert f"run {ONE} is left as it is here: a run of that id is here, and differs in" in said
    assert "params empty, lr" in said
    assert "2 runs new" in said
    assert (await complete(data, ONE)).params == {"lr": "0.2"}


async def test_a_run_that_was_deleted_for_good_stays_so(run_import: Import, data: Path):
    await run_import()
    async with Opened(data) as tenant:
        await tenant.change_run(ONE, RunChange(lifecycle="deleted"))
        await tenant.purges.run(ONE)
    code, said = await run_import()
    assert code == 1
    assert f"run {ONE} is left as it is here: it was deleted here for good" in said
    async with Opened(data) as tenant:
        assert await tenant.imports.existing([ONE, TWO]) == {TWO}


async def test_a_parameter_that_changed_in_the_source_is_a_conflict(
    run_import: Import, source: Path, data: Path
):
    await run_import()
    with changing(source) as db:
        db.execute("update params set value='9' where key='lr' and run_uuid=?", (ONE,))
    code, said = await run_import()
    assert (code, "parameter 'lr' is '0.1' here and '9' in the source" in said) == (1, True), said
    assert (await complete(data, ONE)).params["lr"] == "0.1"


async def test_a_large_run_goes_in_parts_and_an_unfinished_one_is_finished(
    run_import: Import, source: Path, data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(importing, "PART_POINTS", 200)
    monkeypatch.setattr(mlflow_sql, "PIECE_POINTS", 100)
    code, said = await run_import()
    assert code == 0, said
    assert await points(data, ONE, "loss") == loss()
    assert (await run_import())[0] == 0
    with sqlite3.connect(data / "tenants/default/tenant.db") as db:
        db.execute("update meta set value=0 where name=?", (f"imported run {ONE}",))
    db.close()
    code, said = await run_import()
    assert (code, "1 brought up to date" in said) == (0, True), said
    assert await points(data, ONE, "loss") == loss()


async def test_numbers_that_are_taken_and_names_that_are_here(run_import: Import, data: Path):
    async with Opened(data) as tenant:
        for name in ("taken", "alpha"):
            await tenant.create_experiment(name)
        await tenant.create_run(NewRun(new_run_id("default"), "r", 1))
    code, said = await run_import()
    assert code == 0, said
    assert "experiment 'alpha' is here already as number 2: its runs join it" in said
    assert "experiment 'Default' is here already as number 0: its runs join it" in said
    assert (await complete(data, ONE)).experiment_number == 2
    assert (await run_import())[0] == 0, "an import of joined experiments is idempotent, too"


async def test_an_experiment_whose_number_is_taken_gets_another(run_import: Import, data: Path):
    async with Opened(data) as tenant:
        await tenant.create_experiment("other")
    code, said = await run_import()
    assert (code, "experiment 'alpha' has number 2 here: 1 is taken" in said) == (0, True), said
    run = await complete(data, ONE)
    assert run.experiment_number == 2
    assert (await run_import())[0] == 0


async def test_a_deleted_experiment_of_that_name_blocks_its_runs(run_import: Import, data: Path):
    async with Opened(data) as tenant:
        made = await tenant.create_experiment("alpha")
        await tenant.change_experiment(made.experiment_id, ExperimentChange(lifecycle="deleted"))
    code, said = await run_import()
    assert code == 1
    assert "an experiment 'alpha' is here, deleted" in said
    assert "1 runs new" in said


async def test_a_run_id_of_another_tenant_is_refused(run_import: Import, source: Path):
    theirs = new_run_id("acme")
    with changing(source) as db:
        for table, column in (("runs", "run_uuid"), ("metrics", "run_uuid"), ("tags", "run_uuid"),
                              ("params", "run_uuid"), ("latest_metrics", "run_uuid")):  # fmt: skip
            db.execute(f"update {table} set {column}=? where {column}=?", (theirs, TWO))  # noqa: S608
    code, said = await run_import()
    assert (code, f"run {theirs} is not imported: its id names another tenant" in said) == (1, True)
    assert (await run_import("--tenant", "acme"))[0] == 0


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("update metrics set step='x' where step=5 and run_uuid=?", "step or timestamp"),
        ("update metrics set timestamp=1.5 where step=5 and run_uuid=?", "step or timestamp"),
        ("update metrics set value='abc' where step=5 and run_uuid=?", "no number"),
        ("update runs set status='DONE' where run_uuid=?", "status 'DONE' is unknown"),
        ("update runs set start_time='x' where run_uuid=?", "its start is 'x'"),
        ("update runs set lifecycle_stage='?' where run_uuid=?", "lifecycle stage '?'"),
        ("update params set value=cast(x'c328' as text) where run_uuid=?", "is damaged"),
        ("update tags set value=x'00' where run_uuid=?", "and no text"),
        ("update runs set experiment_id=1 where run_uuid=? or 1 = (select 0)", ""),
    ],
)
async def test_damaged_rows_cost_their_run_alone(
    run_import: Import, source: Path, data: Path, damage: str, words: str
):
    with changing(source) as db:
        db.execute(damage, (ONE,))
    code, said = await run_import()
    if not words:
        assert code == 0
        return
    assert (code, f"run {ONE} is not imported" in said, words in said) == (1, True, True), said
    assert "2 runs new" in said
    async with Opened(data) as tenant:
        assert await tenant.imports.existing([ONE, TWO]) == {TWO}


BAD_STATES = {
    "no version": ("delete from alembic_version", "half-way"),
    "two versions": ("insert into alembic_version values ('x')", "half-way"),
    "torn table": ("create table _alembic_tmp_runs (x int)", "half-way"),
    "newer": ("update alembic_version set version_num='ffff'", "--any-version"),
    "no runs": ("drop table runs", "no MLflow database"),
}


@pytest.mark.parametrize("name", BAD_STATES)
async def test_a_database_in_another_state_is_refused_whole(
    run_import: Import, source: Path, data: Path, name: str
):
    statement, words = BAD_STATES[name]
    with changing(source) as db:
        db.execute(statement)
    code, said = await run_import()
    assert (code, words in said) == (2, True), said
    assert not data.exists()
    if name == "newer":
        assert (await run_import("--any-version"))[0] == 0


async def test_what_is_no_source_is_refused(run_import: Import, tmp_path: Path, source: Path):
    text = tmp_path / "words.db"
    text.write_text("no database")
    empty = tmp_path / "empty"
    empty.mkdir()
    for address, words in (
        ("sqlite:////nowhere/mlflow.db", "there is no file"),
        (f"sqlite:///{text}", "file is not a database"),
        (str(text), "is neither an SQLite database nor a folder mlruns"),
        ("/nowhere/mlruns", "there is no folder or file"),
        (str(empty), "no folder of MLflow's"),
        ("mysql://host/db", "mysql:// is no source"),
        ("sqlite:///", "is no source"),
    ):
        code, said = await run_import(address=address)
        assert (code, words in said) == (2, True), (address, said)
    code, said = await run_import("--tenant", "../x")
    assert (code, "no tenant's name" in said) == (2, True)
    code, said = await run_import(address="http://127.0.0.1:9")
    assert (code, "no server answers" in said) == (3, True), said


async def test_a_file_with_a_damaged_page_ends_the_import_with_a_word(
    run_import: Import, source: Path
):
    with source.open("r+b") as file:
        file.seek(0, 2)
        size = file.tell()
        for page in range(40_960, size - 8_192, 8_192):
            file.seek(page)
            file.write(b"\xff" * 512)
    code, said = await run_import()
    assert code in (1, 2)
    assert "cannot be read" in said


async def test_a_data_directory_of_a_running_server_is_refused(run_import: Import, data: Path):
    store = await Store.open(data)
    code, said = await run_import()
    assert (code, "belongs to another server" in said) == (5, True), said
    await store.close()


async def test_infinities_are_kept_as_they_stand_or_restored(
    run_import: Import, source: Path, data: Path, tmp_path: Path
):
    with changing(source) as db:
        db.execute("update metrics set value=? where step=0 and key='loss'", (LARGEST,))
        db.execute("update metrics set value=? where step=1 and key='loss'", (-LARGEST,))
    assert (await run_import())[0] == 0
    assert (await points(data, ONE, "loss")).values[:2].tolist() == [LARGEST, -LARGEST]
    other = tmp_path / "other"
    assert (await run_import("--restore-infinities", "--data", str(other)))[0] == 0
    assert (await points(other, ONE, "loss")).values[:2].tolist() == [np.inf, -np.inf]


async def test_columns_that_older_versions_lack_are_done_without(
    run_import: Import, source: Path, data: Path
):
    with changing(source) as db:
        db.execute("update alembic_version set version_num='90e64c465722'")
        for table in ("inputs", "input_tags", "datasets", "logged_models", "experiment_tags",
                      "registered_models", "model_versions", "trace_info"):  # fmt: skip
            db.execute(f"drop table {table}")
        db.execute("alter table runs drop column deleted_time")
        db.execute("create table new as select key, value, timestamp, run_uuid, step from metrics")
        db.execute("drop table metrics")
        db.execute("alter table new rename to metrics")
        db.execute("create table old as select experiment_id, name, artifact_location,"
                   " lifecycle_stage from experiments")  # fmt: skip
        db.execute("drop table experiments")
        db.execute("alter table old rename to experiments")
    code, said = await run_import()
    assert code == 0, said
    assert await points(data, ONE, "loss") == loss()
    assert (await complete(data, ONE)).datasets == []


async def test_another_workspace_is_told_of_and_can_be_had(run_import: Import, source: Path):
    with changing(source) as db:
        db.execute("update experiments set workspace='team-a' where experiment_id=1")
        db.execute("insert into trace_info (request_id, experiment_id, timestamp_ms, status)"
                   " values ('t', 0, 1, 'OK')")  # fmt: skip
    code, said = await run_import()
    assert code == 0, said
    assert "not imported: 1 experiments of workspace team-a" in said
    assert "not imported: 1 traces" in said
    assert "1 runs new" in said
    code, said = await run_import("--workspace", "team-a", "--tenant", "team-a")
    assert (code, "2 runs new" in said) == (0, True), said
