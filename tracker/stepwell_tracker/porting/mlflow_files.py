"""MLflow's folder ``mlruns`` as a source: a YAML file for each thing, a text file for each value.

    mlruns/<experiment>/meta.yaml, tags/<key>, datasets/<id>/meta.yaml, models/<id>/...
    mlruns/<experiment>/<run>/meta.yaml, params/<key>, tags/<key>, metrics/<key>, inputs/, outputs/
    mlruns/.trash/<experiment>/...          deleted experiments
    mlruns/models/<name>/...                the model registry

A key with slashes is a path.  A metric's file has lines ``timestamp value [step [name digest]]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from stepwell_storage.points import Points, merge
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
from stepwell_tracker.porting.local_files import SourceFile
from stepwell_tracker.porting.mlflow_registry import logged_model
from stepwell_tracker.porting.mlflow_sql import Options
from stepwell_tracker.porting.mlflow_yaml import Meta, folders, read_meta, texts
from stepwell_tracker.porting.source import (
    Damaged,
    SourceError,
    SourceModel,
    SourceRun,
    Totals,
    points_of,
)

_META: Final = "meta.yaml"
_NOT_RUNS: Final = frozenset(("tags", "datasets", "traces", "models"))


class FileSource:
    """Raises SourceError where there is no such folder, or none of MLflow's."""

    def __init__(self, root: Path, options: Options) -> None:
        self.name = str(root)
        self.problems: list[str] = []
        self._root = root
        self._options = options
        self._folders: dict[str, Path] = {}
        if not root.is_dir():
            raise SourceError(
                f"{root} is neither an SQLite database nor a folder mlruns"
                if root.exists()
                else f"there is no folder or file {root}"
            )
        self._experiments = [
            folder
            for parent in (root, root / ".trash")
            for folder in folders(parent)
            if folder.name.isdecimal() and (folder / _META).is_file()
        ]
        if not self._experiments:
            raise SourceError(f"{root} is no folder of MLflow's: it has no <experiment>/{_META}")

    def close(self) -> None:
        """Nothing is held open."""

    def totals(self) -> Totals:
        return Totals(None, None)

    def experiments(self) -> list[Experiment]:
        found = []
        for folder in self._experiments:
            try:
                meta = read_meta(folder / _META)
                found.append(
                    Experiment(
                        experiment_id="",
                        number=int(folder.name),
                        name=meta.text("name") or folder.name,
                        description="",
                        lifecycle=mapping.lifecycle(meta.get("lifecycle_stage")),
                        created_at=meta.integer("creation_time") or 0,
                        updated_at=meta.integer("last_update_time") or 0,
                        tags=texts(folder / "tags"),
                        artifact_location=meta.text("artifact_location"),
                    )
                )
            except Damaged as error:
                self.problems.append(f"experiment {folder.name} is not imported: {error}")
        return found

    # --- runs ----------------------------------------------------------------------------------

    def runs(self) -> Iterator[SourceRun]:
        for experiment in self._experiments:
            datasets = _datasets(experiment)
            for folder in folders(experiment):
                if folder.name not in _NOT_RUNS:
                    yield self._run(folder, int(experiment.name), datasets)

    def _run(
        self, folder: Path, experiment: int, datasets: Mapping[str, Dataset | Damaged]
    ) -> SourceRun:
        run = mapping.blank(folder.name, experiment)
        found = SourceRun(run)
        self._folders[folder.name] = folder
        try:
            meta = read_meta(folder / _META)
            run.name = meta.text("run_name") or ""
            run.user_id = meta.text("user_id")
            run.status = _status(meta.get("status"))
            run.start_time = meta.integer("start_time") or 0
            run.end_time = meta.integer("end_time")
            run.heartbeat_at = run.end_time or run.start_time
            run.lifecycle = mapping.lifecycle(meta.get("lifecycle_stage"))
            found.artifact_uri = self._place(meta.text("artifact_uri"), folder)
            run.params = texts(folder / "params")
            mapping.set_tags(run, texts(folder / "tags"))
            _link(run, folder, datasets)
            mapping.check(run)
        except Damaged as error:
            found.problem = str(error)
        return found

    def _place(self, uri: str | None, folder: Path) -> str:
        """Where the files are: beside the rest, if the folder was moved since."""
        beside = folder / "artifacts"
        if beside.is_dir() and self._options.files.is_local(uri):
            return str(beside.absolute())
        return uri or str(beside.absolute())

    def points(self, run: Run) -> Iterator[tuple[str, Points]]:
        top = self._folders[run.run_id] / "metrics"
        for path in sorted(top.rglob("*")):
            if path.is_file():
                key = path.relative_to(top).as_posix()
                yield key, merge([_metric(key, path)])

    # --- models --------------------------------------------------------------------------------

    def models(self) -> Iterator[SourceModel]:
        for experiment in self._experiments:
            for folder in folders(experiment / "models"):
                try:
                    yield self._model(folder, int(experiment.name))
                except Damaged as error:
                    self.problems.append(f"model {folder.name!r} is not imported: {error}")

    def _model(self, folder: Path, experiment: int) -> SourceModel:
        meta = read_meta(folder / _META)
        created = meta.integer("creation_timestamp") or 0
        changed = meta.integer("last_updated_timestamp") or created
        model = Model(
            model_id=folder.name,
            experiment_number=experiment,
            name=meta.text("name") or "",
            model_type=meta.text("model_type"),
            source_run_id=meta.text("source_run_id"),
            status=mapping.MODEL_STATUSES.get(meta.integer("status") or 0, "pending"),
            status_message=meta.text("status_message"),
            created_at=created,
            updated_at=changed,
            params=texts(folder / "params"),
            tags=texts(folder / "tags"),
            metrics=_model_metrics(folder / "metrics"),
        )
        deleted = mapping.lifecycle(meta.get("lifecycle_stage")) == "deleted"
        place = self._place(meta.text("artifact_location"), folder)
        return SourceModel(model, deleted, place)

    def registered(self) -> Iterator[tuple[RegisteredModel, list[ModelVersion]]]:
        for folder in folders(self._root / "models"):
            if not (folder / _META).is_file():
                continue
            try:
                yield _registered(folder)
            except Damaged as error:
                self.problems.append(f"registered model {folder.name!r} is not imported: {error}")

    def has_files(self, uri: str) -> bool:
        return self._options.files.is_local(uri)

    def files(self, uri: str) -> Iterator[SourceFile]:
        return self._options.files.of(uri)

    def left_out(self) -> Mapping[str, int]:
        traces = sum(len(folders(one / "traces")) for one in self._experiments)
        return {"traces": traces} if traces else {}


