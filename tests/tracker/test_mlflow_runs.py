"""Runs through MLflow's API: names and tags in step, lifecycle, what a refusal says."""

import json
from typing import Any

import pytest

from stepwell import ids
from tests.tracker.checked import RUNS, CheckedClient
from tests.tracker.mlflow_client import Mlflow, pairs

INVALID, MISSING = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
NAME, NOTE = "mlflow.runName", "mlflow.note.content"


async def test_a_new_run_as_it_is_answered(mlflow: Mlflow):
    made = await mlflow.call(
        "runs/create", experiment_id="0", user_id="me", start_time=5, run_name="hi",
        tags=[{"key": "a", "value": ""}],
    )  # fmt: skip
    run_id = made["run"]["info"]["run_id"]
    assert made["run"] == await mlflow.read(run_id)
    assert made["run"]["info"] == {
        "run_id": run_id,
        "run_uuid": run_id,
        "run_name": "hi",
        "experiment_id": "0",
        "user_id": "me",
        "status": "RUNNING",
        "start_time": 5,
        "artifact_uri": f"mlflow-artifacts:/0/{run_id}/artifacts",
        "lifecycle_stage": "active",
    }
    assert pairs(made["run"]["data"]["tags"]) == {"a": "", NAME: "hi"}


async def test_a_name_is_generated_taken_from_the_tag_or_refused(mlflow: Mlflow):
    generated = await mlflow.read(await mlflow.run())
    assert generated["info"]["run_name"] == pairs(generated["data"]["tags"])[NAME] != ""
    tag = {"key": NAME, "value": "tagged"}
    tagged = await mlflow.read(await mlflow.run(tags=[tag]))
    assert tagged["info"]["run_name"] == "tagged"
    await mlflow.refused(
        "runs/create", INVALID, "different values", experiment_id="0", run_name="x", tags=[tag]
    )


async def test_name_and_tag_stay_equal_whichever_changes(mlflow: Mlflow, client: CheckedClient):
    run_id = await mlflow.run(run_name="a")

    async def both() -> tuple[str, str]:
        run = await mlflow.read(run_id)
        return run["info"]["run_name"], pairs(run["data"]["tags"])[NAME]

    await mlflow.call("runs/update", run_id=run_id, run_name="b")
    assert await both() == ("b", "b")
    await mlflow.call("runs/set-tag", run_id=run_id, key=NAME, value="c")
    assert await both() == ("c", "c")
    await mlflow.call("runs/log-batch", run_id=run_id, tags=[{"key": NAME, "value": "d"}])
    assert await both() == ("d", "d")
    await client.ok("PATCH", f"{RUNS}/{run_id}", json={"name": "e"})
    assert await both() == ("e", "e")
    assert await mlflow.found(f"tags.{NAME} = 'e'") == ["e"]
    assert await mlflow.found(f"tags.{NAME} IS NULL") == []


async def test_the_note_is_the_description(mlflow: Mlflow, client: CheckedClient):
    run_id = await mlflow.run(run_name="a", tags=[{"key": NOTE, "value": "first"}])
    await mlflow.run(run_name="bare")
    assert (await client.ok("GET", f"{RUNS}/{run_id}"))["description"] == "first"
    await mlflow.call("runs/set-tag", run_id=run_id, key=NOTE, value="second")
    assert pairs((await mlflow.read(run_id))["data"]["tags"])[NOTE] == "second"
    assert await mlflow.found(f"tags.{NOTE} != 'x'") == ["a"]
    assert await mlflow.found(f"tags.{NOTE} IS NULL") == ["bare"]
    await mlflow.call("runs/delete-tag", run_id=run_id, key=NOTE)
    assert NOTE not in pairs((await mlflow.read(run_id))["data"]["tags"])
    await mlflow.refused(
        "runs/delete-tag", MISSING, f"No tag with name: {NOTE}", run_id=run_id, key=NOTE, http=404
    )


async def test_status_and_end_time_change_and_a_run_resumes(mlflow: Mlflow):
    run_id = await mlflow.run()
    for status, number in (("SCHEDULED", 2), ("FINISHED", 3), ("FAILED", 4), ("KILLED", 5)):
        for sent in (status, number, str(number)):
            done = await mlflow.call("runs/update", run_id=run_id, status=sent, end_time=99)
            assert done["run_info"]["status"] == status
    assert (await mlflow.read(run_id))["info"]["end_time"] == 99
    resumed = await mlflow.call("runs/update", run_uuid=run_id, status="RUNNING")
    assert resumed["run_info"]["status"] == "RUNNING"
    assert "end_time" not in resumed["run_info"]
    await mlflow.refused("runs/update", INVALID, "'status' supplied", run_id=run_id, status="DONE")


