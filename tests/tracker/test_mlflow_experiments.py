"""Experiments through MLflow's API: numbers as ids, names taken for ever, lifecycle, searches."""

from typing import Any

import pytest

from tests.tracker.checked import BASE, CheckedClient
from tests.tracker.mlflow_client import Mlflow, pairs

INVALID, MISSING = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
NO_NAME = "Missing value for required parameter 'name'."


async def experiment(mlflow: Mlflow, experiment_id: str) -> Any:
    return (await mlflow.get_json("experiments/get", experiment_id=experiment_id))["experiment"]


async def test_experiment_zero_is_there_from_the_start(mlflow: Mlflow):
    found = await experiment(mlflow, "0")
    assert found["name"] == "Default"
    assert found["artifact_location"] == "mlflow-artifacts:/0"
    assert found["workspace"] == "default"
    assert "tags" not in found


async def test_a_new_one_is_found_by_id_and_by_name_also_when_it_is_deleted(mlflow: Mlflow):
    made = await mlflow.call("experiments/create", name="a", tags=[{"key": "team", "value": ""}])
    number = made["experiment_id"]
    assert number == "1"
    found = await experiment(mlflow, number)
    assert pairs(found["tags"]) == {"team": ""}
    await mlflow.call("experiments/delete", experiment_id=number)
    by_name = await mlflow.get_json("experiments/get-by-name", experiment_name="a")
    assert by_name["experiment"]["lifecycle_stage"] == "deleted"
    assert (await experiment(mlflow, number))["lifecycle_stage"] == "deleted"


async def test_refusals_have_their_codes_and_texts(mlflow: Mlflow):
    await mlflow.experiment("a")
    await mlflow.refused(
        "experiments/create", INVALID, "Missing value for required parameter 'name'."
    )
    await mlflow.refused("experiments/create", INVALID, NO_NAME, name="")
    await mlflow.refused(
        "experiments/create", INVALID, "Invalid value 31 for parameter 'name' supplied", name=31
    )
    await mlflow.refused("experiments/create", INVALID, "length of 500", name="x" * 501)
    await mlflow.refused(
        "experiments/create",
        "RESOURCE_ALREADY_EXISTS",
        "Experiment(name=a) already exists",
        name="a",
    )
    get: dict[str, Any] = {"method": "GET", "http": 404}
    await mlflow.refused(
        "experiments/get", MISSING, "No Experiment with id=77 exists", experiment_id="77", **get
    )
    await mlflow.refused(
        "experiments/get", MISSING, "No Experiment with id=", experiment_id="9" * 30, **get
    )
    await mlflow.refused(
        "experiments/get", INVALID, "Experiment ID must be a valid integer",
        experiment_id="abc", method="GET",
    )  # fmt: skip
    await mlflow.refused(
        "experiments/get-by-name", MISSING, "Could not find experiment with name 'b'",
        experiment_name="b", **get,
    )  # fmt: skip


async def test_a_deleted_name_stays_taken(mlflow: Mlflow):
    number = await mlflow.experiment("a")
    await mlflow.call("experiments/delete", experiment_id=number)
    await mlflow.refused("experiments/create", EXISTS, "already exists", name="a")


async def test_delete_takes_the_runs_along_and_restore_brings_them_back(mlflow: Mlflow):
    number = await mlflow.experiment("a")
    run_id = await mlflow.run(number)
    await mlflow.call("experiments/delete", experiment_id=number)
    assert (await mlflow.read(run_id))["info"]["lifecycle_stage"] == "deleted"
    await mlflow.refused(
        "runs/create", INVALID, f"The experiment {number} must be in the 'active' state.",
        experiment_id=number,
    )  # fmt: skip
    for path in ("experiments/delete", "experiments/restore"):
        if path.endswith("restore"):
            await mlflow.call(path, experiment_id=number)
        await mlflow.refused(path, MISSING, "No Experiment", experiment_id=number, http=404)
    assert (await mlflow.read(run_id))["info"]["lifecycle_stage"] == "active"


async def test_rename(mlflow: Mlflow):
    number = await mlflow.experiment("a")
    await mlflow.experiment("b")
    await mlflow.call("experiments/update", experiment_id=number, new_name="c")
    assert (await experiment(mlflow, number))["name"] == "c"
    await mlflow.refused(
        "experiments/update", EXISTS, "already exists",
        experiment_id=number, new_name="b",
    )  # fmt: skip
    await mlflow.refused(
        "experiments/update", INVALID, "Missing value for required parameter 'new_name'",
        experiment_id=number,
    )  # fmt: skip
    await mlflow.call("experiments/delete", experiment_id=number)
    await mlflow.refused(
        "experiments/update", INVALID, "must be in the 'active' state",
        experiment_id=number, new_name="d",
    )  # fmt: skip


async def test_tags_are_set_overwritten_and_deleted(mlflow: Mlflow):
    number = await mlflow.experiment("a")
    for value in ("1", "2"):
        await mlflow.call(
            "experiments/set-experiment-tag", experiment_id=number, key="k", value=value
        )
    assert pairs((await experiment(mlflow, number))["tags"]) == {"k": "2"}
    await mlflow.call("experiments/delete-experiment-tag", experiment_id=number, key="k")
    await mlflow.refused(
        "experiments/delete-experiment-tag", MISSING, "No tag with name: k",
        experiment_id=number, key="k", http=404,
    )  # fmt: skip
    too_long: dict[str, Any] = {"experiment_id": number, "key": "k", "value": "x" * 20_001}
    await mlflow.refused("experiments/set-experiment-tag", INVALID, "length limit", **too_long)


