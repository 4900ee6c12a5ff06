"""An MLflow server as a source, by its REST API: any server that speaks it, this one included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

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
from stepwell_tracker.porting.local_files import PROXIED, Elsewhere, LocalFiles, SourceFile
from stepwell_tracker.porting.mlflow_http import MlflowHttp
from stepwell_tracker.porting.mlflow_registry import logged_model
from stepwell_tracker.porting.source import (
    Damaged,
    SourceError,
    SourceModel,
    SourceRun,
    Totals,
    infinities,
    points_of,
)

_RUNS: Final = 500
_POINTS: Final = 20_000
_MODELS: Final = 50
_MODEL_STATUSES: Final = {
    "LOGGED_MODEL_PENDING": "pending", "LOGGED_MODEL_READY": "ready",
    "LOGGED_MODEL_UPLOAD_FAILED": "failed",
}  # fmt: skip


class RestSource:
    """Of one workspace.  What is written there meanwhile may be missed: run the import again.

    Raises SourceError where no such server answers, or it refuses.
    """

    def __init__(self, url: str, workspace: str, files: LocalFiles, *, restore: bool) -> None:
        self._http = MlflowHttp(url, None if workspace == "default" else workspace)
        self.name = self._http.url
        self.problems: list[str] = []
        self._files = files
        self._restore = restore
        self._experiments: list[str] = []
        self._keys: dict[str, list[str]] = {}
        self._http.post("experiments/search", max_results=1)

    def close(self) -> None:
        self._http.close()

    def totals(self) -> Totals:
        return Totals(None, None)

    def experiments(self) -> list[Experiment]:
        found = []
        for one in self._http.pages(
            "experiments/search", "experiments", max_results=1_000, view_type="ALL"
        ):
            self._experiments.append(one["experiment_id"])
            found.append(
                Experiment(
                    experiment_id="",
                    number=int(one["experiment_id"]),
                    name=one["name"],
                    description="",
                    lifecycle=one.get("lifecycle_stage", "active"),
                    created_at=int(one.get("creation_time", 0)),
                    updated_at=int(one.get("last_update_time", 0)),
                    tags=_pairs(one.get("tags")),
                    artifact_location=one.get("artifact_location"),
                )
            )
        return found

    def runs(self) -> Iterator[SourceRun]:
        alone = self._has_models()
        for experiment in self._experiments:
            search = {"experiment_ids": [experiment], "run_view_type": "ALL", "max_results": _RUNS}
            for one in self._http.pages("runs/search", "runs", **search):
                info = one["info"]
                if alone:  # a search leaves out the models that a run read
                    one = self._http.get("runs/get", run_id=info["run_id"])["run"]
                run = mapping.blank(info["run_id"], int(info["experiment_id"]))
                found = SourceRun(run, artifact_uri=info.get("artifact_uri", ""))
                try:
                    self._fill(run, one)
                except Damaged as error:
                    found.problem = str(error)
                yield found

    def _fill(self, run: Run, one: Mapping[str, Any]) -> None:
        info, data = one["info"], one.get("data", {})
        run.name = info.get("run_name", "")
        run.user_id = info.get("user_id")
        run.status = mapping.status(info.get("status"))
        run.start_time = int(info.get("start_time", 0))
        run.end_time = int(info["end_time"]) if "end_time" in info else None
        run.heartbeat_at = run.end_time or run.start_time
        run.lifecycle = mapping.lifecycle(info.get("lifecycle_stage"))
        run.params = _pairs(data.get("params"))
        mapping.set_tags(run, _pairs(data.get("tags")))
        self._keys[run.run_id] = [metric["key"] for metric in data.get("metrics", [])]
        inputs, outputs = one.get("inputs", {}), one.get("outputs", {})
        for use in inputs.get("dataset_inputs", []):
            run.datasets.append(DatasetUse(_dataset(use["dataset"]), _pairs(use.get("tags"))))
        for use in inputs.get("model_inputs", []):
            run.models.append(ModelUse("input", use["model_id"], 0))
        for use in outputs.get("model_outputs", []):
            run.models.append(ModelUse("output", use["model_id"], int(use.get("step", 0))))
        mapping.check(run)

    def points(self, run: Run) -> Iterator[tuple[str, Points]]:
        for key in self._keys[run.run_id]:
            query = {"run_id": run.run_id, "metric_key": key, "max_results": _POINTS}
            rows = list(self._http.got("metrics/get-history", "metrics", **query))
            yield key, merge([self._points(key, rows)])

    def _points(self, key: str, rows: Sequence[Mapping[str, Any]]) -> Points:
        found = points_of(
            key,
            [int(row.get("step", 0)) for row in rows],
            [int(row["timestamp"]) for row in rows],
            [float(row["value"]) for row in rows],
        )
        if not self._restore:
            return found
        return Points.of(found.steps, found.timestamps, infinities(found.values))

    # --- models --------------------------------------------------------------------------------

    def _has_models(self) -> bool:
        """Older servers know of none."""
        search = {"experiment_ids": self._experiments, "max_results": 1}
        if not self._http.offers("logged-models/search", **search):
            return False
        return bool(self._http.post("logged-models/search", **search).get("models"))

    def models(self) -> Iterator[SourceModel]:
        """Deleted ones are not shown by the API, and stay behind."""
        if not self._has_models():
            return
        for experiment in self._experiments:
            search = {"experiment_ids": [experiment], "max_results": _MODELS}
            for one in self._http.pages("logged-models/search", "models", **search):
                yield SourceModel(_model(one), False, one["info"].get("artifact_uri", ""))

    def registered(self) -> Iterator[tuple[RegisteredModel, list[ModelVersion]]]:
        for one in self._http.got("registered-models/search", "registered_models", max_results=100):
            name = one["name"]
            quote = '"' if "'" in name else "'"
            query = {"filter": f"name = {quote}{name}{quote}", "max_results": 1_000}
            versions = self._http.got("model-versions/search", "model_versions", **query)
            yield _registered(one), [_version(version) for version in versions]

    # --- files ---------------------------------------------------------------------------------

    def has_files(self, uri: str) -> bool:
        if urlsplit(uri).scheme == PROXIED:
            return True
        return self._files.is_local(uri) and self._files.folder(uri).is_dir()

    def files(self, uri: str) -> Iterator[SourceFile]:
        parts = urlsplit(uri)
        if parts.scheme == PROXIED:
            return self._below(unquote(parts.path).strip("/"), "")
        if not self.has_files(uri):
            raise Elsewhere(f"{parts.scheme or 'folders'} of the server's")
        return self._files.of(uri)

    def _below(self, root: str, folder: str) -> Iterator[SourceFile]:
        for one in self._http.listed(f"{root}/{folder}".rstrip("/")):
            name = one["path"].rpartition("/")[2]
            path = f"{folder}/{name}".lstrip("/")
            if one.get("is_dir"):
                yield from self._below(root, path)
            else:
                whole = f"{root}/{path}"
                size = int(one["file_size"]) if "file_size" in one else None
                yield SourceFile(path, size, lambda whole=whole: self._http.download(whole))  # type: ignore[misc]  # bound now

    def left_out(self) -> Mapping[str, int]:
        return {}


def _pairs(given: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    return {one["key"]: one.get("value", "") for one in given or ()}


def _dataset(one: Mapping[str, str]) -> Dataset:
    return Dataset(
        name=one.get("name", ""),
        digest=one.get("digest", ""),
        source_type=one.get("source_type", ""),
        source=one.get("source", ""),
        schema=one.get("schema"),
        profile=one.get("profile"),
    )


def _model(one: Mapping[str, Any]) -> Model:
    info, data = one["info"], one.get("data", {})
    metrics = [
        ModelMetric(
            m["key"], float(m["value"]), int(m.get("step", 0)), int(m["timestamp"]),
            m.get("run_id", ""), m.get("dataset_name", ""), m.get("dataset_digest", ""),
        )
        for m in data.get("metrics", [])
    ]  # fmt: skip
    status = info.get("status")
    if status not in _MODEL_STATUSES:
        raise SourceError(f"model {info['model_id']} has status {status!r}")
    return Model(
        model_id=info["model_id"],
        experiment_number=int(info["experiment_id"]),
        name=info.get("name", ""),
        model_type=info.get("model_type") or None,
        source_run_id=info.get("source_run_id") or None,
        status=_MODEL_STATUSES[status],
        status_message=info.get("status_message") or None,
        created_at=int(info["creation_timestamp_ms"]),
        updated_at=int(info["last_updated_timestamp_ms"]),
        params=_pairs(data.get("params")),
        tags=_pairs(info.get("tags")),
        metrics=metrics,
    )


def _registered(one: Mapping[str, Any]) -> RegisteredModel:
    created = int(one.get("creation_timestamp", 0))
    return RegisteredModel(
        name=one["name"],
        description=one.get("description"),
        created_at=created,
        updated_at=int(one.get("last_updated_timestamp", created)),
        tags=_pairs(one.get("tags")),
        aliases={alias["alias"]: int(alias["version"]) for alias in one.get("aliases", [])},
    )


def _version(one: Mapping[str, Any]) -> ModelVersion:
    created, source = int(one.get("creation_timestamp", 0)), one.get("source", "")
    return ModelVersion(
        name=one["name"],
        version=int(one["version"]),
        description=one.get("description"),
        user_id=one.get("user_id") or None,
        stage=one.get("current_stage") or "None",
        source=source,
        location=source,
        run_id=one.get("run_id") or None,
        run_link=one.get("run_link") or None,
        model_id=one.get("model_id") or logged_model(source),
        created_at=created,
        updated_at=int(one.get("last_updated_timestamp", created)),
        tags=_pairs(one.get("tags")),
    )
