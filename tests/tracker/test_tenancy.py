"""Tenants over HTTP: nobody sees, changes or even creates what is another's."""

from pathlib import Path

import pytest
from starlette.applications import Starlette

from stepwell import ids
from tests.tracker.checked import BASE, RUNS, CheckedClient

ACME = {"X-Tenant-ID": "acme"}
OTHER = {"X-Tenant-ID": "other"}


def tenants(data: Path) -> list[str]:
    return sorted(entry.name for entry in (data / "tenants").iterdir())


async def test_a_read_of_an_unknown_tenant_is_empty_and_creates_nothing(
    client: CheckedClient, data: Path
):
    page = await client.ok("GET", BASE, headers=OTHER)
    assert [(one["name"], one["number"]) for one in page["experiments"]] == [("Default", 0)]
    default = page["experiments"][0]["experiment_id"]
    assert (await client.ok("GET", f"{BASE}/{default}", headers=OTHER))["name"] == "Default"
    assert (await client.ok("GET", RUNS, headers=OTHER))["runs"] == []
    run_id = ids.new_run_id("other")
    await client.refused(404, "GET", f"{RUNS}/{run_id}", headers=OTHER)
    await client.refused(404, "GET", f"{RUNS}/{run_id}")
    assert tenants(data) == []
    made = await client.ok("POST", RUNS, json={}, headers=OTHER)
    assert made["experiment_id"] == default, "the id that was shown before"
    assert tenants(data) == ["other"]


async def test_writes_to_unknown_things_create_no_tenant(client: CheckedClient, data: Path):
    run_id = ids.new_run_id("other")
    experiment_id = "00000000-0000-8000-8000-000000000000"
    for headers in ({}, OTHER, ACME):
        await client.refused(404, "POST", f"{RUNS}/{run_id}/log-batch", json={}, headers=headers)
        await client.refused(404, "PATCH", f"{RUNS}/{run_id}", json={}, headers=headers)
        await client.refused(404, "DELETE", f"{BASE}/{experiment_id}", headers=headers)
        body = {"experiment_id": experiment_id}
        await client.refused(404, "POST", RUNS, json=body, headers=headers)
        await client.refused(422, "POST", RUNS, json={"name": "a\0"}, headers=headers)
        await client.refused(422, "POST", BASE, json={"name": ""}, headers=headers)
        await client.refused(400, "POST", BASE, content=b"{", headers=headers)
    await client.refused(404, "POST", RUNS, json={"run_id": run_id}, headers=ACME)
    await client.refused(404, "POST", RUNS, json={"run_id": run_id})
    await client.refused(404, "POST", RUNS, json={"parent_run_id": run_id}, headers=ACME)
    assert tenants(data) == []


async def test_a_write_to_the_default_experiment_that_was_shown_is_kept(
    client: CheckedClient, data: Path
):
    """An unknown tenant answers from memory; a write must not end there."""
    [default] = (await client.ok("GET", BASE, headers=OTHER))["experiments"]
    one = f"{BASE}/{default['experiment_id']}"
    await client.refused(422, "PATCH", one, json={"name": "a\0"}, headers=OTHER)
    await client.refused(400, "PATCH", one, content=b"{", headers=OTHER)
    assert tenants(data) == []
    await client.ok("PATCH", one, json={"tags": {"kept": "yes"}}, headers=OTHER)
    assert (await client.ok("GET", one, headers=OTHER))["tags"] == {"kept": "yes"}

    [default] = (await client.ok("GET", BASE, headers=ACME))["experiments"]
    body = {"experiment_id": default["experiment_id"]}
    run = await client.ok("POST", RUNS, json=body, headers=ACME)
    assert (await client.ok("GET", f"{RUNS}/{run['run_id']}"))["run_id"] == run["run_id"]
    assert tenants(data) == ["acme", "other"]


async def test_a_run_id_names_its_tenant(client: CheckedClient):
    run_id = await client.new_run(tenant="acme")
    one = f"{RUNS}/{run_id}"
    await client.ok("POST", f"{one}/log-metrics", json={"metrics": {"a": 1}})
    assert (await client.ok("GET", one))["metrics"] == {"a": 1.0}
    assert (await client.ok("GET", one, headers=ACME))["run_id"] == run_id
    assert (await client.ok("GET", one, headers={"X-Tenant-ID": "ACME"}))["run_id"] == run_id
    assert (await client.ok("GET", one, headers={"X-MLFLOW-WORKSPACE": "Acme"}))["run_id"] == run_id


@pytest.mark.parametrize("exists", [True, False])
async def test_a_header_that_contradicts_the_run_id_is_not_found(
    client: CheckedClient, data: Path, exists: bool
):
    run_id = await client.new_run(tenant="acme")
    if exists:
        await client.new_run(tenant="other")
    one = f"{RUNS}/{run_id}"
    before = await client.ok("GET", one)
    calls = [
        ("GET", one, None),
        ("PATCH", one, {"name": "stolen"}),
        ("DELETE", one, None),
        ("POST", f"{one}/restore", None),
        ("POST", f"{one}/stop", None),
        ("POST", f"{one}/end", None),
        ("POST", f"{one}/log-batch", {"params": [{"key": "a", "value": 1}]}),
        ("POST", f"{one}/log-metrics", {"metrics": {"a": 1}}),
        ("POST", f"{one}/log-params", {"params": {"a": 1}}),
        ("GET", f"{one}/metrics", None),
        ("GET", f"{one}/metrics/a", None),
        ("GET", f"{one}/artifacts", None),
        ("GET", f"{one}/console", None),
        ("POST", f"{RUNS}/series", {"run_ids": [run_id], "keys": ["a"]}),
    ]
    for method, url, body in calls:
        await client.refused(404, method, url, json=body, headers=OTHER)
    assert await client.ok("GET", one) == before
    assert tenants(data) == (["acme", "other"] if exists else ["acme"])


