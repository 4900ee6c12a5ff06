"""The one table of MLflow's calls: method, path, what answers.

Paths without a prefix of their own stand under /api/2.0/mlflow, and each has a twin under
/ajax-api, which MLflow's web pages use.
"""

from __future__ import annotations

from typing import Final

from stepwell_tracker.http import Call, Scope
from stepwell_tracker.mlflow import (
    artifacts,
    experiments,
    info,
    ingest,
    inputs,
    metrics,
    models,
    registered,
    runs,
    versions,
    workspaces,
)

_STREAMED: Final = {"*/*": None}
_BASE: Final = "/2.0/mlflow/"
_MODELS: Final = _BASE + "registered-models/"
_VERSIONS: Final = _BASE + "model-versions/"
_FILES: Final = "/2.0/mlflow-artifacts/"

_CALLS: Final = (
    ("POST", _BASE + "runs/log-batch", ingest.log_batch, _STREAMED),
    ("POST", _BASE + "runs/log-metric", ingest.log_metric, None),
    ("POST", _BASE + "runs/log-parameter", ingest.log_param, None),
    ("POST", _BASE + "runs/set-tag", ingest.set_tag, None),
    ("POST", _BASE + "runs/delete-tag", ingest.delete_tag, None),
    ("POST", _BASE + "runs/log-inputs", inputs.log_inputs, None),
    ("POST", _BASE + "runs/outputs", inputs.log_outputs, None),
    ("POST", _BASE + "runs/log-model", inputs.log_model, None),
    ("POST", _BASE + "runs/create", runs.create, None),
    ("GET", _BASE + "runs/get", runs.get, None),
    ("POST", _BASE + "runs/update", runs.update, None),
    ("POST", _BASE + "runs/delete", runs.delete, None),
    ("POST", _BASE + "runs/restore", runs.restore, None),
    ("POST", _BASE + "runs/search", runs.search, None),
    ("POST", _BASE + "experiments/create", experiments.create, None),
    ("GET", _BASE + "experiments/get", experiments.get, None),
    ("GET", _BASE + "experiments/get-by-name", experiments.get_by_name, None),
    ("POST", _BASE + "experiments/search", experiments.search, None),
    ("GET", _BASE + "experiments/search", experiments.search, None),
    ("POST", _BASE + "experiments/update", experiments.update, None),
    ("POST", _BASE + "experiments/delete", experiments.delete, None),
    ("POST", _BASE + "experiments/restore", experiments.restore, None),
    ("POST", _BASE + "experiments/set-experiment-tag", experiments.set_tag, None),
    ("POST", _BASE + "experiments/delete-experiment-tag", experiments.delete_tag, None),
    ("POST", _BASE + "experiments/search-datasets", inputs.search_datasets, None),
    # MLflow's own definition of this call lacks a slash, so that its server has it here too.
    ("POST", "/2.0mlflow/experiments/search-datasets", inputs.search_datasets, None),
    ("GET", _BASE + "metrics/get-history", metrics.get_history, None),
    ("GET", _BASE + "metrics/get-history-bulk", metrics.get_history_bulk, None),
    ("GET", _BASE + "metrics/get-history-bulk-interval", metrics.get_history_interval, None),
    ("GET", _BASE + "artifacts/list", artifacts.list_of_run, None),
    ("POST", _BASE + "upload-artifact", artifacts.upload_of_run, _STREAMED),
    ("POST", _BASE + "logged-models", models.create, None),
    ("POST", _BASE + "logged-models/search", models.search, None),
    ("GET", _BASE + "logged-models/{model_id}", models.get, None),
    ("PATCH", _BASE + "logged-models/{model_id}", models.finalize, None),
    ("DELETE", _BASE + "logged-models/{model_id}", models.delete, None),
    ("POST", _BASE + "logged-models/{model_id}/params", models.add_params, None),
    ("PATCH", _BASE + "logged-models/{model_id}/tags", models.set_tags, None),
    ("DELETE", _BASE + "logged-models/{model_id}/tags/{key:path}", models.delete_tag, None),
    (
        "GET", _BASE + "logged-models/{model_id}/artifacts/directories",
        artifacts.list_of_model, None,
    ),
    ("GET", _BASE + "logged-models/{model_id}/artifacts/files", artifacts.get_of_model, None),
    ("POST", _MODELS + "create", registered.create, None),
    ("GET", _MODELS + "get", registered.get, None),
    ("GET", _MODELS + "search", registered.search, None),
    ("POST", _MODELS + "rename", registered.rename, None),
    ("PATCH", _MODELS + "update", registered.update, None),
    ("DELETE", _MODELS + "delete", registered.delete, None),
    ("POST", _MODELS + "get-latest-versions", registered.latest_versions, None),
    ("GET", _MODELS + "get-latest-versions", registered.latest_versions, None),
    ("POST", _MODELS + "set-tag", registered.set_tag, None),
    ("DELETE", _MODELS + "delete-tag", registered.delete_tag, None),
    ("POST", _MODELS + "alias", registered.set_alias, None),
    ("DELETE", _MODELS + "alias", registered.delete_alias, None),
    ("GET", _MODELS + "alias", registered.get_by_alias, None),
    ("POST", _VERSIONS + "create", versions.create, None),
    ("GET", _VERSIONS + "get", versions.get, None),
    ("GET", _VERSIONS + "search", versions.search, None),
    ("GET", _VERSIONS + "get-download-uri", versions.download_uri, None),
    ("PATCH", _VERSIONS + "update", versions.update, None),
    ("POST", _VERSIONS + "transition-stage", versions.transition_stage, None),
    ("DELETE", _VERSIONS + "delete", versions.delete, None),
    ("POST", _VERSIONS + "set-tag", versions.set_tag, None),
    ("DELETE", _VERSIONS + "delete-tag", versions.delete_tag, None),
    ("GET", _FILES + "artifacts", artifacts.proxy_list, None),
    ("GET", _FILES + "artifacts/{path:path}", artifacts.download, None),
    ("PUT", _FILES + "artifacts/{path:path}", artifacts.upload, _STREAMED),
    ("DELETE", _FILES + "artifacts/{path:path}", artifacts.delete, _STREAMED),
    ("POST", _FILES + "mpu/{rest:path}", artifacts.no_multipart, _STREAMED),
    ("GET", _FILES + "presigned/{rest:path}", artifacts.no_presigned, None),
    ("GET", "/3.0/mlflow/server-info", info.server_info, None),
    ("GET", "/3.0/mlflow/workspaces", workspaces.find_all, None),
    ("POST", "/3.0/mlflow/workspaces", workspaces.create, None),
    ("GET", "/3.0/mlflow/workspaces/{name}", workspaces.get, None),
    ("PATCH", "/3.0/mlflow/workspaces/{name}", workspaces.update, None),
    ("DELETE", "/3.0/mlflow/workspaces/{name}", workspaces.delete, None),
)  # fmt: skip
CALLS: Final = (
    *(
        Call(method, prefix + path, endpoint, scope=Scope.LATER, body=body)
        for prefix in ("/api", "/ajax-api")
        for method, path, endpoint, body in _CALLS
    ),
    Call("GET", "/version", info.version, scope=Scope.SERVER),
    Call("GET", "/get-artifact", artifacts.get_of_run, scope=Scope.LATER),
)
