"""The model registry over MLflow's protocol: models, versions, aliases, tags, stages, searches."""

from typing import Any

import pytest

from tests.tracker.mlflow_client import Mlflow, assert_refused, pairs

INVALID, MISSING = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
MODELS, VERSIONS = "registered-models/", "model-versions/"


async def register(mlflow: Mlflow, name: str = "m", **body: Any) -> Any:
    made = await mlflow.call(MODELS + "create", name=name, **body)
    return made["registered_model"]


async def version(
    mlflow: Mlflow, name: str = "m", source: str = "s3://bucket/x", **body: Any
) -> Any:
    made = await mlflow.call(VERSIONS + "create", name=name, source=source, **body)
    return made["model_version"]


async def read(mlflow: Mlflow, name: str = "m") -> Any:
    return (await mlflow.get_json(MODELS + "get", name=name))["registered_model"]


async def read_version(mlflow: Mlflow, number: int, name: str = "m") -> Any:
    found = await mlflow.get_json(VERSIONS + "get", name=name, version=str(number))
    return found["model_version"]


async def logged_model(mlflow: Mlflow, run_id: str) -> str:
    made = await mlflow.call("logged-models", experiment_id="0", source_run_id=run_id)
    return str(made["model"]["info"]["model_id"])


async def test_a_model_is_registered_described_renamed_and_deleted(mlflow: Mlflow):
    made = await register(
        mlflow,
        "a",
        description="words",
        tags=[{"key": "k", "value": ""}, {"key": "b", "value": "2"}],
    )
    assert pairs(made["tags"]) == {"b": "2", "k": ""}
    assert (made["name"], made["description"]) == ("a", "words")
    assert made["creation_timestamp"] == made["last_updated_timestamp"] > 1_600_000_000_000
    assert not {"latest_versions", "aliases"} & {*made}, "empty lists are left out"
    await mlflow.refused(
        MODELS + "create", EXISTS, "Registered Model (name=a) already exists.", name="a"
    )
    changed = await mlflow.call(MODELS + "update", method="PATCH", name="a", description="other")
    assert changed["registered_model"]["description"] == "other"
    await register(mlflow, "taken")
    await mlflow.refused(
        MODELS + "rename", EXISTS, "(name=taken) already exists", name="a", new_name="taken"
    )
    await version(mlflow, "a")
    renamed = (await mlflow.call(MODELS + "rename", name="a", new_name="b"))["registered_model"]
    assert [v["name"] for v in renamed["latest_versions"]] == ["b"]
    gone: dict[str, Any] = {"method": "GET", "name": "a", "http": 404}
    await mlflow.refused(MODELS + "get", MISSING, "Registered Model with name=a not found", **gone)
    assert await mlflow.call(MODELS + "delete", method="DELETE", name="b") == {}
    await mlflow.refused(
        VERSIONS + "get", MISSING, "Model Version (name=b, version=1) not found",
        method="GET", name="b", version="1", http=404,
    )  # fmt: skip
    again = await register(mlflow, "b")
    assert "tags" not in again
    assert (await version(mlflow, "b"))["version"] == "1", "it is another model"


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a:b", ".", "..", "x" * 257, None, 7])
async def test_names_that_no_model_may_have(mlflow: Mlflow, name: Any):
    await mlflow.refused(MODELS + "create", INVALID, "", name=name)
    await register(mlflow)
    await mlflow.refused(MODELS + "rename", INVALID, "", name="m", new_name=name)


async def test_tags_of_models_and_of_versions(mlflow: Mlflow):
    await register(mlflow)
    await version(mlflow, tags=[{"key": "old", "value": "1"}])
    places: tuple[tuple[str, dict[str, Any]], ...] = (
        (MODELS, {"name": "m"}),
        (VERSIONS, {"name": "m", "version": "1"}),
    )
    for base, which in places:
        for value in ("1", "2"):
            await mlflow.call(base + "set-tag", **which, key="k", value=value)
        await mlflow.call(base + "set-tag", **which, key="gone", value="x" * 100_000)
        for _ in range(2):
            await mlflow.call(base + "delete-tag", method="DELETE", **which, key="gone")
        long: dict[str, Any] = {"key": "k", "value": "x" * 100_001}
        await mlflow.refused(base + "set-tag", INVALID, "100000", **which, **long)
        await mlflow.refused(base + "set-tag", INVALID, "250", **which, key="k" * 251, value="")
        await mlflow.refused(base + "set-tag", INVALID, "parameter 'key'", **which, value="")
        unknown = {**which, "name": "nobody"}
        await mlflow.refused(base + "set-tag", MISSING, "not found", **unknown, key="k", http=404)
    assert pairs((await read(mlflow))["tags"]) == {"k": "2"}
    assert pairs((await read_version(mlflow, 1))["tags"]) == {"k": "2", "old": "1"}


