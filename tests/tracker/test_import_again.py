"""An import that is run again: models and files follow the source, and what was done here stays;
and what is damaged in a source costs itself alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell_storage.exports import all_registered
from stepwell_storage.records import ModelVersion, RegisteredModel
from tests.tracker.mlflow_stores import MODEL, ONE, TWO, changing, database, folder
from tests.tracker.porting import Opened, import_mlflow

MOVED = [
    "update registered_model_aliases set alias='loser'",
    "delete from registered_model_tags",
    "update registered_models set description='other words'",
    "update model_versions set current_stage='Archived'",
    "insert into model_version_tags (workspace, name, version, key, value)"
    " values ('default', 'best', 2, 'new', 'tag')",
    "update logged_model_tags set tag_value='2'",
    "update experiment_tags set key='squad' where experiment_id=1",
    "update experiments set last_update_time=last_update_time+1 where experiment_id=1",
]
"""What clients do without a change of any time that MLflow keeps; and two of experiments."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return database(tmp_path / "mlflow.db")


async def registered(data: Path) -> tuple[RegisteredModel, list[ModelVersion]]:
    async with Opened(data) as tenant, tenant.whole() as reader:
        [found] = [one async for one in all_registered(reader)]
    return found


async def test_models_and_tags_follow_the_source(
    source: Path, data: Path, capsys: pytest.CaptureFixture[str]
):
    assert await import_mlflow(source, data) == 0
    with changing(source) as db:
        for statement in MOVED:
            assert db.execute(statement).rowcount > 0, statement
    assert await import_mlflow(source, data) == 0, capsys.readouterr().out
    best, [version] = await registered(data)
    assert (best.aliases, best.tags, best.description) == ({"loser": 2}, {}, "other words")
    assert (version.stage, version.tags) == ("Archived", {"v": "1", "new": "tag"})
    with changing(source) as db:
        db.execute("update model_versions set version=3")
        db.execute("update model_version_tags set version=3")
        db.execute("update registered_model_aliases set version=3")
    assert await import_mlflow(source, data) == 0, capsys.readouterr().out
    best, [version] = await registered(data)
    assert (best.aliases, version.version) == ({"loser": 3}, 3)
    async with Opened(data) as tenant:
        assert (await tenant.models.get(MODEL)).tags == {"t": "2"}
        assert (await tenant.experiment_by_number(1)).tags == {"squad": "alpha"}


async def test_models_that_were_changed_here_stay(
    source: Path, data: Path, capsys: pytest.CaptureFixture[str]
):
    assert await import_mlflow(source, data) == 0
    async with Opened(data) as tenant:
        await tenant.registry.set_alias("best", "mine", 2)
        await tenant.models.set_tags(MODEL, {"t": "mine"})
    assert await import_mlflow(source, data) == 0
    said = capsys.readouterr().out
    assert "changed here since its import: registered model 'best'" in said
    assert f"changed here since its import: logged model '{MODEL}'" in said
    with changing(source) as db:
        for statement in MOVED[:6]:
            db.execute(statement)
    assert await import_mlflow(source, data) == 1
    said = capsys.readouterr().out
    both = "was changed here and in the source since it was imported"
    assert f"PROBLEM: registered model 'best' {both}" in said
    assert f"PROBLEM: logged model '{MODEL}' {both}" in said
    best, _ = await registered(data)
    assert best.aliases == {"champion": 2, "mine": 2}
    async with Opened(data) as tenant:
        assert (await tenant.models.get(MODEL)).tags == {"t": "mine"}


async def test_a_model_of_that_name_that_is_here_by_itself_stays(
    source: Path, data: Path, capsys: pytest.CaptureFixture[str]
):
    async with Opened(data) as tenant:
        await tenant.registry.create("best")
    assert await import_mlflow(source, data) == 1
    said = capsys.readouterr().out
    assert "PROBLEM: registered model 'best' is here already, and is another" in said
    assert (await registered(data))[1] == []


async def test_files_that_come_later_are_found_where_they_are_then(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
):
    """First without files, which then lie in a folder of this machine, then with, then without."""
    source = folder(tmp_path / "mlruns")
    for arguments, place in (([], "/somewhere/else/12"), (["--artifacts"], None), ([], None)):
        assert await import_mlflow(source, data, *arguments) == 0, capsys.readouterr().out
        async with Opened(data) as tenant:
            assert (await tenant.experiment_by_number(12)).artifact_location == place
    async with Opened(data) as tenant, await tenant.artifacts.of_run(ONE).open("sub/a.txt") as file:
        assert await file.read(0, 100) == ONE.encode()


