"""The edges of MLflow's API: both twins of every path, workspaces, errors that are always JSON."""

import pytest
from starlette.applications import Starlette

from stepwell_storage import errors as storage
from stepwell_tracker.mlflow.errors import error_reply
from stepwell_tracker.mlflow.routes import CALLS
from tests.tracker.mlflow_client import Mlflow, answered, assert_refused

INVALID = "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
async def test_every_route_answers_in_json_and_never_fails(mlflow: Mlflow, call):
    path = call.path.replace("{path:path}", "0/x").replace("{rest:path}", "x")
    path = path.replace("{model_id}", "m-1").replace("{key:path}", "k").replace("{name}", "default")
    response = await mlflow.request(call.method, path)
    assert response.status_code in (200, 400, 404, 501), response.text
    if call.path != "/version":
        assert response.headers["content-type"] == "application/json"
        assert response.json().get("error_code") != "ENDPOINT_NOT_FOUND"


def test_every_path_has_its_twin():
    paths = {call.path for call in CALLS}
    for path in paths - {"/version", "/get-artifact"}:
        twin = path.replace("/ajax-api", "/api") if "/ajax-api" in path else "/ajax" + path[1:]
        assert twin.replace("/ajaxapi", "/ajax-api") in paths


async def test_the_twin_leads_to_the_same(app: Starlette, mlflow: Mlflow):
    run_id = await mlflow.run()
    async with Mlflow(app, "/ajax-api/2.0/mlflow/") as twin:
        assert await twin.read(run_id) == await mlflow.read(run_id)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/2.0/mlflow/nonsense", 404),
        ("POST", "/api/2.0/mlflow/webhooks", 404),
        ("POST", "/ajax-api/3.0/mlflow/traces", 404),
        ("POST", "/v1/traces", 404),
        ("GET", "/api/2.0/mlflow/runs/create", 405),
        ("GET", "/api/2.0/", 404),
    ],
)
async def test_unknown_routes_and_methods_are_json(mlflow: Mlflow, method, path, status):
    response = await mlflow.request(method, path)
    assert_refused(response, "ENDPOINT_NOT_FOUND", "", status)


async def test_refusals_of_the_gate_are_mlflows(mlflow: Mlflow):
    path = mlflow.prefix + "experiments/get?experiment_id=0"
    response = await mlflow.get(path, headers={"Host": "evil.example"})
    assert_refused(response, INVALID, "not a name of this server", 400)
    response = await mlflow.get(path, headers={"Origin": "http://evil.example"})
    assert_refused(response, "PERMISSION_DENIED", "", 403)


async def test_a_body_over_the_limit(mlflow: Mlflow):
    response = await mlflow.post(
        mlflow.prefix + "runs/log-batch", content=b" " * (32 * 1024 * 1024 + 1)
    )
    assert_refused(response, INVALID, "limit", 413)


@pytest.mark.parametrize(
    ("error", "status"),
    [(storage.Busy("full"), 503), (storage.Closed("x"), 503), (storage.Full("x"), 507),
     (storage.Corrupt("secret place"), 500), (ValueError("secret place"), 500)],
)  # fmt: skip
def test_what_the_server_lacks_is_told_without_its_insides(error, status):
    reply = error_reply(error)
    assert reply.status == status
    assert b"secret" not in reply.body
    assert (dict(reply.headers).get(b"retry-after") is not None) == (status == 503)


async def test_credentials_are_taken_and_change_nothing_while_there_are_no_tokens(mlflow: Mlflow):
    for credentials in ("Basic dXNlcjpwYXNz", "Bearer abc"):
        response = await mlflow.get(
            mlflow.prefix + "experiments/get?experiment_id=0",
            headers={"Authorization": credentials},
        )
        answered(response)


async def test_what_the_server_says_of_itself(mlflow: Mlflow):
    for prefix in ("/api", "/ajax-api"):
        info = answered(await mlflow.get(prefix + "/3.0/mlflow/server-info"))
        assert info["workspaces_enabled"] is True
        assert info["multipart_uploads_enabled"] is False
        assert info["store_type"] == "SqlStore"
    version = await mlflow.get("/version")
    assert version.text == "3.17.2"
    assert (await mlflow.get("/health")).status_code == 200


async def test_requests_are_counted_by_their_routes(mlflow: Mlflow):
    await mlflow.run()
    await mlflow.get("/api/2.0/mlflow/nonsense")
    text = (await mlflow.get("/metrics")).text
    assert 'route="/api/2.0/mlflow/runs/create",method="POST",status="200"' in text
    assert "nonsense" not in text
