"""Datasets and logged models: linked once, found by their own grammar, gone softly."""

from typing import Any

import pytest

from tests.tracker.mlflow_client import FILES, Mlflow, assert_refused, pairs

INVALID, MISSING = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
DATASET = {"name": "d", "digest": "1", "source_type": "local", "source": "{}"}


def use(role: str, **dataset: Any) -> dict[str, Any]:
    tags = [{"key": "mlflow.data.context", "value": role}, {"key": "a", "value": "b"}]
    return {"dataset": {**DATASET, **dataset}, "tags": tags}


async def test_a_dataset_is_linked_once_and_its_first_description_stays(mlflow: Mlflow):
    run_id, other = await mlflow.run(), await mlflow.run()
    for _ in range(2):
        await mlflow.call(
            "runs/log-inputs", run_id=run_id,
            datasets=[use("train", schema="s"), use("test", source="other")],
        )  # fmt: skip
    await mlflow.call("runs/log-inputs", run_id=other, datasets=[use("test", profile="p")])
    [found] = (await mlflow.read(run_id))["inputs"]["dataset_inputs"]
    assert found["dataset"] == {**DATASET, "schema": "s"}
    assert found["tags"] == [
        {"key": "a", "value": "b"}, {"key": "mlflow.data.context", "value": "train"}
    ]  # fmt: skip
    [again] = (await mlflow.read(other))["inputs"]["dataset_inputs"]
    assert again["dataset"] == found["dataset"]
    page = await mlflow.call("runs/search", experiment_ids=["0"])
    assert all(run["inputs"]["dataset_inputs"] for run in page["runs"])
    found = await mlflow.call("experiments/search-datasets", experiment_ids=["0"])
    slipped = "/api/2.0mlflow/experiments/search-datasets"  # as MLflow's own definition has it
    assert (await mlflow.post(slipped, json={"experiment_ids": ["0"]})).json() == found
    assert found["dataset_summaries"] == [
        {"experiment_id": "0", "name": "d", "digest": "1", "context": role}
        for role in ("test", "train")
    ]


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ({"name": ""}, "Missing value for required parameter 'datasets[1].dataset.name'"),
        ({"digest": None}, "Missing value for required parameter 'datasets[1].dataset.digest'"),
        ({"name": "x" * 501}, "maximum length of 500"),
        ({"digest": "x" * 37}, "maximum length of 36"),
        ({"source": "x" * 65_536}, "maximum length of 65535"),
        ({"source": 7}, "Invalid value 7 for parameter 'datasets[1].dataset.source' supplied"),
    ],
)
async def test_a_bad_dataset_refuses_all_of_them(mlflow: Mlflow, dataset, text):
    run_id = await mlflow.run()
    given = [use("train", name="good"), use("train", **dataset)]
    await mlflow.refused("runs/log-inputs", INVALID, text, run_id=run_id, datasets=given)
    assert (await mlflow.read(run_id))["inputs"] == {}


async def test_models_that_a_run_read_and_made(mlflow: Mlflow):
    run_id = await mlflow.run()
    for _ in range(2):
        await mlflow.call("runs/log-inputs", run_id=run_id, models=[{"model_id": "m-1"}])
        await mlflow.call("runs/outputs", run_id=run_id, models=[{"model_id": "m-2", "step": 3}])
    run = await mlflow.read(run_id)
    assert run["inputs"] == {"model_inputs": [{"model_id": "m-1"}]}
    assert run["outputs"] == {"model_outputs": [{"model_id": "m-2", "step": 3}]}


async def model(mlflow: Mlflow, name: str = "m", **body: Any) -> str:
    made = await mlflow.call("logged-models", experiment_id="0", name=name, **body)
    return str(made["model"]["info"]["model_id"])


async def read(mlflow: Mlflow, model_id: str, **query: Any) -> Any:
    return (await mlflow.get_json(f"logged-models/{model_id}", **query))["model"]


async def test_a_model_from_pending_to_ready(mlflow: Mlflow):
    made = await mlflow.call(
        "logged-models", experiment_id="0", name="m", model_type="agent", source_run_id="r",
        params=[{"key": "p", "value": ""}], tags=[{"key": "t", "value": "1"}],
    )  # fmt: skip
    info = made["model"]["info"]
    assert info["model_id"].startswith("m-")
    assert len(info["model_id"]) == 34
    assert info["status"] == "LOGGED_MODEL_PENDING"
    assert info["artifact_uri"] == f"mlflow-artifacts:/0/models/{info['model_id']}/artifacts"
    assert (info["model_type"], info["source_run_id"]) == ("agent", "r")
    assert pairs(made["model"]["data"]["params"]) == {"p": ""}
    for status in ("LOGGED_MODEL_READY", 3):
        path = f"logged-models/{info['model_id']}"
        done = await mlflow.call(path, method="PATCH", model_id=info["model_id"], status=status)
    assert done["model"]["info"]["status"] == "LOGGED_MODEL_UPLOAD_FAILED"
    unnamed = await mlflow.call("logged-models", experiment_id="0")
    assert unnamed["model"]["info"]["name"]