async def test_versions_count_up_and_no_number_is_used_twice(mlflow: Mlflow):
    await register(mlflow)
    made = [await version(mlflow, description="d", run_link="http://x") for _ in range(3)]
    assert [v["version"] for v in made] == ["1", "2", "3"]
    assert {v["current_stage"] for v in made} == {"None"}
    assert {v["status"] for v in made} == {"READY"}
    assert (made[0]["description"], made[0]["run_link"]) == ("d", "http://x")
    await mlflow.call(VERSIONS + "delete", method="DELETE", name="m", version="3")
    await mlflow.refused(
        VERSIONS + "delete", MISSING, "Model Version (name=m, version=3) not found",
        method="DELETE", name="m", version="3", http=404,
    )  # fmt: skip
    assert (await version(mlflow))["version"] == "4"
    changed = await mlflow.call(
        VERSIONS + "update", method="PATCH", name="m", version="4", description="new"
    )
    assert changed["model_version"]["description"] == "new"
    assert (await read_version(mlflow, 4))["description"] == "new"
    for bad in ("x", "1.0", "", "-1", "9" * 30):
        asked: dict[str, Any] = {"method": "GET", "name": "m", "version": bad}
        await mlflow.refused(VERSIONS + "get", INVALID, "version", **asked)
    await mlflow.refused(
        VERSIONS + "create", MISSING, "name=nobody", name="nobody", source="s3://b", http=404
    )
    await mlflow.refused(VERSIONS + "create", INVALID, "required parameter 'source'", name="m")


async def test_aliases_move_and_go_with_their_version(mlflow: Mlflow):
    await register(mlflow)
    for _ in range(2):
        await version(mlflow)
    alias = MODELS + "alias"
    for number in ("1", "2"):
        await mlflow.call(alias, name="m", alias="champion", version=number)
    await mlflow.call(alias, name="m", alias="old-one", version="1")
    found = await mlflow.get_json(alias, name="m", alias="champion")
    assert found["model_version"]["version"] == "2"
    assert found["model_version"]["aliases"] == ["champion"]
    aliases = (await read(mlflow))["aliases"]
    assert aliases == [
        {"alias": "champion", "version": "2"}, {"alias": "old-one", "version": "1"}
    ]  # fmt: skip
    latest = await mlflow.get_json(alias, name="m", alias="Latest")
    assert latest["model_version"]["version"] == "2"
    for bad, text in (
        ("latest", "reserved"), ("v1", "reserved"), ("V22", "reserved"),
        ("a b", "Invalid alias name"), ("", "'alias'"), ("x" * 256, "255"),
    ):  # fmt: skip
        await mlflow.refused(alias, INVALID, text, name="m", alias=bad, version="1")
    await mlflow.refused(alias, MISSING, "version=9", name="m", alias="a", version="9", http=404)
    for _ in range(2):
        await mlflow.call(alias, method="DELETE", name="m", alias="old-one")
    await mlflow.call(VERSIONS + "delete", method="DELETE", name="m", version="2")
    await mlflow.refused(
        alias, INVALID, "Registered model alias champion not found.",
        method="GET", name="m", alias="champion",
    )  # fmt: skip
    assert "aliases" not in await read(mlflow)