async def test_an_end_without_its_time_leaves_the_time_as_it_is(mlflow: Mlflow):
    run_id = await mlflow.run()
    done = await mlflow.call("runs/update", run_id=run_id, status="FINISHED")
    assert "end_time" not in done["run_info"]
    await mlflow.call("runs/update", run_id=run_id, end_time=99)
    done = await mlflow.call("runs/update", run_id=run_id, status="FAILED")
    assert (done["run_info"]["status"], done["run_info"]["end_time"]) == ("FAILED", 99)


async def test_scheduled_is_kept_and_found(mlflow: Mlflow, client: CheckedClient):
    run_id = await mlflow.run(run_name="s")
    await mlflow.call("runs/update", run_id=run_id, status="SCHEDULED")
    assert await mlflow.found("status = 'SCHEDULED'") == ["s"]
    assert (await client.ok("GET", f"{RUNS}/{run_id}"))["status"] == "scheduled"


async def test_a_deleted_run_reads_refuses_writes_and_comes_back(mlflow: Mlflow):
    run_id = await mlflow.run(run_name="a")
    for _ in range(2):
        await mlflow.call("runs/delete", run_id=run_id)
    assert (await mlflow.read(run_id))["info"]["lifecycle_stage"] == "deleted"
    text = f"The run {run_id} must be in the 'active' state. Current state is deleted."
    metric = {"key": "x", "value": 1, "timestamp": 1}
    dataset = {"name": "d", "digest": "1", "source_type": "s", "source": "{}"}
    calls: dict[str, dict[str, Any]] = {
        "runs/log-metric": metric,
        "runs/log-parameter": {"key": "p", "value": "1"},
        "runs/log-batch": {"metrics": [metric]},
        "runs/set-tag": {"key": "p", "value": "1"},
        "runs/delete-tag": {"key": "p"},
        "runs/update": {"status": "FINISHED"},
        "runs/log-inputs": {"datasets": [{"dataset": dataset}]},
        "runs/outputs": {"models": [{"model_id": "m-1", "step": 0}]},
    }
    for path, body in calls.items():
        await mlflow.refused(path, INVALID, text, run_id=run_id, **body)
    assert await mlflow.found() == []
    assert await mlflow.found(run_view_type="DELETED_ONLY") == ["a"]
    for _ in range(2):
        await mlflow.call("runs/restore", run_id=run_id)
    assert await mlflow.found() == ["a"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "runs/get", {}),
        ("POST", "runs/update", {"status": "FINISHED"}),
        ("POST", "runs/delete", {}),
        ("POST", "runs/restore", {}),
        ("POST", "runs/log-metric", {"key": "x", "value": 1, "timestamp": 1}),
        ("POST", "runs/log-parameter", {"key": "x", "value": "1"}),
        ("POST", "runs/log-batch", {"metrics": []}),
        ("POST", "runs/set-tag", {"key": "x", "value": "1"}),
        ("POST", "runs/delete-tag", {"key": "x"}),
        ("POST", "runs/log-inputs", {}),
        ("POST", "runs/outputs", {"models": []}),
        ("GET", "artifacts/list", {}),
    ],
)
async def test_unknown_and_foreign_runs_are_not_found(mlflow: Mlflow, method, path, body):
    await mlflow.run()
    foreign = ids.new_run_id("acme")
    acme = {"X-MLFLOW-WORKSPACE": "acme"}
    made = await mlflow.post(
        mlflow.prefix + "runs/create", json={"experiment_id": "0"}, headers=acme
    )
    for run_id in ("0" * 32, "no-such-run", foreign, made.json()["run"]["info"]["run_id"]):
        await mlflow.refused(
            path, MISSING, f"Run with id={run_id} not found",
            method=method, http=404, run_id=run_id, **body,
        )  # fmt: skip
    await mlflow.refused(path, INVALID, "Invalid run ID", method=method, run_id="../etc", **body)
    await mlflow.refused(
        path, INVALID, "Missing value for required parameter 'run_id'", method=method, **body
    )