async def test_params_once_tags_again_and_deleting_them(mlflow: Mlflow):
    model_id = await model(mlflow)
    path = f"logged-models/{model_id}"
    await mlflow.call(f"{path}/params", params=[{"key": "p", "value": "1"}])
    await mlflow.refused(
        f"{path}/params",
        INVALID,
        "",
        params=[{"key": "q", "value": "1"}, {"key": "p", "value": "1"}],
    )
    for value in "12":
        tag = {"key": "a/b", "value": value}
        await mlflow.call(f"{path}/tags", method="PATCH", tags=[tag])
    found = await read(mlflow, model_id)
    assert pairs(found["data"]["params"]) == {"p": "1"}
    assert pairs(found["info"]["tags"]) == {"a/b": "2"}
    await mlflow.call(f"{path}/tags/a/b", method="DELETE")
    await mlflow.refused(
        f"{path}/tags/a/b",
        MISSING,
        "No tag with key 'a/b' found for model",
        method="DELETE",
        http=404,
    )


async def test_a_deleted_model_is_gone_unless_asked_for(mlflow: Mlflow):
    model_id = await model(mlflow)
    path = f"logged-models/{model_id}"
    await mlflow.call(path, method="DELETE")
    text = f"Logged model with ID '{model_id}' not found."
    for method, more, body in (
        ("GET", "", {}), ("DELETE", "", {}), ("PATCH", "", {"status": "LOGGED_MODEL_READY"}),
        ("POST", "/params", {}), ("PATCH", "/tags", {}), ("DELETE", "/tags/x", {}),
        ("GET", "/artifacts/directories", {}),
    ):  # fmt: skip
        kwargs: dict[str, Any] = {"method": method, "http": 404, **body}
        await mlflow.refused(path + more, MISSING, text, **kwargs)
    assert (await read(mlflow, model_id, allow_deleted="true"))["info"]["name"] == "m"
    assert await mlflow.call("logged-models/search", experiment_ids=["0"]) == {}


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a.b", "a%b", 'a"b', "a'b", "x" * 501])
async def test_names_that_models_cannot_have(mlflow: Mlflow, name: str):
    await mlflow.refused(
        "logged-models", INVALID, "Invalid model name", experiment_id="0", name=name
    )


async def test_metrics_of_a_model_stand_with_it_and_with_the_run(mlflow: Mlflow):
    model_id, run_id = await model(mlflow), await mlflow.run()
    metric: dict[str, Any] = {
        "key": "x", "value": "NaN", "timestamp": 5, "step": 2, "model_id": model_id,
        "dataset_name": "d", "dataset_digest": "1",
    }  # fmt: skip
    for _ in range(2):
        await mlflow.call("runs/log-batch", run_id=run_id, metrics=[metric])
        await mlflow.call("runs/log-metric", run_id=run_id, **{**metric, "key": "y"})
    found = (await read(mlflow, model_id))["data"]["metrics"]
    assert found == [{**metric, "run_id": run_id}, {**metric, "key": "y", "run_id": run_id}]
    assert len((await mlflow.read(run_id))["data"]["metrics"]) == 2
    lost = {**metric, "key": "z", "model_id": "m-" + "0" * 32}
    await mlflow.refused(
        "runs/log-batch", MISSING, "Logged model with ID", http=404, run_id=run_id, metrics=[lost]
    )
    assert len((await mlflow.read(run_id))["data"]["metrics"]) == 2, "nothing of it was written"


async def search(mlflow: Mlflow, filter: str = "", **body: Any) -> str:
    body = {"experiment_ids": ["0"], "filter": filter, **body}
    names: list[str] = []
    while True:
        page = await mlflow.call("logged-models/search", **body)
        names += [one["info"]["name"] for one in page.get("models", [])]
        if "next_page_token" not in page:
            return "".join(names)
        body["page_token"] = page["next_page_token"]