async def test_stages_and_the_newest_version_of_each(mlflow: Mlflow):
    await register(mlflow)
    for _ in range(4):
        await version(mlflow)
    move = VERSIONS + "transition-stage"
    for number in ("1", "2"):
        moved = await mlflow.call(
            move, name="m", version=number, stage="production", archive_existing_versions=True
        )
        assert moved["model_version"]["current_stage"] == "Production"
    await mlflow.call(move, name="m", version="3", stage="Staging")
    stages = [(await read_version(mlflow, number))["current_stage"] for number in (1, 2, 3, 4)]
    assert stages == ["Archived", "Production", "Staging", "None"]
    latest = MODELS + "get-latest-versions"
    every = await mlflow.call(latest, name="m")
    assert sorted(v["version"] for v in every["model_versions"]) == ["1", "2", "3", "4"]
    for found in (
        await mlflow.call(latest, name="m", stages=["PRODUCTION"]),
        await mlflow.get_json(latest, name="m", stages="Production"),
    ):
        assert [v["version"] for v in found["model_versions"]] == ["2"]
    await mlflow.call(move, name="m", version="1", stage="Production")
    newest = await mlflow.call(latest, name="m", stages=["Production"])
    assert [v["version"] for v in newest["model_versions"]] == ["2"]
    wrong: dict[str, Any] = {"name": "m", "version": "1"}
    await mlflow.refused(move, INVALID, "Invalid Model Version stage: live.", **wrong, stage="live")
    await mlflow.refused(
        move, INVALID, "not an Active stage", **wrong, stage="Archived",
        archive_existing_versions=True,
    )  # fmt: skip
    await mlflow.refused(latest, INVALID, "stage", name="m", stages=["x"])


async def test_where_the_files_of_a_version_lie(mlflow: Mlflow):
    run_id = await mlflow.run()
    model_id = await logged_model(mlflow, run_id)
    files = f"mlflow-artifacts:/0/models/{model_id}/artifacts"
    run_files = f"mlflow-artifacts:/0/{run_id}/artifacts"
    await register(mlflow)
    await register(mlflow, "copy")
    sources: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"source": f"models:/{model_id}", "model_id": model_id},
         {"location": files, "run_id": run_id, "model_id": model_id}),
        ({"source": f"{run_files}/model", "run_id": run_id},
         {"location": f"{run_files}/model", "run_id": run_id}),
        ({"source": f"runs:/{run_id}/model", "run_id": run_id},
         {"location": f"{run_files}/model", "run_id": run_id}),
        ({"source": f"{files}/", "model_id": model_id},
         {"location": f"{files}/", "run_id": run_id, "model_id": model_id}),
        ({"source": "models:/m/1"}, {"location": files, "run_id": run_id, "model_id": model_id}),
        ({"source": "models:/m@best"}, {"location": files, "model_id": model_id}),
        ({"source": "MODELS:/m/latest"}, {"location": files, "model_id": model_id}),
        ({"source": "s3://bucket/any/where"}, {"location": "s3://bucket/any/where"}),
    )  # fmt: skip
    for number, (asked, expected) in enumerate(sources, 1):
        location = expected.pop("location")
        name = "copy" if asked["source"].startswith("models:/m/") else "m"
        made = await version(mlflow, name, **asked)
        assert {key: made[key] for key in expected} == expected, asked
        found = await mlflow.get_json(
            VERSIONS + "get-download-uri", name=name, version=made["version"]
        )
        assert found == {"artifact_uri": location}, asked
        if number == 1:
            await mlflow.call(MODELS + "alias", name="m", alias="best", version="1")
    copied = await read_version(mlflow, 1, "copy")
    assert copied["source"] == "models:/m/1"
    model = (await mlflow.get_json(f"logged-models/{model_id}"))["model"]["info"]
    assert {"name": "copy", "version": "1"} in model["registrations"]
    assert '{"name":"m","version":1}' in pairs(model["tags"])["mlflow.modelVersions"]


async def test_sources_that_no_version_may_have(mlflow: Mlflow):
    run_id, other = await mlflow.run(), await mlflow.run()
    model_id = await logged_model(mlflow, run_id)
    await register(mlflow)
    files = f"mlflow-artifacts:/0/{run_id}/artifacts"
    refused: tuple[dict[str, Any], ...] = (
        {"source": f"{files}/model"},
        {"source": f"{files}/model", "run_id": other},
        {"source": f"{files}/model", "run_id": "0" * 32},
        {"source": f"{files}2/model", "run_id": run_id},
        {"source": f"{files}/../x", "run_id": run_id},
        {"source": f"{files}/%252e%252e/x", "run_id": run_id},
        {"source": f"mlflow-artifacts://elsewhere/0/{run_id}/artifacts", "run_id": run_id},
        {"source": "/etc/passwd"},
        {"source": "file:///etc", "run_id": run_id},
        {"source": "C:\\\\x", "run_id": run_id},
        {"source": f"models:/{model_id}", "model_id": "m-" + "0" * 32},
        {"source": "models:/m-" + "0" * 32},
        {"source": "models://host/m/1"},
        {"source": "models:/m"},
        {"source": "http://[::1"},
        {"source": "//[x"},
        {"source": "file://%5b"},
        {"source": "runs:"},
        {"source": f"runs:/{other}/x", "run_id": run_id},
        {"source": "http://h/api/2.0/mlflow-artifacts/artifacts/0/x", "run_id": run_id},
    )
    for body in refused:
        await mlflow.refused(
            VERSIONS + "create", INVALID, "Invalid model version source", name="m", **body
        )
    for source in ("models:/m/9", "models:/nobody/1", "models:/m/latest", "models:/m/Production"):
        await mlflow.refused(VERSIONS + "create", MISSING, "", name="m", source=source, http=404)
    await mlflow.refused(VERSIONS + "create", INVALID, "alias x", name="m", source="models:/m@x")
    assert "latest_versions" not in await read(mlflow), "nothing was registered"


