"""Anything at all in a field of MLflow's calls: an answer in MLflow's form, and never a 500."""

import json
import random
from typing import Any

import pytest

from stepwell_tracker.mlflow.routes import CALLS
from tests.tracker.mlflow_client import Mlflow

REQUESTS = 700
WORDS = (
    "run_id run_uuid experiment_id experiment_ids name new_name key value timestamp step "
    "metrics params tags datasets dataset models model_id max_results page_token filter "
    "order_by view_type run_view_type status end_time start_time user_id run_name metric_key "
    "run_ids path artifact_location version alias stage stages source description model_json "
    "dataset_name archive_existing_versions start_step end_step experiment_name allow_deleted "
    "field_name artifact_file_path artifact_directory_path ascending digest mode"
)
FIELDS = WORDS.split()
VALUES: tuple[Any, ...] = (
    None, "", "0", "1", "m", 0, 1, -1, 2**63, -(2**63), 10**400, 1.5, 1e308, True, False, "NaN",
    "Infinity", "x" * 300, "a/b", "../x", "%2e%2e", "\0", "\udfff", [], {}, "{}", "[]", "(((", "'",
    "metrics.x > 1", "name = 'a'", "tags.x IS NULL", "metrics.x ASC", "name DESC", "RUNNING",
    "ACTIVE_ONLY", "mlflow-artifacts:/0/x", "models:/m/1", "models:/m@a", "runs:/x/a", "http://[::1",
    "//[x", "file://%5b", "LpT_KZTEBhdhNmrEYc8AAAGiFEddIwEB", "a b", "%00",
)  # fmt: skip


def value(chosen: random.Random, known: tuple[str, ...], depth: int = 0) -> Any:
    kind = chosen.random()
    if depth < 3 and kind < 0.2:
        return [value(chosen, known, depth + 1) for _ in range(chosen.randint(0, 3))]
    if depth < 3 and kind < 0.4:
        names = chosen.choices(FIELDS, k=chosen.randint(0, 5))
        return {name: value(chosen, known, depth + 1) for name in names}
    return chosen.choice((*VALUES, *known))


@pytest.mark.parametrize("seed", range(3))
async def test_any_fields_are_answered(mlflow: Mlflow, seed: int):
    chosen = random.Random(seed)
    run_id = await mlflow.run()
    model_id = (await mlflow.call("logged-models", experiment_id="0"))["model"]["info"]["model_id"]
    await mlflow.call("registered-models/create", name="m")
    await mlflow.call("model-versions/create", name="m", source="s3://x")
    usual = {
        "run_id": run_id, "name": "m", "key": "k", "experiment_id": "0", "version": "1",
        "metric_key": "x", "source": "s3://x", "alias": "a",
    }  # fmt: skip
    for _ in range(REQUESTS):
        call = chosen.choice(CALLS)
        path = call.path.replace("{path:path}", f"0/{run_id}/artifacts/a")
        path = path.replace("{rest:path}", "x").replace("{model_id}", model_id)
        path = path.replace("{key:path}", "k").replace("{name}", chosen.choice(("default", "zz")))
        body: dict[str, Any] = {k: v for k, v in usual.items() if chosen.random() < 0.8}
        for name in chosen.choices(FIELDS, k=chosen.randint(0, 4)):
            body[name] = value(chosen, (run_id, model_id))
        if call.method == "GET":
            query = {name: str(one).encode("utf-8", "replace") for name, one in body.items()}
            response = await mlflow.get(path, params=query)
        else:
            content = str(body) if chosen.random() < 0.02 else json.dumps(body)
            response = await mlflow.request(call.method, path, content=content)
        said = (call.method, call.path, body, response.text[:300])
        assert response.status_code < 500 or response.status_code == 501, said
        if response.status_code >= 400:
            assert {*response.json()} == {"error_code", "message"}, said
