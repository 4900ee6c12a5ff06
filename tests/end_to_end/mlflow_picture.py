"""Everything that MLflow's client shows of a store, as JSON: run by MLflow's Python, not by ours.

``python mlflow_picture.py URI FILE``.  Ids are kept, lists stand in the order in which they come.
"""

import hashlib
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

client: MlflowClient


def number(value: Any) -> Any:
    return value if math.isfinite(value) else str(value)


def everything(search: Any, **arguments: Any) -> Any:
    found: list[Any] = []
    token = None
    while True:
        page = search(page_token=token, **arguments)
        found += page
        token = page.token
        if not token:
            return found


def history(run_id: Any, key: Any) -> Any:
    points = client.get_metric_history(run_id, key)
    return [[point.timestamp, point.step, number(point.value)] for point in points]


def files(run_id: Any, folder: str = "") -> Any:
    found: dict[str, str] = {}
    for one in client.list_artifacts(run_id, folder or None):
        if one.is_dir:
            found |= files(run_id, one.path)
        else:
            with tempfile.TemporaryDirectory() as place:
                path = Path(mlflow.artifacts.download_artifacts(
                    run_id=run_id, artifact_path=one.path, dst_path=place
                ))  # fmt: skip
                found[one.path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def readable_files(run_id: str) -> Any:
    """None where only a server could resolve their addresses."""
    try:
        return files(run_id)
    except MlflowException:
        return None


def dataset(use: Any) -> Any:
    d = use.dataset
    tags = {tag.key: tag.value for tag in use.tags}
    return [d.name, d.digest, d.source_type, d.source, d.schema, d.profile, tags]


def of_run(run: Any) -> Any:
    info = run.info
    kept = (
        "run_id", "run_name", "experiment_id", "user_id", "status", "start_time", "end_time",
        "artifact_uri", "lifecycle_stage",
    )  # fmt: skip
    inputs, outputs = run.inputs, run.outputs
    return {
        **{name: getattr(info, name) for name in kept},
        "params": run.data.params,
        "tags": run.data.tags,
        "latest": {key: number(value) for key, value in run.data.metrics.items()},
        "histories": {key: history(info.run_id, key) for key in sorted(run.data.metrics)},
        "datasets": sorted(dataset(use) for use in inputs.dataset_inputs) if inputs else [],
        "inputs": sorted(use.model_id for use in inputs.model_inputs) if inputs else [],
        "outputs": sorted([m.model_id, m.step] for m in outputs.model_outputs) if outputs else [],
        "files": readable_files(info.run_id),
    }


def of_model(model: Any) -> Any:
    kept = (
        "model_id", "experiment_id", "name", "creation_timestamp", "last_updated_timestamp",
        "artifact_location", "model_type", "source_run_id", "status_message", "params", "tags",
    )  # fmt: skip
    metrics = [
        [m.key, number(m.value), m.timestamp, m.step, m.run_id, m.dataset_name, m.dataset_digest]
        for m in model.metrics or []
    ]
    return {
        **{name: getattr(model, name) for name in kept},
        "status": str(model.status),
        "metrics": sorted(metrics, key=str),
    }


def of_registered(model: Any) -> Any:
    found = client.search_model_versions(f"name = '{model.name}'")
    kept = (
        "version", "creation_timestamp", "last_updated_timestamp", "description", "user_id",
        "current_stage", "source", "run_id", "run_link", "status", "tags",
    )  # fmt: skip
    versions = [{name: getattr(one, name) for name in kept} for one in found]
    return {
        "creation_timestamp": model.creation_timestamp,
        "last_updated_timestamp": model.last_updated_timestamp,
        "description": model.description,
        "tags": model.tags,
        "aliases": model.aliases,
        "versions": sorted(versions, key=lambda one: int(one["version"])),
    }


def picture() -> Any:
    experiments = everything(client.search_experiments, view_type=ViewType.ALL)
    ids = [one.experiment_id for one in experiments]
    kept = ("name", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time",
            "tags")  # fmt: skip
    order = everything(client.search_runs, experiment_ids=ids, run_view_type=ViewType.ALL)
    runs = [client.get_run(run.info.run_id) for run in order]
    models = client.search_logged_models(ids, max_results=50)
    return {
        "experiments": {
            one.experiment_id: {name: getattr(one, name) for name in kept} for one in experiments
        },
        "order": [run.info.run_id for run in order],
        "runs": {run.info.run_id: of_run(run) for run in runs},
        "models": {model.model_id: of_model(model) for model in models},
        "registered": {one.name: of_registered(one) for one in client.search_registered_models()},
    }


if __name__ == "__main__":
    mlflow.set_tracking_uri(sys.argv[1])
    client = MlflowClient()
    Path(sys.argv[2]).write_text(json.dumps(picture(), default=list))