async def test_files_outside_the_proxy_where_the_experiment_keeps_its_own(mlflow: Mlflow):
    made = await mlflow.call("experiments/create", name="e", artifact_location="file:///shared/e")
    run_id = await mlflow.run(made["experiment_id"])
    await register(mlflow)
    source = f"/shared/e/{run_id}/artifacts/model"
    assert (await version(mlflow, source=source, run_id=run_id))["source"] == source


async def found_models(mlflow: Mlflow, filter: str = "", *order: str, size: int = 100) -> str:
    query: dict[str, Any] = {"filter": filter, "order_by": list(order), "max_results": size}
    names = ""
    while True:
        page = await mlflow.get_json(MODELS + "search", **query)
        names += "".join(one["name"] for one in page.get("registered_models", []))
        if "next_page_token" not in page:
            return names
        query["page_token"] = page["next_page_token"]


async def found_versions(mlflow: Mlflow, filter: str = "", *order: str, size: int = 100) -> str:
    query: dict[str, Any] = {"filter": filter, "order_by": list(order), "max_results": size}
    names: list[str] = []
    while True:
        page = await mlflow.get_json(VERSIONS + "search", **query)
        names += [one["name"] + one["version"] for one in page.get("model_versions", [])]
        if "next_page_token" not in page:
            return " ".join(names)
        query["page_token"] = page["next_page_token"]


@pytest.fixture
async def three(mlflow: Mlflow) -> str:
    """Models a, b and C with 2, 1 and 1 versions; the run of a's second."""
    run_id = await mlflow.run()
    for name, tag in (("b", "X"), ("C", None), ("a", "x")):
        tags = [{"key": "t", "value": tag}] if tag else []
        await register(mlflow, name, tags=tags)
        await version(mlflow, name, f"s3://{name}", tags=tags)
    files = f"mlflow-artifacts:/0/{run_id}/artifacts/m"
    await version(mlflow, "a", files, run_id=run_id)
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    await register(mlflow, "p", tags=prompt)
    await version(mlflow, "p", "dummy-source", tags=prompt)
    return run_id


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", "Cab"), ("name = 'a'", "a"), ("name != 'a'", "Cb"), ("name LIKE 'c%'", ""),
        ("name ILIKE 'c%'", "C"), ("attribute.name IN ('a', 'b')", "ab"),
        ("name NOT IN ('a')", "Cb"), ("tags.t = 'x'", "a"), ("tags.t ILIKE 'x'", "ab"),
        ("tag.t != 'x'", "b"), ("tags.t LIKE 'X' AND name = 'b'", "b"),
        ("tags.`mlflow.prompt.is_prompt` = 'true'", "p"),
        ("tags.`mlflow.prompt.is_prompt` != 'false' AND name = 'p'", "p"),
        ("tags.`mlflow.prompt.is_prompt` != 'true'", "Cab"),
        ("tags.`mlflow.prompt.is_prompt` = 'false'", "Cab"),
    ],
)  # fmt: skip
async def test_searches_of_models(mlflow: Mlflow, three: str, filter: str, expected: str):
    for size in (1, 2, 100):
        assert await found_models(mlflow, filter, size=size) == expected


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", "a2 a1 C1 b1"), ("name = 'a'", "a2 a1"), ("name='a' and version_number > 1", "a2"),
        ("version_number = 1", "a1 C1 b1"), ("run_id = '{run}'", "a2"),
        ("run_id IN ('{run}', 'x')", "a2"), ("run_id != '{run}'", ""),
        ("source_path LIKE 's3://%'", "a1 C1 b1"),
        ("source_path = 's3://b'", "b1"), ("name IN ('a', 'b')", "a2 a1 b1"),
        ("tags.t = 'x'", "a1"),
        ("tags.`mlflow.prompt.is_prompt` = 'true'", "p1"),
    ],
)  # fmt: skip
async def test_searches_of_versions(mlflow: Mlflow, three: str, filter: str, expected: str):
    filter = filter.format(run=three)
    for size in (1, 3, 100):
        found = await found_versions(mlflow, filter, "creation_timestamp DESC", size=size)
        assert sorted(found.split()) == sorted(expected.split())


