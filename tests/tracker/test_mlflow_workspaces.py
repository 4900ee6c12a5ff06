"""Workspaces are tenants: chosen by a header, made, described and removed over MLflow's API."""

from pathlib import Path

import pytest

from stepwell_storage.store import Options, Store
from tests.tracker.mlflow_client import FILES, Mlflow, answered, assert_refused

INVALID, MISSING = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
ADMIN = "/api/3.0/mlflow/workspaces"
ACME = {"X-MLFLOW-WORKSPACE": "acme"}


async def test_workspaces_are_tenants(mlflow: Mlflow, data: Path):
    base = mlflow.prefix
    unknown = await mlflow.get(base + "experiments/get-by-name?experiment_name=a", headers=ACME)
    assert_refused(unknown, MISSING, "Could not find experiment with name 'a'", 404)
    assert not (data / "tenants" / "acme").exists(), "a read creates nothing"
    bad = await mlflow.post(base + "runs/create", json={"experiment_id": "5"}, headers=ACME)
    assert_refused(bad, MISSING, "No Experiment", 404)
    assert not (data / "tenants" / "acme").exists(), "nor does a write that fails"
    made = answered(
        await mlflow.post(base + "experiments/create", json={"name": "a"}, headers=ACME)
    )
    same = {"X-Tenant-ID": "ACME"}
    url = base + f"experiments/get?experiment_id={made['experiment_id']}"
    found = answered(await mlflow.get(url, headers=same))
    assert found["experiment"]["workspace"] == "acme"
    await mlflow.refused(
        "experiments/get", MISSING, "No Experiment", method="GET", http=404, experiment_id="1"
    )
    both = await mlflow.get(url, headers={**ACME, "X-Tenant-ID": "other"})
    assert_refused(both, INVALID, "different tenants", 400)
    none = await mlflow.get(
        f"{base}experiments/get?experiment_id=0", headers={"X-MLFLOW-WORKSPACE": " "}
    )
    assert answered(none)["experiment"]["workspace"] == "default"
    wrong = await mlflow.get(url, headers={"X-MLFLOW-WORKSPACE": "../x"})
    assert_refused(wrong, INVALID, "tenant", 400)


async def make(mlflow: Mlflow, name: str = "acme", **body: str) -> None:
    made = await mlflow.post(ADMIN, json={"name": name, **body})
    assert made.status_code == 201, made.text
    assert made.json() == {"workspace": {"name": name, **body}}


async def test_a_workspace_is_made_listed_and_described(mlflow: Mlflow):
    assert answered(await mlflow.get(ADMIN)) == {"workspaces": [{"name": "default"}]}
    await make(mlflow, "team-a", description="words")
    await make(mlflow, "team-b")
    found = {"name": "team-a", "description": "words"}
    assert answered(await mlflow.get(ADMIN + "/team-a")) == {"workspace": found}
    assert answered(await mlflow.get("/ajax-api/3.0/mlflow/workspaces")) == {
        "workspaces": [{"name": "default"}, found, {"name": "team-b"}]
    }
    for name, text in (("team-b", "other"), ("default", "of all"), ("team-a", "")):
        changed = await mlflow.patch(f"{ADMIN}/{name}", json={"description": text})
        assert answered(changed) == {"workspace": {"name": name, "description": text}}
        assert answered(await mlflow.get(f"{ADMIN}/{name}")) == answered(changed)
    for method in ("GET", "PATCH", "DELETE"):
        missing = await mlflow.request(method, ADMIN + "/team-c", json={"description": "x"})
        assert_refused(missing, MISSING, "Workspace 'team-c' not found", 404)
    empty = await mlflow.patch(ADMIN + "/team-a", json={})
    assert_refused(empty, INVALID, "at least one key", 400)
    root = {"default_artifact_root": "s3://bucket"}
    assert_refused(await mlflow.patch(ADMIN + "/team-a", json=root), INVALID, "root", 400)
    again = await mlflow.post(ADMIN, json={"name": "team-a"})
    assert_refused(again, "RESOURCE_ALREADY_EXISTS", "already exists", 400)
    for name in ("x", "Team", "-a", "a-", "a_b", "a" * 64, "api", "workspaces", "ajax-api",
                 "static-files", "default", "", "../x"):  # fmt: skip
        assert_refused(await mlflow.post(ADMIN, json={"name": name}), INVALID, "", 400)