@pytest.fixture
async def three(mlflow: Mlflow) -> dict[str, str]:
    ids = {}
    run_id = await mlflow.run()
    for number, name in enumerate("abc", 1):
        ids[name] = await model(
            mlflow, name, model_type="t" if name == "b" else None,
            source_run_id=run_id, params=[{"key": "p", "value": str(number)}],
            tags=[{"key": "t", "value": "X"}] if name != "c" else [],
        )  # fmt: skip
        metric: dict[str, Any] = {
            "key": "x", "timestamp": 1, "model_id": ids[name], "value": -number,
            "dataset_name": f"d{number}", "dataset_digest": "1",
        }  # fmt: skip
        if name != "c":
            await mlflow.call("runs/log-metric", run_id=run_id, **metric)
    await mlflow.call(f"logged-models/{ids['a']}", method="PATCH", status="LOGGED_MODEL_READY")
    return ids


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("name = 'a'", "a"),
        ("attributes.name IN ('a', 'c')", "ac"),
        ("name NOT IN ('a')", "bc"),
        ("name LIKE '%'", "abc"),
        ("status = 'READY'", "a"),
        ("attributes.status != 'READY'", "bc"),
        ("model_type = 't'", "b"),
        ("model_type != 'x'", "b"),
        ("creation_timestamp > 0 AND last_updated_time > 0", "abc"),
        ("metrics.x > -2", "a"),
        ("metrics.x <= -1", "ab"),
        ("params.p = '2'", "b"),
        ("params.p IN ('1', '3')", "ac"),
        ("tags.t ILIKE 'x'", "ab"),
        ("tags.t = 'X' AND params.p != '1'", "b"),
    ],
)
async def test_filters(mlflow: Mlflow, three: dict[str, str], filter: str, expected: str):
    order = [{"field_name": "name"}]
    assert await search(mlflow, filter, order_by=order, max_results=2) == expected


@pytest.mark.parametrize(
    "filter",
    ['name = "a"', "metric.x > 1", "param.p = '1'", "attribute.name = 'a'", "tags.t IS NULL",
     "name = 'a' OR name = 'b'", "metrics.x = '1'", "name = 1", "nonsense = 'a'"],
)  # fmt: skip
async def test_filters_that_mlflow_refuses(mlflow: Mlflow, filter: str):
    await mlflow.refused(
        "logged-models/search", INVALID, "Invalid", experiment_ids=["0"], filter=filter
    )


async def test_orders_datasets_and_pages(mlflow: Mlflow, three: dict[str, str]):
    up = [{"field_name": "metrics.x"}]
    down = [{"field_name": "metrics.x", "ascending": False}]
    assert await search(mlflow, order_by=up, max_results=1) == "bac"
    assert await search(mlflow, order_by=down, max_results=1) == "abc"
    narrowed = [{**up[0], "dataset_name": "d1"}]
    assert (await search(mlflow, order_by=narrowed))[0] == "a"
    assert await search(mlflow, datasets=[{"dataset_name": "d2"}]) == "b"
    assert await search(mlflow, datasets=[{"dataset_name": "d2", "dataset_digest": "9"}]) == ""
    assert len(await search(mlflow, max_results=1)) == 3
    assert await search(mlflow, experiment_ids=[]) == ""
    page = await mlflow.call("logged-models/search", experiment_ids=["0"], max_results=1)
    await mlflow.refused(
        "logged-models/search", INVALID, "another filter or order", experiment_ids=["0"],
        page_token=page["next_page_token"], filter="name = 'a'",
    )  # fmt: skip
    await mlflow.refused(
        "logged-models/search", INVALID, "order by", experiment_ids=["0"],
        order_by=[{"field_name": "params.p"}],
    )  # fmt: skip


async def test_files_of_a_model(mlflow: Mlflow):
    model_id = await model(mlflow)
    url = f"{FILES}/0/models/{model_id}/artifacts/MLmodel"
    assert (await mlflow.put(url, content=b"flavors:")).json() == {}
    response = await mlflow.get(url)
    assert response.content == b"flavors:"
    assert response.headers["content-type"].startswith("text/plain")
    found = await mlflow.get_json(f"logged-models/{model_id}/artifacts/directories")
    assert found["files"] == [{"path": "MLmodel", "is_dir": False, "file_size": 8}]
    page = f"/ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files"
    response = await mlflow.get(page, params={"artifact_file_path": "MLmodel"})
    assert response.content == b"flavors:"
    wrong = url.replace("/0/models", "/1/models")
    assert_refused(await mlflow.get(wrong), MISSING, "Logged model with ID", 404)
    foreign = await mlflow.get(url, headers={"X-Tenant-ID": "acme"})
    assert_refused(foreign, MISSING, "Logged model with ID", 404)