async def test_orders(mlflow: Mlflow, three: str):
    assert await found_models(mlflow, "", "name DESC") == "baC"
    assert (await found_models(mlflow, "", "last_updated_timestamp DESC", "name ASC"))[0] == "a"
    assert len(await found_models(mlflow, "", "timestamp")) == 3
    assert await found_versions(mlflow, "", "name DESC") == "b1 a2 a1 C1"
    assert await found_versions(mlflow, "", "version_number", "name") == "C1 a1 b1 a2"
    first = await found_versions(mlflow)
    assert sorted(first.split()) == ["C1", "a1", "a2", "b1"]


async def test_a_prompt_and_a_model_do_not_share_a_name(mlflow: Mlflow):
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    await register(mlflow, "p", tags=prompt)
    await register(mlflow, "m")
    path = MODELS + "create"
    await mlflow.refused(path, EXISTS, "already taken by a prompt", name="p")
    await mlflow.refused(path, EXISTS, "taken by a registered model", name="m", tags=prompt)
    await mlflow.refused(path, EXISTS, "Prompt (name=p) already exists", name="p", tags=prompt)
    taken: dict[str, Any] = {"name": "m", "source": "models:/p/1"}
    await mlflow.refused(VERSIONS + "create", INVALID, "Invalid model version source", **taken)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("registered-models/search", {"filter": "nonsense = 'x'"}),
        ("registered-models/search", {"filter": "name = x"}),
        ("registered-models/search", {"filter": "name = 'a' OR name = 'b'"}),
        ("registered-models/search", {"filter": "tags.t IN ('x')"}),
        ("registered-models/search", {"filter": "tags.t IS NULL"}),
        ("registered-models/search", {"filter": "metrics.x > 1"}),
        ("registered-models/search", {"order_by": "creation"}),
        ("registered-models/search", {"order_by": ["timestamp", "last_updated_timestamp"]}),
        ("registered-models/search", {"max_results": 1001}),
        ("registered-models/search", {"max_results": 0}),
        ("registered-models/search", {"page_token": "garbage"}),
        ("model-versions/search", {"filter": "source_path IN ('x')"}),
        ("model-versions/search", {"filter": "version_number LIKE '1'"}),
        ("model-versions/search", {"filter": "stage = 'None'"}),
        ("model-versions/search", {"filter": "name IS NULL"}),
        ("model-versions/search", {"order_by": "run_id"}),
        ("model-versions/search", {"max_results": 200_001}),
        ("model-versions/search", {"page_token": "garbage"}),
    ],
)
async def test_searches_that_are_refused(mlflow: Mlflow, path: str, query: dict[str, Any]):
    await mlflow.refused(path, INVALID, "", method="GET", **query)


async def test_each_tenant_has_a_registry_of_its_own(mlflow: Mlflow):
    await register(mlflow)
    await version(mlflow)
    theirs = {"X-MLFLOW-WORKSPACE": "acme"}
    path = mlflow.prefix + MODELS
    response = await mlflow.get(path + "get", params={"name": "m"}, headers=theirs)
    assert_refused(response, MISSING, "name=m not found", 404)
    assert (await mlflow.get(path + "search", headers=theirs)).json() == {}
    made = await mlflow.post(path + "create", json={"name": "m"}, headers=theirs)
    assert made.status_code == 200
    run_id = await mlflow.run()
    foreign = {"name": "m", "source": f"mlflow-artifacts:/0/{run_id}/artifacts", "run_id": run_id}
    response = await mlflow.post(mlflow.prefix + VERSIONS + "create", json=foreign, headers=theirs)
    assert_refused(response, INVALID, "Invalid model version source", 400)