def in_table(table: str, column: str, value: object) -> Callable[[Path], None]:
    """Puts what no MLflow would into a column of a copy without constraints."""

    def damage(path: Path) -> None:
        with sqlite3.connect(path) as db:
            kept = db.execute(f"select * from {table}").fetchall()  # noqa: S608
            db.execute(f"create table copy as select * from {table}")  # noqa: S608
            db.execute(f"drop table {table}")
            db.execute(f"alter table copy rename to {table}")
            db.execute(f"update {table} set {column} = ?", (value,))  # noqa: S608
            assert kept

    return damage


DATABASES = {
    "bytes for a name": (in_table("registered_models", "description", b"\xff"), "registered model"),
    "a text for a time": (in_table("registered_models", "creation_time", "x"), "registered model"),
    "bytes for a tag": (in_table("registered_model_tags", "key", b"\xff"), "registered model"),
    "a text for a number": (in_table("model_versions", "version", "x"), "registered model"),
    "an owner that is not": (in_table("registered_model_tags", "name", "nobody"), None),
    "a model's time": (in_table("logged_models", "creation_timestamp_ms", None), "model"),
    "a model's metric": (in_table("logged_model_metrics", "metric_value", "x"), "model"),
    "a model's tag": (in_table("logged_model_tags", "tag_value", b"\xff"), "model"),
    "a dataset": (in_table("datasets", "name", b"\xff"), "run"),
    "an experiment's tag": (in_table("experiment_tags", "value", b"\xff"), "experiment"),
}


@pytest.mark.parametrize("name", DATABASES)
async def test_what_is_damaged_in_a_database_is_left_out(
    source: Path, data: Path, capsys: pytest.CaptureFixture[str], name: str
):
    damage, what = DATABASES[name]
    damage(source)
    code = await import_mlflow(source, data)
    said = capsys.readouterr().out
    found = [line for line in said.splitlines() if line.startswith("PROBLEM: ")]
    assert (code, bool(found)) == ((1, True) if what else (0, False)), said
    if what:
        assert found[0].startswith(f"PROBLEM: {what} ")
        assert "is not imported: " in found[0]


FILES = {
    "12/datasets/d1/meta.yaml": ("a: [", f"run {ONE}"),
    f"12/{ONE}/inputs/i1/meta.yaml": ("source_id: d1\ntags: [x]", f"run {ONE}"),
    f"12/{TWO}/tags/note": ("\ud800", f"run {TWO}"),
    f"12/models/{MODEL}/meta.yaml": ("creation_timestamp: soon", f"model '{MODEL}'"),
    f"12/models/{MODEL}/metrics/acc": ("7 0.5", f"model '{MODEL}'"),
    "models/best/meta.yaml": ("", "registered model 'best'"),
    "models/best/version-1/meta.yaml": ("version: null", "registered model 'best'"),
    "models/best/aliases/champion": ("first", "registered model 'best'"),
    ".trash/5/meta.yaml": ("- no mapping", "experiment 5"),
}


@pytest.mark.parametrize("name", FILES)
async def test_what_is_damaged_in_a_folder_is_left_out(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], name: str
):
    source, (text, what) = folder(tmp_path / "mlruns"), FILES[name]
    (source / name).write_bytes(text.encode(errors="surrogatepass"))
    assert await import_mlflow(source, data) == 1
    said = capsys.readouterr().out
    assert f"PROBLEM: {what} is not imported: " in said, said
    async with Opened(data) as tenant:
        assert (await tenant.experiment_by_number(12)).tags == {"team/name": "x"}


async def test_run_ids_of_any_form_are_kept(
    source: Path, data: Path, capsys: pytest.CaptureFixture[str]
):
    with changing(source) as db:
        for table in ("runs", "metrics", "tags", "params", "latest_metrics"):
            db.execute(f"update {table} set run_uuid='my-run_1' where run_uuid=?", (TWO,))  # noqa: S608
    assert await import_mlflow(source, data) == 0, capsys.readouterr().out
    async with Opened(data) as tenant:
        assert (await tenant.run("my-run_1")).params["lr"] == "0.1"