def _status(value: Any) -> str:
    if isinstance(value, int):
        found = mapping.STATUS_NUMBERS.get(value)
        if found is not None:
            return found
    return "running" if value is None else mapping.status(value)


def _datasets(experiment: Path) -> dict[str, Dataset | Damaged]:
    """By the names of their folders; one that cannot be read costs the runs that used it."""
    found: dict[str, Dataset | Damaged] = {}
    for folder in folders(experiment / "datasets"):
        try:
            found[folder.name] = _dataset(read_meta(folder / _META))
        except Damaged as error:
            found[folder.name] = error
    return found


def _dataset(meta: Meta) -> Dataset:
    return Dataset(
        name=meta.text("name") or "",
        digest=meta.text("digest") or "",
        source_type=meta.text("source_type") or "",
        source=meta.text("source") or "",
        schema=meta.text("schema"),
        profile=meta.text("profile"),
    )


def _link(run: Run, folder: Path, datasets: Mapping[str, Dataset | Damaged]) -> None:
    for one in folders(folder / "inputs"):
        meta = read_meta(one / _META)
        source = meta.text("source_id") or ""
        if meta.get("source_type") == "MODEL":
            run.models.append(ModelUse("input", source, 0))
        elif source in datasets:
            dataset, tags = datasets[source], meta.get("tags") or {}
            if isinstance(dataset, Damaged):
                raise Damaged(f"its dataset {source}: {dataset}")
            if not isinstance(tags, dict):
                raise Damaged(f"the tags of its dataset {source} are {tags!r}")
            told = {str(key): str(value) for key, value in tags.items()}
            run.datasets.append(DatasetUse(dataset, told))
    for one in folders(folder / "outputs"):
        meta = read_meta(one / _META)
        run.models.append(ModelUse("output", one.name, meta.integer("step") or 0))


def _metric(key: str, path: Path) -> Points:
    """Raises Damaged, with the line, where one is not of the form."""
    steps, timestamps, values = [], [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        words = line.split()
        try:
            timestamps.append(int(words[0]))
            values.append(float(words[1]))
            steps.append(int(words[2]) if len(words) > 2 else 0)
        except (ValueError, IndexError):
            if not words:
                continue
            raise Damaged(f"line {number} of metric {key!r} is no point: {line[:60]!r}") from None
    return points_of(key, steps, timestamps, values)


def _model_metrics(top: Path) -> list[ModelMetric]:
    """Lines are ``timestamp value step run [name digest]``."""
    found = []
    for path in sorted(top.rglob("*")):
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            words = line.decode(errors="replace").split()
            try:
                at, value, step = int(words[0]), float(words[1]), int(words[2])
                key, named = path.relative_to(top).as_posix(), words[4:6] or ["", ""]
                found.append(ModelMetric(key, value, step, at, words[3], named[0], named[1]))
            except (ValueError, IndexError):
                raise Damaged(f"{path} has a line that is no point: {line[:60]!r}") from None
    return found


def _registered(folder: Path) -> tuple[RegisteredModel, list[ModelVersion]]:
    meta = read_meta(folder / _META)
    name = meta.text("name") or folder.name
    created = meta.integer("creation_timestamp") or 0
    model = RegisteredModel(
        name=name,
        description=meta.text("description"),
        created_at=created,
        updated_at=meta.integer("last_updated_timestamp") or created,
        tags=texts(folder / "tags"),
        aliases={alias: _number(text, alias) for alias, text in texts(folder / "aliases").items()},
    )
    found = [one for one in folders(folder) if one.name.startswith("version-")]
    versions = [_version(name, read_meta(one / _META), texts(one / "tags")) for one in found]
    return model, sorted(versions, key=lambda one: one.version)


def _number(text: object, what: str) -> int:
    try:
        return int(str(text))
    except ValueError:
        raise Damaged(f"{what} is {text!r}, and no number") from None


def _version(name: str, meta: Meta, tags: dict[str, str]) -> ModelVersion:
    created = meta.integer("creation_timestamp") or 0
    source = meta.text("source") or ""
    return ModelVersion(
        name=name,
        version=_number(meta.get("version"), "version"),
        description=meta.text("description"),
        user_id=meta.text("user_id"),
        stage=meta.text("current_stage") or "None",
        source=source,
        location=meta.text("storage_location") or source,
        run_id=meta.text("run_id"),
        run_link=meta.text("run_link"),
        model_id=meta.text("model_id") or logged_model(source),
        created_at=created,
        updated_at=meta.integer("last_updated_timestamp") or created,
        tags=tags,
    )
