"""MLflow's stores, made for tests: a database by our own writer, a folder by hand."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stepwell_storage.points import Points
from stepwell_storage.records import (
    Dataset,
    DatasetUse,
    Experiment,
    Model,
    ModelMetric,
    ModelUse,
    ModelVersion,
    RegisteredModel,
    Run,
)
from stepwell_tracker.porting.mapping import blank
from stepwell_tracker.porting.mlflow_writer import MlflowDatabase

ONE, TWO, GONE = "1" * 31 + "a", "2" * 31 + "b", "3" * 31 + "c"
MODEL = "m-" + "4" * 32
HOUR_MS = 3_600_000


def experiment(number: int, name: str, lifecycle: str = "active") -> Experiment:
    return Experiment(
        experiment_id="", number=number, name=name, description="", lifecycle=lifecycle,
        created_at=1_000 + number, updated_at=2_000 + number, tags={"team": name},
    )  # fmt: skip


def run(run_id: str, number: int = 1, **fields: Any) -> Run:
    made = blank(run_id, number)
    made.name, made.status, made.user_id = f"run {run_id[:1]}", "finished", "me"
    made.start_time, made.end_time = 1_700_000_000_000, 1_700_000_000_000 + HOUR_MS
    made.params, made.tags = {"lr": "0.1", "empty": ""}, {"uni": "größe 漢字", "mlflow.user": "me"}
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def loss(count: int = 700, first: int = 0) -> Points:
    steps = np.arange(first, first + count)
    return Points.of(steps, 1_700_000_000_000 + steps, 1 / (1.0 + steps))


def odd() -> Points:
    """What a database can hold, in one series."""
    return Points.of([-3, 0, 0, 1, 2], [5, 5, 6, 5, 5], [1.5, -2.0, 3.0, np.nan, 1e-300])


def database(path: Path, *, count: int = 0) -> Path:
    """Three experiments with three runs, a model, a registered model, and ``count`` runs more."""
    made = MlflowDatabase(path, "mlflow-artifacts:")
    for one in (experiment(0, "Default"), experiment(1, "alpha"), experiment(7, "gone", "deleted")):
        made.experiment(one)
    data = Dataset("mine", "abc", "local", '{"uri": "x"}', None, '{"rows": 1}')
    use = DatasetUse(data, {"mlflow.data.context": "train"})
    used: dict[str, Any] = {"datasets": [use], "models": [ModelUse("output", MODEL, 3)]}
    made.run(run(ONE, **used, description="a note"), None)
    tags = {"mlflow.parentRunId": ONE, "mlflow.note.content": ""}
    used = {"datasets": [DatasetUse(data, {})], "models": [ModelUse("input", MODEL, 0)]}
    two = run(TWO, status="running", end_time=None, parent_run_id=ONE, tags=tags, **used)
    made.run(two, None)
    made.run(run(GONE, 7, lifecycle="deleted", status="killed"), 1_700_000_009_000)
    for run_id in (ONE, TWO, GONE):
        made.series(run_id, "loss", loss())
        made.series(run_id, "odd/key a", odd())
    metric = ModelMetric("acc", 0.5, 1, 7, ONE, "mine", "abc")
    made.model(
        Model(MODEL, 1, "net", "sk", ONE, "ready", None, 10, 20, {"p": "1"}, {"t": "1"}, [metric]),
        None,
    )
    files = f"mlflow-artifacts:/1/models/{MODEL}/artifacts"
    version = ModelVersion("best", 2, "words", "me", "Production", f"models:/{MODEL}", files,
                           ONE, None, MODEL, 30, 40, {"v": "1"})  # fmt: skip
    made.registered(RegisteredModel("best", "all", 25, 45, {"r": "1"}, {"champion": 2}), [version])
    for number in range(count):
        run_id = f"{number:032x}"
        made.run(run(run_id, 0, name=f"run {number}"), None)
        for key in ("a", "b"):
            made.series(run_id, key, loss(200))
    made.finish()
    return path


@contextlib.contextmanager
def changing(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, to be changed as another program would."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma ignore_check_constraints = on")
        yield connection
        connection.commit()


def folder(root: Path) -> Path:
    """``mlruns`` with two experiments, one of them deleted, and three runs."""
    _file(root / "0/meta.yaml", EXPERIMENT.format(number=0, name="Default", stage="active"))
    _file(root / "12/meta.yaml", EXPERIMENT.format(number=12, name="'12'", stage="active"))
    _file(root / "12/tags/team/name", "x")
    _file(root / ".trash/5/meta.yaml", EXPERIMENT.format(number=5, name="old", stage="deleted"))
    for place, run_id in ((root / "12", ONE), (root / "12", TWO), (root / ".trash/5", GONE)):
        top = place / run_id
        _file(top / "meta.yaml", RUN.format(run_id=run_id, place=place))
        _file(top / "params/lr", "0.1")
        _file(top / "params/a/b", "")
        _file(top / "tags/mlflow.runName", "named")
        _file(top / "tags/note", "two\nlines")
        lines = "".join(f"{1000 + i} {i / 3} {i}\n" for i in range(300))
        _file(top / "metrics/loss", lines)
        _file(top / "metrics/odd/key a", "5 nan 0\n5 inf 1\n5 -inf 2\n7 0.5\n7 0.5\n9 1 3 d abc\n")
        _file(top / "artifacts/sub/a.txt", run_id)
    _file(root / "12/datasets/d1/meta.yaml", DATASET)
    _file(root / f"12/{ONE}/inputs/i1/meta.yaml", INPUT.format(type="DATASET", id="d1"))
    _file(root / f"12/{ONE}/inputs/i2/meta.yaml", INPUT.format(type="MODEL", id=MODEL))
    _file(root / f"12/{ONE}/outputs/{MODEL}/meta.yaml", "step: 3\n")
    _file(root / f"12/models/{MODEL}/meta.yaml", LOGGED)
    _file(root / f"12/models/{MODEL}/params/p", "1")
    _file(root / f"12/models/{MODEL}/metrics/acc", f"7 0.5 1 {ONE} mine abc\n")
    _file(root / "models/best/meta.yaml", "creation_timestamp: 1\nname: best\ndescription: words\n")
    _file(root / "models/best/aliases/champion", "1")
    _file(root / "models/best/version-1/meta.yaml", VERSION.format(run_id=ONE))
    return root


EXPERIMENT = """
artifact_location: /somewhere/else/{number}
creation_time: 10
experiment_id: '{number}'
last_update_time: 20
lifecycle_stage: {stage}
name: {name}
"""
RUN = """
artifact_uri: /somewhere/else/{run_id}/artifacts
end_time: 2000
lifecycle_stage: active
run_id: {run_id}
run_name: named
start_time: 1000
status: 3
tags: []
user_id: me
"""
DATASET = """
digest: abc
name: mine
profile: null
schema: '{"s": 1, "words": "a long text that is
  folded"}'
source: '{}'
source_type: local
"""
INPUT = """
source_id: {id}
source_type: {type}
destination_type: RUN
tags: {{mlflow.data.context: train}}
"""
LOGGED = """
artifact_location: /somewhere/else
creation_timestamp: 10
last_updated_timestamp: 20
lifecycle_stage: active
model_type: null
name: net
status: 2
"""
VERSION = """
creation_timestamp: 3
current_stage: None
name: best
run_id: {run_id}
source: runs:/{run_id}/model
version: 1
"""


def _file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
