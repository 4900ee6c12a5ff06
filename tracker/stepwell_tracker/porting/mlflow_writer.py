"""MLflow's database as a new SQLite file: rows as its own server would have written them."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from stepwell_storage.backups import sync
from stepwell_storage.points import Floats, Points
from stepwell_storage.records import (
    DatasetUse,
    Experiment,
    Model,
    ModelVersion,
    RegisteredModel,
    Run,
)
from stepwell_tracker.mlflow.views import NOTE, tags_of
from stepwell_tracker.porting.source import LARGEST

SCHEMA: Final = "dc11669786a5"
"""Of MLflow 3.17; later ones upgrade it by ``mlflow db upgrade``."""
_WORKSPACE: Final = "default"
_PRAGMAS: Final = "pragma journal_mode=off; pragma synchronous=off; pragma cache_size=-200000;"
"""Points come run by run and their key begins with the metric's name: pages are met again."""
_MODEL_STATUS: Final = {"pending": 1, "ready": 2, "failed": 3}
_METRIC: Final = (
    "insert or ignore into metrics (run_uuid, key, step, timestamp, value, is_nan)"
    " values (?, ?, ?, ?, ?, ?)"
)


class MlflowDatabase:
    """Written under another name; :meth:`finish` makes it whole and gives it its own.

    ``home`` is what stands before an experiment's number in the address of its files.
    """

    def __init__(self, path: Path, home: str) -> None:
        self._path = path
        self._home = home
        self._partial = path.with_name(f"{path.name}.partial")
        self._partial.unlink(missing_ok=True)
        self._db = sqlite3.connect(self._partial, isolation_level=None, check_same_thread=False)
        self._places: dict[int, str] = {}
        self._datasets: dict[tuple[int, str, str], str] = {}
        self.points = 0
        self.merged = 0
        """Points that MLflow cannot tell from another one: it holds no infinities, and one 0."""
        try:
            self._begin()
        except BaseException:
            self.discard()
            raise

    def _begin(self) -> None:
        schema = resources.files("stepwell_tracker.porting").joinpath("mlflow_schema.sql")
        self._db.executescript(f"{_PRAGMAS}{schema.read_text()}")
        self._indexes = self._without_indexes()
        self._db.execute("begin")
        self._put("alembic_version", version_num=SCHEMA)
        about = "Default workspace for legacy resources"
        self._put("workspaces", name=_WORKSPACE, description=about)

    def _without_indexes(self) -> list[str]:
        """Drop those of the points' table, which are built at once at the end: what makes them."""
        found = self._db.execute(
            "select name, sql from sqlite_master"
            " where type = 'index' and tbl_name = 'metrics' and sql is not null"
        ).fetchall()
        for name, _ in found:
            self._db.execute(f"drop index {name}")
        return [sql for _, sql in found]

    def _put(self, table: str, **columns: str | int | float | None) -> None:
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        statement = f"insert into {table} ({names}) values ({marks})"  # noqa: S608 - names of this file
        self._db.execute(statement, tuple(columns.values()))

    def place(self, uri: str) -> str:
        """The address of files in our own store as MLflow finds them afterwards."""
        return (
            uri.replace("mlflow-artifacts:", self._home, 1)
            if uri.startswith("mlflow-artifacts:/")
            else uri
        )

    def experiment(self, e: Experiment) -> None:
        place = self._places[e.number] = e.artifact_location or f"{self._home}/{e.number}"
        self._put(
            "experiments", experiment_id=e.number, name=e.name, artifact_location=place,
            lifecycle_stage=e.lifecycle, creation_time=e.created_at, last_update_time=e.updated_at,
            workspace=_WORKSPACE,
        )  # fmt: skip
        tags = {NOTE: e.description, **e.tags} if e.description else e.tags
        for key, value in tags.items():
            self._put("experiment_tags", key=key, value=value, experiment_id=e.number)

    def run(self, run: Run, deleted_at: int | None) -> None:
        place = f"{self._places[run.experiment_number]}/{run.run_id}/artifacts"
        self._put(
            "runs", run_uuid=run.run_id, name=run.name, source_type="UNKNOWN", source_name="",
            entry_point_name="", user_id=run.user_id, status=run.status.upper(),
            start_time=run.start_time, end_time=run.end_time, source_version="",
            lifecycle_stage=run.lifecycle, deleted_time=deleted_at, artifact_uri=place,
            experiment_id=run.experiment_number,
        )  # fmt: skip
        for key, value in tags_of(run).items():
            self._put("tags", key=key, value=value, run_uuid=run.run_id)
        for key, value in run.params.items():
            self._put("params", key=key, value=value, run_uuid=run.run_id)
        for use in run.datasets:
            self._dataset(run, use)
        for kind, model_id, step in run.models:
            self._put(
                "inputs", input_uuid=uuid.uuid4().hex, source_type=f"RUN_{kind.upper()}",
                source_id=run.run_id, destination_type=f"MODEL_{kind.upper()}",
                destination_id=model_id, step=step,
            )  # fmt: skip

    def _dataset(self, run: Run, use: DatasetUse) -> None:
        d = use.dataset
        known = run.experiment_number, d.name, d.digest
        if known not in self._datasets:
            self._datasets[known] = uuid.uuid4().hex
            self._put(
                "datasets", dataset_uuid=self._datasets[known], experiment_id=known[0],
                name=d.name, digest=d.digest, dataset_source_type=d.source_type,
                dataset_source=d.source, dataset_schema=d.schema, dataset_profile=d.profile,
            )  # fmt: skip
        link = uuid.uuid4().hex
        self._put(
            "inputs", input_uuid=link, source_type="DATASET", source_id=self._datasets[known],
            destination_type="RUN", destination_id=run.run_id, step=0,
        )  # fmt: skip
        for key, value in use.tags.items():
            self._put("input_tags", input_uuid=link, name=key, value=value)

    def series(self, run_id: str, key: str, points: Points) -> None:
        """A whole series, or a stretch of one: then the later one comes later."""
        values, missing = _told(points)
        columns = (
            points.steps.tolist(),
            points.timestamps.tolist(),
            values.tolist(),
            missing.tolist(),
        )
        before = self._db.total_changes
        rows = ((run_id, key, *row) for row in zip(*columns, strict=True))
        self._db.executemany(_METRIC, rows)
        written = self._db.total_changes - before
        self.points += written
        self.merged += len(points) - written
        step, at, value, is_nan = (column[_latest(points, values)] for column in columns)
        self._db.execute(
            "insert or replace into latest_metrics (run_uuid, key, step, timestamp, value, is_nan)"
            " values (?, ?, ?, ?, ?, ?)",
            (run_id, key, step, at, value, is_nan),
        )

    def model(self, m: Model, deleted_at: int | None) -> None:
        place = f"{self._places[m.experiment_number]}/models/{m.model_id}/artifacts"
        self._put(
            "logged_models", model_id=m.model_id, experiment_id=m.experiment_number, name=m.name,
            artifact_location=place, creation_timestamp_ms=m.created_at,
            last_updated_timestamp_ms=m.updated_at, status=_MODEL_STATUS[m.status],
            lifecycle_stage="active" if deleted_at is None else "deleted",
            model_type=m.model_type, source_run_id=m.source_run_id, status_message=m.status_message,
        )  # fmt: skip
        owner: dict[str, str | int] = {
            "model_id": m.model_id,
            "experiment_id": m.experiment_number,
        }
        for key, value in m.params.items():
            self._put("logged_model_params", **owner, param_key=key, param_value=value)
        for key, value in m.tags.items():
            self._put("logged_model_tags", **owner, tag_key=key, tag_value=value)
        self._model_metrics(m, owner)

    def _model_metrics(self, m: Model, owner: Mapping[str, str | int]) -> None:
        """MLflow keeps a number of a model once for each (name, time, step, run)."""
        last = {(x.key, x.timestamp, x.step, x.run_id): x for x in m.metrics}
        for x in last.values():
            dataset = (m.experiment_number, x.dataset_name, x.dataset_digest)
            self._put(
                "logged_model_metrics", **owner, metric_name=x.key,
                metric_timestamp_ms=x.timestamp, metric_step=x.step,
                metric_value=None if np.isnan(x.value) else _finite(x.value), run_id=x.run_id,
                dataset_uuid=self._datasets.get(dataset), dataset_name=x.dataset_name or None,
                dataset_digest=x.dataset_digest or None,
            )  # fmt: skip

    def registered(self, model: RegisteredModel, versions: Sequence[ModelVersion]) -> None:
        owner = {"workspace": _WORKSPACE, "name": model.name}
        self._put(
            "registered_models", **owner, creation_time=model.created_at,
            last_updated_time=model.updated_at, description=model.description,
        )  # fmt: skip
        for key, value in model.tags.items():
            self._put("registered_model_tags", **owner, key=key, value=value)
        for v in versions:
            self._put(
                "model_versions", **owner, version=v.version, creation_time=v.created_at,
                last_updated_time=v.updated_at, description=v.description, user_id=v.user_id,
                current_stage=v.stage, source=self.place(v.source),
                storage_location=self.place(v.location), run_id=v.run_id, run_link=v.run_link,
                status="READY",
            )  # fmt: skip
            for key, value in v.tags.items():
                self._put("model_version_tags", **owner, version=v.version, key=key, value=value)
        for alias, version in model.aliases.items():
            self._put("registered_model_aliases", **owner, alias=alias, version=version)

    def finish(self, beside: Callable[[], None] = lambda: None) -> None:
        """Whole, on disk, and under its own name; in front of that ``beside`` is called."""
        for statement in self._indexes:
            self._db.execute(statement)
        self._db.execute("commit")
        self._db.close()
        sync(self._partial)
        beside()
        self._partial.rename(self._path)
        sync(self._path.parent)

    def discard(self) -> None:
        """Leave nothing behind.  After :meth:`finish` it does nothing."""
        self._db.close()
        self._partial.unlink(missing_ok=True)


def _told(points: Points) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The values as MLflow's databases hold them, and which of them are NaN."""
    missing = np.isnan(points.values)
    values = np.where(missing, 0.0, points.values)
    return np.clip(values, -LARGEST, LARGEST), missing


def _latest(points: Points, values: Floats) -> int:
    """The row of the last point in MLflow's order, in which NaN counts as 0."""
    rows = np.flatnonzero(points.steps == points.steps[-1])
    rows = rows[points.timestamps[rows] == points.timestamps[rows].max()]
    return int(rows[int(np.argmax(values[rows]))])


def _finite(value: float) -> float:
    return min(max(value, -LARGEST), LARGEST)