async def test_descriptions_outlive_the_server(mlflow: Mlflow, data: Path):
    await make(mlflow, description="words")
    await mlflow.post(mlflow.prefix + "experiments/create", json={"name": "a"}, headers=ACME)
    found = answered(await mlflow.get(ADMIN + "/acme"))
    assert found["workspace"]["description"] == "words"


@pytest.mark.parametrize("mode", ["", "?mode=RESTRICT", "?mode=SET_DEFAULT", "?mode=CASCADE"])
async def test_an_empty_workspace_is_removed_in_any_mode(mlflow: Mlflow, data: Path, mode: str):
    await make(mlflow)
    gone = await mlflow.delete(f"{ADMIN}/acme{mode}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert_refused(await mlflow.get(ADMIN + "/acme"), MISSING, "not found", 404)
    assert [path.name for path in (data / "tenants").iterdir() if path.name != "default"] == []
    await make(mlflow)


async def test_a_workspace_with_anything_in_it_goes_only_by_cascade(mlflow: Mlflow, data: Path):
    await make(mlflow, description="words")
    base = mlflow.prefix
    made = await mlflow.post(base + "runs/create", json={"experiment_id": "0"}, headers=ACME)
    run_id = answered(made)["run"]["info"]["run_id"]
    url = f"{FILES}/0/{run_id}/artifacts/a"
    await mlflow.put(url, content=b"bytes", headers=ACME)
    await mlflow.post(base + "runs/delete", json={"run_id": run_id}, headers=ACME)
    for mode, text in (("RESTRICT", "mode=CASCADE"), ("SET_DEFAULT", "cannot move")):
        response = await mlflow.delete(f"{ADMIN}/acme?mode={mode}")
        assert_refused(response, INVALID, text, 400)
    assert (await mlflow.get(url, headers=ACME)).content == b"bytes"
    wrong = await mlflow.delete(f"{ADMIN}/acme?mode=cascade")
    assert_refused(wrong, INVALID, "Invalid deletion mode 'cascade'", 400)
    assert (await mlflow.delete(f"{ADMIN}/acme?mode=CASCADE")).status_code == 204
    for path in (url, f"{base}runs/get?run_id={run_id}"):
        assert_refused(await mlflow.get(path, headers=ACME), MISSING, "not found", 404)
    assert not (data / "tenants" / "acme").exists()
    again = await mlflow.post(base + "runs/create", json={"experiment_id": "0"}, headers=ACME)
    assert answered(again)["run"]["info"]["run_id"] != run_id
    found = await mlflow.post(base + "runs/search", json={"experiment_ids": ["0"]}, headers=ACME)
    assert len(answered(found)["runs"]) == 1
    assert answered(await mlflow.get(ADMIN + "/acme")) == {"workspace": {"name": "acme"}}


async def test_default_is_never_removed(mlflow: Mlflow):
    for name in ("default", "DEFAULT"):
        response = await mlflow.delete(f"{ADMIN}/{name}?mode=CASCADE")
        assert_refused(response, INVALID, "cannot be deleted", 400)


async def test_what_a_removal_left_behind_goes_at_the_next_start(tmp_path: Path):
    left = tmp_path / "tenants" / ".removed-00" / "artifacts"
    left.mkdir(parents=True)
    store = await Store.open(tmp_path, Options(compact=False))
    assert not left.parent.exists()
    assert store.names() == []
    await store.close()
