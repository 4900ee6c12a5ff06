"""MLflow's database as a source: any of its schemas since metrics have steps.

What later versions added is looked for, never supposed: a column that is not there reads as null,
a table that is not there as empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from stepwell_storage.names import pages
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
from stepwell_tracker.porting import mapping
from stepwell_tracker.porting.local_files import LocalFiles, SourceFile
from stepwell_tracker.porting.mlflow_registry import Registry
from stepwell_tracker.porting.mlflow_revisions import KNOWN
from stepwell_tracker.porting.source import (
    Damaged,
    SourceError,
    SourceModel,
    SourceRun,
    Totals,
    infinities,
    points_of,
)

PAGE_RUNS: Final = 500
PIECE_POINTS: Final = 200_000
DEFAULT_WORKSPACE: Final = "default"
_NEEDED: Final = ("experiments", "runs", "metrics", "params", "tags")
_NOT_IMPORTED: Final = {
    "traces": "trace_info",
    "evaluation datasets": "evaluation_datasets",
    "scorers": "scorers",
    "webhooks": "webhooks",
}
_OF_WORKSPACE: Final = (
    "where experiment_id in (select experiment_id from experiments where workspace = ?)"
)
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Options:
    """``restore`` makes infinities of the numbers that MLflow put in their place."""

    files: LocalFiles
    workspace: str = DEFAULT_WORKSPACE
    any_version: bool = False
    restore: bool = False


class Database(Protocol):
    """A read-only snapshot.  Markers are ``?``; ``rows`` streams."""

    def rows(self, statement: str, binds: Sequence[object] = ()) -> Iterator[Row]: ...
    def tables(self) -> dict[str, set[str]]:
        """The columns of each table."""

    def close(self) -> None: ...


class SqlSource:
    """Raises SourceError where this is no MLflow database, or one in an unknown state."""

    def __init__(self, name: str, database: Database, options: Options) -> None:
        self.name = name
        self.problems: list[str] = []
        self._database = database
        self._options = options
        try:
            self._tables = database.tables()
            self._check(options.any_version)
        except BaseException:
            database.close()
            raise

    def _check(self, any_version: bool) -> None:
        missing = [table for table in _NEEDED if table not in self._tables]
        if missing:
            raise SourceError(f"{self.name} is no MLflow database: it has no table {missing[0]}")
        torn = [table for table in self._tables if table.startswith("_alembic_tmp_")]
        versions = []
        if "alembic_version" in self._tables:
            versions = [
                row[0] for row in self._database.rows("select version_num from alembic_version")
            ]
        if torn or len(versions) != 1:
            raise SourceError(
                f"{self.name} was left half-way by an upgrade of its schema"
                f" ({f'table {torn[0]}' if torn else f'{len(versions)} versions'}); restore its"
                " backup, or finish with: mlflow db upgrade"
            )
        if versions[0] not in KNOWN and not any_version:
            raise SourceError(
                f"{self.name} has schema {versions[0]!r}, which this Stepwell does not know: it was"
                " written by a newer MLflow.  Use a newer Stepwell, or --any-version to import what"
                " it does know"
            )

    def close(self) -> None:
        self._database.close()

    # --- statements ----------------------------------------------------------------------------

    def _column(self, table: str, column: str, default: str = "null") -> str:
        return column if column in self._tables[table] else default

    def _select(self, table: str, columns: Iterable[str], rest: str) -> str:
        words = ", ".join(self._column(table, column) for column in columns)
        return f"select {words} from {table} {rest}"  # noqa: S608 - names of this file alone

    def _rows(self, statement: str, *binds: object) -> Iterator[Row]:
        return self._database.rows(statement, binds)

    def _in(self, statement: str, values: Sequence[object]) -> Iterator[Row]:
        """``statement`` ends in ``in``."""
        for some in pages(values):
            marks = ",".join("?" * len(some))
            yield from self._database.rows(f"{statement} ({marks})", some)

    @property
    def _of_workspace(self) -> str:
        """What narrows experiments, and what belongs to them; one marker where there are any."""
        return _OF_WORKSPACE if self._workspaces else ""

    @property
    def _workspaces(self) -> list[str]:
        return [self._options.workspace] if "workspace" in self._tables["experiments"] else []

    # --- what there is -------------------------------------------------------------------------

    def totals(self) -> Totals:
        statement = f"select count(*) from runs {self._of_workspace}"  # noqa: S608 - as above
        runs = next(self._rows(statement, *self._workspaces))[0]
        points = next(self._rows("select count(*) from metrics"))[0]
        return Totals(runs, points)

    def experiments(self) -> list[Experiment]:
        columns = ("experiment_id", "name", "artifact_location", "lifecycle_stage", "creation_time",
                   "last_update_time")  # fmt: skip
        rest = f"{self._of_workspace} order by experiment_id"
        statement = self._select("experiments", columns, rest)
        found = {}
        for number, name, location, stage, created, updated in self._rows(
            statement, *self._workspaces
        ):
            what = f"experiment {number}"
            try:
                found[number] = Experiment(
                    experiment_id="",
                    number=mapping.integer(number, f"the number of {what}"),
                    name=mapping.text(name, f"the name of {what}"),
                    description="",
                    lifecycle=mapping.lifecycle(stage),
                    created_at=mapping.optional_integer(created, f"creation of {what}") or 0,
                    updated_at=mapping.optional_integer(updated, f"update of {what}") or 0,
                    artifact_location=mapping.optional_text(location, f"location of {what}"),
                )
            except Damaged as error:
                self.problems.append(f"{what} is not imported: {error}")
        if "experiment_tags" in self._tables:
            statement = (
                "select experiment_id, key, value from experiment_tags where experiment_id in"
            )
            for number, key, value in self._in(statement, list(found)):
                found[number].tags[key] = value or ""
        return list(found.values())

    def runs(self) -> Iterator[SourceRun]:
        columns = ("run_uuid", "experiment_id", "name", "user_id", "status", "start_time",
                   "end_time", "lifecycle_stage", "artifact_uri")  # fmt: skip
        statement = self._select(
            "runs", columns, f"{self._of_workspace} order by start_time, run_uuid"
        )
        rows = self._rows(statement, *self._workspaces)
        for page in pages(rows, PAGE_RUNS):
            yield from self._filled([_run(row) for row in page])

    def _filled(self, page: list[SourceRun]) -> list[SourceRun]:
        runs = {one.run.run_id: one for one in page if one.problem is None}
        tags: dict[str, dict[str, str]] = {run_id: {} for run_id in runs}
        names = list(runs)
        for run_id, key, value in self._in(
            "select run_uuid, key, value from params where run_uuid in", names
        ):
            runs[run_id].run.params[key] = value
        for run_id, key, value in self._in(
            "select run_uuid, key, value from tags where run_uuid in", names
        ):
            tags[run_id][key] = "" if value is None else value
        self._add_datasets(runs)
        self._add_models(runs)
        for one in runs.values():
            try:
                _check_texts(one.run.params, tags[one.run.run_id])
                mapping.set_tags(one.run, tags[one.run.run_id])
                mapping.check(one.run)
            except Damaged as error:
                one.problem = str(error)
        return page

    def _add_datasets(self, runs: Mapping[str, SourceRun]) -> None:
        if "inputs" not in self._tables or "datasets" not in self._tables:
            return
        statement = (
            "select i.destination_id, i.input_uuid, d.name, d.digest, d.dataset_source_type,"
            " d.dataset_source, d.dataset_schema, d.dataset_profile"
            " from inputs i join datasets d on d.dataset_uuid = i.source_id"
            " where i.source_type = 'DATASET' and i.destination_type = 'RUN'"
            " and i.destination_id in"
        )
        uses: dict[str, DatasetUse] = {}
        for run_id, link, *dataset in self._in(statement, list(runs)):
            use = uses[link] = DatasetUse(Dataset(*dataset), {})
            runs[run_id].run.datasets.append(use)
        if uses and "input_tags" in self._tables:
            statement = "select input_uuid, name, value from input_tags where input_uuid in"
            for link, key, value in self._in(statement, list(uses)):
                uses[link].tags[key] = value

    def _add_models(self, runs: Mapping[str, SourceRun]) -> None:
        if "logged_models" not in self._tables:
            return
        step = self._column("inputs", "step", "0")
        for kind, told in (("input", "RUN_INPUT"), ("output", "RUN_OUTPUT")):
            statement = (
                f"select source_id, destination_id, {step} from inputs"  # noqa: S608 - as above
                f" where source_type = '{told}' and source_id in"
            )
            for run_id, model_id, at in self._in(statement, list(runs)):
                use = ModelUse(kind, model_id, at if kind == "output" else 0)
                runs[run_id].run.models.append(use)

    # --- points --------------------------------------------------------------------------------

    def points(self, run: Run) -> Iterator[tuple[str, Points]]:
        step, flag = self._column("metrics", "step", "0"), self._column("metrics", "is_nan", "0")
        statement = (
            f"select key, {step}, timestamp, value, {flag} from metrics"  # noqa: S608 - as above
            f" where run_uuid = ? order by key, {step}"
        )
        for page in pages(self._rows(statement, run.run_id), PIECE_POINTS):
            keys, steps, timestamps, values, flags = zip(*page, strict=True)
            start = 0
            while start < len(keys):
                key = keys[start]
                end = _end_of(keys, start)
                part = slice(start, end)
                points = points_of(key, steps[part], timestamps[part], values[part])
                yield key, self._told(points, flags[part])
                start = end

    def _told(self, points: Points, flags: Sequence[object]) -> Points:
        values = points.values
        missing = np.fromiter(map(bool, flags), np.bool_, len(flags))
        if missing.any():
            values = np.where(missing, np.nan, values)
        if self._options.restore:
            values = infinities(values)
        return Points.of(points.steps, points.timestamps, values)

    # --- models --------------------------------------------------------------------------------

    def models(self) -> Iterator[SourceModel]:
        if "logged_models" not in self._tables:
            return
        columns = ("model_id", "experiment_id", "name", "model_type", "source_run_id", "status",
                   "status_message", "creation_timestamp_ms", "last_updated_timestamp_ms",
                   "lifecycle_stage", "artifact_location")  # fmt: skip
        statement = self._select(
            "logged_models",
            columns,
            f"{self._of_workspace} order by creation_timestamp_ms, model_id",
        )
        rows = self._rows(statement, *self._workspaces)
        for page in pages(rows, PAGE_RUNS):
            yield from self._whole([_model(row) for row in page])

    def _whole(self, page: list[SourceModel]) -> list[SourceModel]:
        models = {one.model.model_id: one.model for one in page}
        names = list(models)
        statement = (
            "select model_id, param_key, param_value from logged_model_params where model_id in"
        )
        for model_id, key, value in self._in(statement, names):
            models[model_id].params[key] = value
        statement = "select model_id, tag_key, tag_value from logged_model_tags where model_id in"
        for model_id, key, value in self._in(statement, names):
            models[model_id].tags[key] = value
        statement = (
            "select model_id, metric_name, metric_value, metric_step, metric_timestamp_ms, run_id,"
            " dataset_name, dataset_digest from logged_model_metrics where model_id in"
        )
        for model_id, key, value, step, at, run_id, name, digest in self._in(statement, names):
            number = float("nan") if value is None else value
            metric = ModelMetric(key, number, step, at, run_id, name or "", digest or "")
            models[model_id].metrics.append(metric)
        return page

    # --- the registry --------------------------------------------------------------------------

    def registered(self) -> Iterator[tuple[RegisteredModel, list[ModelVersion]]]:
        if "registered_models" in self._tables:
            rows = Registry(self._tables, self._rows, self._options.workspace)
            yield from rows.models()

    def has_files(self, uri: str) -> bool:
        return self._options.files.is_local(uri)

    def files(self, uri: str) -> Iterator[SourceFile]:
        return self._options.files.of(uri)

    def left_out(self) -> Mapping[str, int]:
        found = {}
        for what, table in _NOT_IMPORTED.items():
            if table in self._tables:
                found[what] = next(self._rows(f"select count(*) from {table}"))[0]  # noqa: S608
        if self._workspaces:
            statement = (
                "select workspace, count(*) from experiments where workspace <> ?"
                " group by workspace"
            )
            for workspace, count in self._rows(statement, self._options.workspace):
                found[f"experiments of workspace {workspace}"] = count
        return {what: count for what, count in found.items() if count}


def _end_of(keys: Sequence[str], start: int) -> int:
    """Where the run of equal keys that begins at ``start`` ends."""
    key, low, high = keys[start], start, len(keys)
    if keys[-1] == key:
        return high
    width = 1
    while start + width < high and keys[start + width] == key:
        low = start + width
        width *= 2
    high = min(high, start + width)
    while high - low > 1:
        middle = (low + high) // 2
        if keys[middle] == key:
            low = middle
        else:
            high = middle
    return high


def _run(row: Row) -> SourceRun:
    run_id, experiment, name, user, status, start, end, stage, uri = row
    run = mapping.blank(str(run_id), experiment)
    found = SourceRun(run, artifact_uri=str(uri or ""))
    try:
        run.name = mapping.text(name, "its name")
        run.user_id = mapping.optional_text(user, "its user")
        run.status = mapping.status(status)
        run.start_time = mapping.optional_integer(start, "its start") or 0
        run.end_time = mapping.optional_integer(end, "its end")
        run.lifecycle = mapping.lifecycle(stage)
        run.heartbeat_at = run.end_time or run.start_time
    except Damaged as error:
        found.problem = str(error)
    return found


def _check_texts(*groups: Mapping[Any, Any]) -> None:
    for group in groups:
        for key, value in group.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise Damaged(f"{key!r} is {value!r}, and no text")


def _model(row: Row) -> SourceModel:
    (model_id, experiment, name, kind, run_id, status, message, created, updated, stage,
     location) = row  # fmt: skip
    model = Model(
        model_id=model_id,
        experiment_number=experiment,
        name=name,
        model_type=kind,
        source_run_id=run_id,
        status=mapping.MODEL_STATUSES.get(status, "pending"),
        status_message=message,
        created_at=created,
        updated_at=updated,
    )
    return SourceModel(model, stage == "deleted", location or "")