async def test_refusals_of_create(mlflow: Mlflow):
    missing = "Missing value for required parameter 'experiment_id'."
    await mlflow.refused("runs/create", INVALID, missing)
    await mlflow.refused(
        "runs/create", MISSING, "No Experiment with id=5 exists", experiment_id="5", http=404
    )
    await mlflow.refused(
        "runs/create", INVALID, "Invalid value \"soon\" for parameter 'start_time' supplied",
        experiment_id="0", start_time="soon",
    )  # fmt: skip


async def test_a_parent_is_a_parent_in_both_apis(mlflow: Mlflow, client: CheckedClient):
    parent = await mlflow.run(run_name="parent")
    tag = {"key": "mlflow.parentRunId", "value": parent}
    child = await mlflow.run(run_name="child", tags=[tag])
    assert (await client.ok("GET", f"{RUNS}/{child}"))["parent_run_id"] == parent
    assert await mlflow.found(f"tags.mlflow.parentRunId = '{parent}'") == ["child"]
    native = await client.new_run(name="native", parent_run_id=parent)
    tags = pairs((await mlflow.read(native))["data"]["tags"])
    assert tags["mlflow.parentRunId"] == parent


async def test_a_native_run_is_complete_here(mlflow: Mlflow, client: CheckedClient):
    run_id = await client.new_run(name="n", params={"lr": "0.1"}, tags={"a": "b"})
    await client.ok(
        "POST", f"{RUNS}/{run_id}/log-metrics",
        json={"metrics": {"loss": 0.5}, "step": 3, "timestamp": 7},
    )  # fmt: skip
    run = await mlflow.read(run_id)
    assert run["data"]["metrics"] == [{"key": "loss", "value": 0.5, "timestamp": 7, "step": 3}]
    assert pairs(run["data"]["params"]) == {"lr": "0.1"}
    assert pairs(run["data"]["tags"]) == {"a": "b", NAME: "n"}


async def test_a_run_of_many_keys_is_whole(mlflow: Mlflow):
    """The native API shows 1,000 keys of a run and 100 in lists; MLflow shows all."""
    run_id = await mlflow.run(run_name="wide")
    for first in (0, 1_000):
        points = [
            {"key": f"k{i}", "value": i, "timestamp": 1, "step": 2}
            for i in range(first, first + 1_000)
        ]
        await mlflow.call("runs/log-batch", run_id=run_id, metrics=points)
    assert len((await mlflow.read(run_id))["data"]["metrics"]) == 2_000
    page = await mlflow.call("runs/search", experiment_ids=["0"])
    assert len(page["runs"][0]["data"]["metrics"]) == 2_000


async def test_models_of_clients_before_mlflow_3_are_listed_in_a_tag(mlflow: Mlflow):
    run_id = await mlflow.run()
    model = {
        "artifact_path": "m", "flavors": {"sklearn": {}}, "utc_time_created": "now",
        "run_id": run_id, "model_uuid": "u", "signature": {"inputs": "[]"},
    }  # fmt: skip
    path = "runs/log-model"
    for number in range(2):
        sent = json.dumps({**model, "artifact_path": f"m{number}"})
        assert await mlflow.call(path, run_id=run_id, model_json=sent) == {}
    tags = pairs((await mlflow.read(run_id))["data"]["tags"])
    listed = json.loads(tags["mlflow.log-model.history"])
    assert [one["artifact_path"] for one in listed] == ["m0", "m1"]
    assert {*listed[0]} == {*model} - {"signature"}
    for bad, text in (
        ("{", "Malformed model info"), ("[]", "Malformed model info"),
        ("{}", "missing mandatory fields: artifact_path, flavors, run_id, utc_time_created"),
        ("", "required parameter 'model_json'"),
    ):  # fmt: skip
        await mlflow.refused(path, INVALID, text, run_id=run_id, model_json=bad)
    whole = json.dumps(model)
    lost = "0" * 32
    await mlflow.refused(path, MISSING, "not found", http=404, run_id=lost, model_json=whole)
    await mlflow.call("runs/set-tag", run_id=run_id, key="mlflow.log-model.history", value="x")
    await mlflow.refused(path, INVALID, "no list of models", run_id=run_id, model_json=whole)
    await mlflow.call("runs/delete", run_id=run_id)
    await mlflow.refused(path, INVALID, "'active' state", run_id=run_id, model_json=whole)