async def test_an_artifact_location_of_the_callers_is_kept(mlflow: Mlflow):
    made = await mlflow.call("experiments/create", name="a", artifact_location="s3://bucket/x")
    number = made["experiment_id"]
    run_id = await mlflow.run(number)
    assert (await mlflow.read(run_id))["info"][
        "artifact_uri"
    ] == f"s3://bucket/x/{run_id}/artifacts"
    await mlflow.refused(
        "experiments/create", INVALID, "artifact_location", name="b", artifact_location="s3://x#y"
    )


async def names(mlflow: Mlflow, **body: Any) -> list[str]:
    found: list[str] = []
    while True:
        page = await mlflow.call("experiments/search", **body)
        found += [one["name"] for one in page.get("experiments", [])]
        if "next_page_token" not in page:
            return found
        body["page_token"] = page["next_page_token"]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("name = 'abc'", ["abc"]),
        ("name LIKE 'A%'", ["Abc"]),
        ("attribute.name ILIKE 'a%'", ["Abc", "abc"]),
        ("name != 'abc'", ["Abc", "Default", "it's"]),
        ('name = "it\'s"', ["it's"]),
        ("name = 'it''s'", ["it's"]),
        ("experiment_id IN ('1', '0')", ["Abc", "Default"]),
        ("experiment_id NOT IN ('1', '0')", ["abc", "it's"]),
        ("tags.team = 'x'", ["Abc"]),
        ("tag.team != 'x'", ["abc"]),
        ("tags.`team` ILIKE 'X'", ["Abc"]),
        ("tags.team IS NULL", ["Default", "it's"]),
        ("tags.team IS NOT NULL AND name LIKE '%b%'", ["Abc", "abc"]),
        ("creation_time > 0 and last_update_time >= 0 AND ", ["Abc", "Default", "abc", "it's"]),
        ("creation_time < 1", []),
    ],
)
async def test_filters(mlflow: Mlflow, filter: str, expected: list[str]):
    for name, team in (("Abc", "x"), ("abc", "y"), ("it's", None)):
        tags = [{"key": "team", "value": team}] if team else []
        await mlflow.call("experiments/create", name=name, tags=tags)
    assert await names(mlflow, filter=filter, order_by=["name"]) == expected


@pytest.mark.parametrize(
    "filter",
    [
        "name = 'a' OR name = 'b'", "NOT name = 'a'", "(name = 'a')", "name = a", "name > 'a'",
        "name IN ('a')", "experiment_id LIKE '1'", "creation_time = '1'", "metrics.x > 1",
        "nonsense = 'a'", "name", "name = 'a' junk", "name IS NULL", "tags.a NOT LIKE 'x'",
    ],
)  # fmt: skip
async def test_filters_that_mlflow_refuses(mlflow: Mlflow, filter: str):
    await mlflow.refused("experiments/search", INVALID, "Invalid", filter=filter, max_results=5)


async def test_orders_and_pages(mlflow: Mlflow):
    for name in ("b", "a", "C"):
        await mlflow.experiment(name)
    assert await names(mlflow, order_by=["name ASC"], max_results=1) == ["C", "Default", "a", "b"]
    assert await names(mlflow, order_by=["name DESC"], max_results=3) == ["b", "a", "Default", "C"]
    by_id = await names(mlflow, order_by=["experiment_id"], max_results=2)
    assert by_id == ["Default", "b", "a", "C"]
    newest_first = await names(mlflow, max_results=1)
    assert sorted(newest_first) == ["C", "Default", "a", "b"]
    assert newest_first[-1] == "Default"


async def test_views_limits_and_tokens(mlflow: Mlflow):
    number = await mlflow.experiment("gone")
    await mlflow.call("experiments/delete", experiment_id=number)
    assert await names(mlflow) == ["Default"]
    assert await names(mlflow, view_type="DELETED_ONLY") == ["gone"]
    assert sorted(await names(mlflow, view_type=3)) == ["Default", "gone"]
    for wrong in (0, -1, 50_001):
        await mlflow.refused(
            "experiments/search", INVALID,
            f"Invalid value {wrong} for parameter 'max_results' supplied", max_results=wrong,
        )  # fmt: skip
    await mlflow.refused("experiments/search", INVALID, "", page_token="garbage")
    await mlflow.refused("experiments/search", INVALID, "view_type", view_type="SOME")
    page = await mlflow.call("experiments/search", max_results=1, view_type="ALL")
    await mlflow.refused(
        "experiments/search", INVALID, "another filter",
        page_token=page["next_page_token"], filter="name = 'x'",
    )  # fmt: skip
    found = await mlflow.get_json("experiments/search", max_results="1", view_type="ALL")
    assert len(found["experiments"]) == 1


async def test_both_apis_see_the_same_experiment(mlflow: Mlflow, client: CheckedClient):
    made = await client.ok("POST", BASE, json={"name": "native", "tags": {"a": "b"}})
    found = await experiment(mlflow, str(made["number"]))
    assert (found["name"], pairs(found["tags"])) == ("native", {"a": "b"})
    number = await mlflow.experiment("theirs")
    listed = (await client.ok("GET", BASE))["experiments"]
    assert [one["number"] for one in listed if one["name"] == "theirs"] == [int(number)]