async def test_experiments_of_another_tenant_are_not_found(client: CheckedClient):
    made = await client.ok("POST", BASE, json={"name": "secret"}, headers=ACME)
    one = f"{BASE}/{made['experiment_id']}"
    for headers in ({}, OTHER):
        await client.refused(404, "GET", one, headers=headers)
        await client.refused(404, "PATCH", one, json={"name": "x"}, headers=headers)
        await client.refused(404, "DELETE", one, headers=headers)
        query = {"experiment_id": made["experiment_id"]}
        await client.refused(404, "GET", RUNS, params=query, headers=headers)
        assert (await client.ok("GET", RUNS, headers=headers))["total"] == 0
        await client.ok("POST", BASE, json={"name": f"secret {headers}"}, headers=headers)
    assert (await client.ok("GET", one, headers=ACME))["name"] == "secret"


async def test_an_imported_id_without_a_header_is_looked_up_in_default(client: CheckedClient):
    run_id = "0123456789abcdef0123456789abcdef"
    assert ids.hash_of_run_id(run_id) is None
    await client.ok("POST", RUNS, json={"run_id": run_id}, headers=ACME)
    await client.refused(404, "GET", f"{RUNS}/{run_id}")
    assert (await client.ok("GET", f"{RUNS}/{run_id}", headers=ACME))["run_id"] == run_id
    await client.ok("POST", RUNS, json={"run_id": run_id, "name": "mine"})
    assert (await client.ok("GET", f"{RUNS}/{run_id}"))["name"] == "mine"


async def test_tenants_that_share_their_hash_are_each_tried(
    app: Starlette, client: CheckedClient, monkeypatch: pytest.MonkeyPatch
):
    real = ids.tenant_hash
    monkeypatch.setattr(ids, "tenant_hash", lambda name: real("shared"))
    tenancy = app.state.server.tenancy
    first = await client.new_run(tenant="one")
    second = await client.new_run(tenant="two")
    third = await client.new_run(tenant="three", name="third")
    for run_id in (first, second, third):
        assert (await client.ok("GET", f"{RUNS}/{run_id}"))["run_id"] == run_id
    assert len(list(tenancy.candidates(None, first))) == 3
    await client.refused(404, "GET", f"{RUNS}/{first}", headers={"X-Tenant-ID": "two"})


@pytest.mark.parametrize(
    "name",
    ["../etc", "..", ".", "", "a/b", "a\\b", "-a", ".a", "a b", "a%2fb", "x" * 64, "é", "a\tb"],
)
async def test_a_name_that_is_none_is_refused_everywhere(
    client: CheckedClient, data: Path, name: str
):
    run_id = await client.new_run(tenant="acme")
    # An empty workspace is MLflow's way to name none: test_mlflow_workspaces.py.
    for header in ("X-Tenant-ID", "X-MLFLOW-WORKSPACE") if name else ("X-Tenant-ID",):
        headers = {header: name.encode("latin-1")}
        for method, url in [
            ("GET", BASE),
            ("POST", BASE),
            ("GET", RUNS),
            ("POST", RUNS),
            ("POST", f"{RUNS}/series"),
            ("GET", f"{RUNS}?limit=nonsense"),
            ("GET", f"{RUNS}/{run_id}"),
            ("POST", f"{RUNS}/{run_id}/log-batch"),
        ]:
            for body in (b'{"name":"x"}', b"{malformed", b'{"limit":0}'):
                await client.refused(400, method, url, content=body, headers=headers)
    assert tenants(data) == ["acme"]


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "x" * 63, "a..b", "con"])
async def test_names_that_are_allowed(client: CheckedClient, data: Path, name: str):
    await client.new_run(tenant=name)
    assert tenants(data) == [name.lower()]


async def test_two_tenant_headers_are_refused(client: CheckedClient, data: Path):
    twice = [("X-Tenant-ID", "acme"), ("X-Tenant-ID", "acme")]
    differently = [("X-Tenant-ID", "acme"), ("X-MLFLOW-WORKSPACE", "other")]
    for headers in (twice, differently):
        for method, url in [("GET", BASE), ("POST", RUNS)]:
            await client.refused(400, method, url, json={}, headers=headers)
    assert tenants(data) == []
    alike = [("X-Tenant-ID", "acme"), ("X-MLFLOW-WORKSPACE", "ACME")]
    await client.ok("GET", BASE, headers=alike)


async def test_a_tenant_copied_in_as_a_folder_is_found_by_its_run_ids(
    app: Starlette, client: CheckedClient
):
    """The map from hashes to names is refreshed when an id is not found."""
    acme = await client.new_run(tenant="acme")
    await client.ok("GET", f"{RUNS}/{acme}")
    late = await client.new_run(tenant="late")
    assert (await client.ok("GET", f"{RUNS}/{late}"))["run_id"] == late
