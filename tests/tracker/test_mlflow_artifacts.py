"""MLflow's artifact proxy: the tenant decides and not the path, and no path leads out."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile_paths import ABSOLUTE, MISFORMED
from tests.tracker.checked import RUNS, CheckedClient
from tests.tracker.mlflow_client import FILES, Mlflow, assert_refused

INVALID, MISSING = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
ACME = {"X-MLFLOW-WORKSPACE": "acme"}


@pytest.fixture
async def run_id(mlflow: Mlflow) -> str:
    return await mlflow.run()


def at(run_id: str, path: str = "") -> str:
    return f"{FILES}/0/{run_id}/artifacts" + (f"/{path}" if path else "")


async def put(mlflow: Mlflow, url: str, content: Any = b"bytes", **kwargs: Any) -> None:
    response = await mlflow.put(url, content=content, **kwargs)
    assert response.status_code == 200, response.text


async def listed(mlflow: Mlflow, path: str, **kwargs: Any) -> Any:
    response = await mlflow.get(FILES, params={"path": path}, **kwargs)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_file_goes_up_is_listed_comes_down_and_goes_away(mlflow: Mlflow, run_id: str):
    for name in ("a/b.txt", "a/größe 100%25+ x.txt", "c.bin"):
        await put(mlflow, at(run_id, name), name.encode())
    await put(mlflow, at(run_id, "a/b.txt"), b"again")
    files = (await listed(mlflow, f"0/{run_id}/artifacts/a"))["files"]
    assert files[0] == {"path": "b.txt", "is_dir": False, "file_size": 5}
    assert files[1]["path"] == "größe 100%+ x.txt"
    top = await mlflow.get_json("artifacts/list", run_id=run_id)
    assert top["root_uri"] == f"mlflow-artifacts:/0/{run_id}/artifacts"
    assert [(f["path"], f["is_dir"]) for f in top["files"]] == [("a", True), ("c.bin", False)]
    deep = await mlflow.get_json("artifacts/list", run_uuid=run_id, path="a")
    assert deep["files"][0]["path"] == "a/b.txt"
    response = await mlflow.get(at(run_id, "a/b.txt"))
    assert response.content == b"again"
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["content-disposition"] == 'attachment; filename="b.txt"'
    assert response.headers["x-content-type-options"] == "nosniff"
    ranged = await mlflow.get(at(run_id, "a/b.txt"), headers={"Range": "bytes=1-2"})
    assert (ranged.status_code, ranged.content) == (206, b"ga")
    for _ in range(2):
        assert (await mlflow.delete(at(run_id, "a"))).json() == {}
    assert await listed(mlflow, f"0/{run_id}/artifacts/a") == {}


async def test_empty_files_and_streamed_bodies(mlflow: Mlflow, run_id: str):
    async def body() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"x" * 10_000

    await put(mlflow, at(run_id, "large"), body())
    await put(mlflow, at(run_id, "empty"), b"")
    files = (await listed(mlflow, f"0/{run_id}/artifacts"))["files"]
    assert [file["file_size"] for file in files] == [0, 3_000_000]


async def test_what_is_missing_or_a_folder(mlflow: Mlflow, run_id: str):
    await put(mlflow, at(run_id, "a/b"))
    assert await listed(mlflow, f"0/{run_id}/artifacts/nowhere") == {}
    assert await listed(mlflow, f"0/{run_id}/artifacts/a/b") == {}
    assert_refused(await mlflow.get(at(run_id, "none")), MISSING, "No such artifact", 404)
    assert_refused(await mlflow.get(at(run_id, "a")), INVALID, "folder", 400)
    assert_refused(await mlflow.put(at(run_id, "a/"), content=b""), INVALID, "Invalid path", 400)
    assert_refused(await mlflow.put(at(run_id, "a"), content=b""), INVALID, "Invalid path", 400)
    assert_refused(await mlflow.put(at(run_id), content=b""), INVALID, "Invalid path", 400)


async def test_the_folders_above_are_the_tenants(mlflow: Mlflow, run_id: str):
    number = await mlflow.experiment("a")
    assert [f["path"] for f in (await listed(mlflow, ""))["files"]] == ["0", number]
    assert [f["path"] for f in (await listed(mlflow, "0"))["files"]] == [run_id, "models"]
    assert (await listed(mlflow, f"0/{run_id}"))["files"][0]["path"] == "artifacts"


SENDABLE = [path for path in (*ABSOLUTE, *MISFORMED) if path.isascii() and len(path) < 5_000]


@pytest.mark.parametrize("path", SENDABLE)
async def test_no_folder_of_a_hostile_name_shows_anything(mlflow: Mlflow, run_id: str, path: str):
    """Some of these are legal names of nothing."""
    response = await mlflow.get(FILES, params={"path": f"0/{run_id}/artifacts/{path}"})
    if response.status_code == 200:
        assert response.json() == {}
    else:
        assert_refused(response, INVALID, "Invalid", 400)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "a#b", "a\\b", "c:", "C%3A/x", "%2e%2e/x", "%252e%252e/x", "a//b"]
)
async def test_unsafe_folders_are_refused(mlflow: Mlflow, run_id: str, path: str):
    for asked in (f"0/{run_id}/artifacts/{path}", path):
        response = await mlflow.get(FILES, params={"path": asked})
        assert_refused(response, INVALID, "Invalid path", 400)


@pytest.mark.parametrize(
    "path",
    ["..%2fx", "%252e%252e%252fx", "a%2f%2e%2e%2f%2e%2e%2fx", "%2fetc%2fpasswd", "C%3A%2fx",
     "a%23b", "a%5cb", "a%00b", "a%0a", "%25252e%25252e%25252fx", "a%2f%2e", "%2e", "a%2f%2fb",
     "%ff"],
)  # fmt: skip
async def test_unsafe_files_are_refused(mlflow: Mlflow, run_id: str, path: str, data: Path):
    for method in ("PUT", "GET", "DELETE"):
        response = await mlflow.request(method, at(run_id) + "/" + path)
        assert_refused(response, INVALID, "Invalid path", 400)
    assert not [*data.rglob("artifacts/runs")]


async def test_a_file_of_another_tenant_is_not_found(mlflow: Mlflow, run_id: str):
    await put(mlflow, at(run_id, "a"), b"secret")
    response = await mlflow.post(
        mlflow.prefix + "runs/create", json={"experiment_id": "0"}, headers=ACME
    )
    theirs = response.json()["run"]["info"]["run_id"]
    for method in ("GET", "PUT", "DELETE"):
        foreign = await mlflow.request(method, at(run_id, "a"), headers=ACME)
        assert_refused(foreign, MISSING, "not found", 404)
        assert (await mlflow.request(method, at(theirs, "a"))).status_code == 404
    await put(mlflow, at(theirs, "a"), b"theirs", headers=ACME)
    named = f"{FILES}/workspaces/acme/0/{theirs}/artifacts/a"
    assert (await mlflow.get(named, headers=ACME)).content == b"theirs"
    assert_refused(await mlflow.get(named), INVALID, "workspace 'default'", 400)
    listing = await mlflow.get(FILES, params={"path": f"0/{theirs}/artifacts"})
    assert listing.status_code == 404
    assert (await mlflow.get(at(run_id, "a"))).content == b"secret"


@pytest.mark.parametrize(
    "path",
    ["x", "0", "0/models", "7/{run}/artifacts/a", "0/{run}/other/a", "0/{run}", "0/x/artifacts/a"],
)
async def test_paths_of_nobodys(mlflow: Mlflow, run_id: str, path: str):
    url = f"{FILES}/{path.format(run=run_id)}"
    for method in ("GET", "PUT", "DELETE"):
        assert_refused(await mlflow.request(method, url), MISSING, "", 404)


async def test_a_deleted_run_takes_no_files_and_keeps_its_own(mlflow: Mlflow, run_id: str):
    await put(mlflow, at(run_id, "a"), b"kept")
    await mlflow.call("runs/delete", run_id=run_id)
    response = await mlflow.put(at(run_id, "b"), content=b"")
    assert_refused(response, INVALID, "must be in the 'active' state", 400)
    assert (await mlflow.get(at(run_id, "a"))).content == b"kept"


@pytest.mark.parametrize("kind", ["proxy", "model", "web page", "native"])
async def test_an_owner_that_is_purged_while_a_file_arrives_leaves_none(
    mlflow: Mlflow, client: CheckedClient, data: Path, kind: str
):
    lab = await mlflow.experiment("lab")
    run_id = await mlflow.run(lab)
    made = await mlflow.call("logged-models", experiment_id=lab, name="net")
    model_id = made["model"]["info"]["model_id"]
    found = (await client.ok("GET", RUNS.removesuffix("/runs")))["experiments"]
    experiment = next(one["experiment_id"] for one in found if one["name"] == "lab")

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await client.ok("DELETE", f"{RUNS.removesuffix('runs')}{experiment}?purge=true")
        while (data / "tenants/default/purging").exists():
            await asyncio.sleep(0.05)
        yield b"second"

    method, url = {
        "proxy": ("PUT", f"{FILES}/{lab}/{run_id}/artifacts/a/b"),
        "model": ("PUT", f"{FILES}/{lab}/models/{model_id}/artifacts/a/b"),
        "web page": ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path=a/b"),
        "native": ("PUT", f"{RUNS}/{run_id}/artifacts/a/b"),
    }[kind]
    answer = await (client if kind == "native" else mlflow).request(method, url, content=body())
    assert answer.status_code == (409 if kind == "native" else 404), answer.text
    assert [
        file for file in (data / "tenants/default/artifacts").rglob("*") if file.is_file()
    ] == []


async def test_both_apis_have_the_same_files(mlflow: Mlflow, client: CheckedClient, run_id: str):
    await put(mlflow, at(run_id, "a.txt"), b"theirs")
    response = await client.get(f"{RUNS}/{run_id}/artifacts/a.txt")
    assert response.content == b"theirs"
    await client.ok("PUT", f"{RUNS}/{run_id}/artifacts/b.txt", content=b"ours")
    assert (await mlflow.get(at(run_id, "b.txt"))).content == b"ours"


async def test_what_the_web_pages_use(mlflow: Mlflow, run_id: str):
    upload = "/ajax-api/2.0/mlflow/upload-artifact"
    query = {"run_uuid": run_id, "path": "a/b.txt"}
    assert (await mlflow.post(upload, params=query, content=b"up")).json() == {}
    for name in ("run_id", "run_uuid"):
        response = await mlflow.get("/get-artifact", params={name: run_id, "path": "a/b.txt"})
        assert response.content == b"up"
    for left_out in query:
        some = {name: value for name, value in query.items() if name != left_out}
        response = await mlflow.post(upload, params=some, content=b"x")
        assert_refused(response, INVALID, f"Request must specify {left_out}.", 400)
    response = await mlflow.post(upload, params=query, content=b"")
    assert_refused(response, INVALID, "Request must specify data.", 400)
    response = await mlflow.post(upload, params=query, content=b"x" * (10 * 1024 * 1024 + 1))
    assert_refused(response, INVALID, "10MB", 400)


async def test_multipart_is_refused_with_the_text_that_clients_know(mlflow: Mlflow, run_id: str):
    for step in ("create", "complete", "abort"):
        url = f"/api/2.0/mlflow-artifacts/mpu/{step}/0/{run_id}/artifacts"
        response = await mlflow.post(url, json={"path": "x", "num_parts": 2})
        assert_refused(response, "NOT_IMPLEMENTED", "", 501)
        assert response.json()["message"].startswith(
            "Multipart upload is not supported for the current artifact repository"
        )
    response = await mlflow.get(f"/api/2.0/mlflow-artifacts/presigned/0/{run_id}/artifacts/x")
    assert_refused(response, "NOT_IMPLEMENTED", "", 501)


@pytest.mark.parametrize(
    "location",
    ["mlflow-artifacts:/custom/place", "mlflow-artifacts:/a/artifacts/b/", "mlflow-artifacts:/77"],
)
async def test_an_experiment_whose_maker_chose_a_place_behind_the_proxy(
    mlflow: Mlflow, client: CheckedClient, location: str
):
    made = await mlflow.call("experiments/create", name="e", artifact_location=location)
    run_id = await mlflow.run(made["experiment_id"])
    uri = (await mlflow.read(run_id))["info"]["artifact_uri"]
    url = FILES + "/" + uri.removeprefix("mlflow-artifacts:/") + "/d/a.txt"
    await put(mlflow, url, b"theirs")
    assert (await mlflow.get(url)).content == b"theirs"
    assert (await client.get(f"{RUNS}/{run_id}/artifacts/d/a.txt")).content == b"theirs"
    folder = uri.removeprefix("mlflow-artifacts:/") + "/d"
    assert (await listed(mlflow, folder))["files"][0]["path"] == "a.txt"
    model = (await mlflow.call("logged-models", experiment_id=made["experiment_id"]))["model"]
    files = FILES + "/" + model["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    await put(mlflow, files + "/MLmodel", b"flavors:")
    assert (await mlflow.get(files + "/MLmodel")).content == b"flavors:"
    other = await mlflow.run()
    wrong = url.replace(run_id, other)
    assert_refused(await mlflow.put(wrong, content=b""), MISSING, "not found", 404)
    elsewhere = await mlflow.get(f"{FILES}/nowhere/{run_id}/artifacts/d/a.txt")
    assert_refused(elsewhere, MISSING, "not found", 404)
