"""A tenant as MLflow's database: what goes out comes back equal."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from stepwell.ids import new_run_id
from stepwell_storage.points import Points
from stepwell_storage.records import Batch, ModelMetric, NewModel, NewRun, RunChange
from stepwell_storage.store import Store
from stepwell_tracker.porting.source import LARGEST
from tests.tracker.mlflow_stores import GONE, MODEL, ONE, TWO, database, loss, odd
from tests.tracker.porting import Opened, complete, export_mlflow, import_mlflow, points

RUN = new_run_id("default")


def batch(key: str, found: Points) -> Batch:
    columns = (found.steps.tobytes(), found.timestamps.tobytes(), found.values.tobytes())
    return Batch([key], [len(found)], *columns, params={"lr": "0.1"}, tags={"t": "1"})


async def test_what_goes_out_comes_back_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data, back = tmp_path / "data", tmp_path / "back"
    assert await import_mlflow(database(tmp_path / "mlflow.db"), data) == 0
    said = capsys.readouterr().out
    assert await export_mlflow(tmp_path / "out", data) == 0
    assert "3 experiments, 3 runs, 2115 points, 1 logged and 1 registered models" in (
        capsys.readouterr().out
    )
    assert await import_mlflow(tmp_path / "out" / "mlflow.db", back, "--artifacts") == 0
    again = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.endswith("yes")] == [
        line for line in again.splitlines() if line.endswith("yes")
    ]
    for run_id in (ONE, TWO, GONE):
        assert await points(back, run_id, "loss") == loss()
        assert await points(back, run_id, "odd/key a") == odd()


async def test_what_the_native_api_wrote_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data, out = tmp_path / "data", tmp_path / "out"
    told = Points.of([0, 1, 2, 2, 2], [5, 5, 5, 6, 6], [np.inf, -np.inf, 1.0, np.nan, -1.0])
    async with Opened(data) as tenant:
        made = await tenant.create_experiment("mine", description="words", tags={"a": "b"})
        new = NewRun(RUN, "first", 7, experiment_id=made.experiment_id, description="a note")
        await tenant.create_run(new)
        await tenant.log(RUN, batch("loss", told))
        await tenant.log(RUN, batch("zero", Points.of([0, 0], [5, 5], [0.0, -0.0])))
        await tenant.models.create(NewModel("m-" + "5" * 32, made.number, "net", tags={"k": "v"}))
        metric = ModelMetric("acc", np.nan, 1, 2, RUN)
        await tenant.models.log([("m-" + "5" * 32, metric)])
        await tenant.change_run(RUN, RunChange(status="failed", end_time=9))

        async def chunks() -> AsyncIterator[bytes]:
            yield b"bytes"

        await tenant.artifacts.of_run(RUN).put("a/b 100%.bin", chunks())
    store = await Store.open(data)  # as a server that runs beside the export
    async with store.lease("default", create=False):
        assert await export_mlflow(out, data) == 0
    await store.close()
    assert "1 points became one with others" in capsys.readouterr().out
    with sqlite3.connect(out / "mlflow.db") as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        assert db.execute("pragma foreign_key_check").fetchall() == []
        rows = db.execute("select step, timestamp, value, is_nan from metrics where key='loss'"
                          " order by step, timestamp, value").fetchall()  # fmt: skip
        assert rows == [(0, 5, LARGEST, 0), (1, 5, -LARGEST, 0), (2, 5, 1.0, 0), (2, 6, -1.0, 0),
                        (2, 6, 0.0, 1)]  # fmt: skip
        latest = db.execute("select step, timestamp, value, is_nan from latest_metrics"
                            " where key='loss'").fetchall()  # fmt: skip
        assert latest == [(2, 6, 0.0, 1)], "NaN counts as 0 in MLflow's order"
        tags = dict(db.execute("select key, value from tags").fetchall())
        assert tags == {"t": "1", "mlflow.runName": "first", "mlflow.note.content": "a note"}
        run = db.execute("select status, start_time, end_time, artifact_uri from runs").fetchone()
        assert run[:3] == ("FAILED", 7, 9)
        place = Path(run[3].removeprefix("file://"))
        note = db.execute("select value from experiment_tags where key='mlflow.note.content'")
        assert note.fetchone() == ("words",)
        assert db.execute("select metric_value from logged_model_metrics").fetchone() == (None,)
    db.close()
    assert (place / "a" / "b 100%.bin").read_bytes() == b"bytes"


async def test_nothing_is_overwritten_and_nothing_half_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data, out = tmp_path / "data", tmp_path / "out"
    assert await export_mlflow(out, data) == 2
    assert "there is no tenant default in " in capsys.readouterr().err
    assert not out.exists()
    assert await export_mlflow(tmp_path / "new" / "below" / "x.db", data) == 2
    assert not (tmp_path / "new").exists()
    assert await import_mlflow(database(tmp_path / "mlflow.db"), data) == 0
    assert await export_mlflow(out, data, "--tenant", "a/b") == 2
    assert await export_mlflow(tmp_path / "x.db", data, "--served", "--no-artifacts") == 0
    assert await export_mlflow(tmp_path / "x.db", data) == 2
    assert "is there already" in capsys.readouterr().err
    with sqlite3.connect(tmp_path / "x.db") as db:
        uris = db.execute("select artifact_uri from runs where run_uuid=?", (ONE,)).fetchall()
    db.close()
    assert uris == [(f"mlflow-artifacts:/1/{ONE}/artifacts",)]
    with sqlite3.connect(data / "tenants/default/tenant.db") as db:
        db.execute("update journal set payload=x'00'")
        db.execute("update chunk set data=x'00'")
    db.close()
    assert await export_mlflow(out, data) == 1
    assert not out.exists()
    out.mkdir()
    assert await export_mlflow(out, data) == 1
    assert list(out.iterdir()) == []


async def test_files_go_where_the_database_says(tmp_path: Path):
    data = tmp_path / "data"
    source = database(tmp_path / "mlflow.db")
    top = tmp_path / "mlartifacts"
    for place in (f"1/{ONE}/artifacts/m/x.txt", f"1/models/{MODEL}/artifacts/MLmodel"):
        (top / place).parent.mkdir(parents=True)
        (top / place).write_text(place)
    assert await import_mlflow(source, data, "--artifacts") == 0
    assert await export_mlflow(tmp_path / "out", data, "--served") == 0
    for place in (f"1/{ONE}/artifacts/m/x.txt", f"1/models/{MODEL}/artifacts/MLmodel"):
        assert (tmp_path / "out" / "mlartifacts" / place).read_text() == place
    assert (await complete(data, ONE)).name == "run 1"
