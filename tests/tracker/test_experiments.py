"""Experiments over HTTP."""

import asyncio

from tests.tracker.checked import BASE, RUNS, CheckedClient

UNKNOWN = "00000000-0000-8000-8000-000000000000"


async def test_the_documented_example(client: CheckedClient):
    made = await client.request(
        "POST", BASE, json={"name": "fraud", "description": "cards", "tags": {"team": "risk"}}
    )
    assert made.status_code == 201
    experiment = made.json()
    assert experiment["name"] == "fraud"
    assert experiment["description"] == "cards"
    assert experiment["tags"] == {"team": "risk"}
    assert experiment["lifecycle"] == "active"
    assert experiment["number"] == 1
    assert experiment["run_count"] == 0
    one = f"{BASE}/{experiment['experiment_id']}"
    assert await client.ok("GET", one) == experiment
    assert await client.ok("GET", one.replace("-", "").upper().replace(BASE.upper(), BASE))


async def test_an_id_is_taken_dashed_or_plain_in_either_case(client: CheckedClient):
    experiment_id = (await client.ok("POST", BASE, json={"name": "e"}))["experiment_id"]
    plain = experiment_id.replace("-", "")
    for spelling in (experiment_id, experiment_id.upper(), plain, plain.upper()):
        found = await client.ok("GET", f"{BASE}/{spelling}")
        assert found["experiment_id"] == experiment_id


async def test_a_taken_name_answers_with_the_one_that_has_it(client: CheckedClient):
    made = await client.ok("POST", BASE, json={"name": "fraud"})
    problem = await client.refused(409, "POST", BASE, json={"name": "fraud"})
    assert problem.experiment_id == made["experiment_id"]
    other = await client.ok("POST", BASE, json={"name": "other"})
    problem = await client.refused(
        409, "PATCH", f"{BASE}/{other['experiment_id']}", json={"name": "fraud"}
    )
    assert problem.experiment_id == made["experiment_id"]


async def test_tags_change_only_where_they_are_as_expected(client: CheckedClient):
    made = await client.ok("POST", BASE, json={"name": "e", "tags": {"a": "1", "b": "2"}})
    one = f"{BASE}/{made['experiment_id']}"
    rename: dict[str, dict[str, str | None]] = {
        "tags": {"a": None, "c": "1"},
        "if_tags": {"a": "1", "c": None},
    }
    await client.ok("PATCH", one, json={"tags": {"c": "theirs"}})
    problem = await client.refused(409, "PATCH", one, json=rename)
    assert "'c'" in problem.detail
    assert (await client.ok("GET", one))["tags"] == {"a": "1", "b": "2", "c": "theirs"}
    await client.ok("PATCH", one, json={"tags": {"a": "changed", "c": None}})
    body = {**rename, "name": "other"}
    await client.refused(409, "PATCH", one, json=body)
    found = await client.ok("GET", one)
    assert (found["name"], found["tags"]) == ("e", {"a": "changed", "b": "2"})
    await client.ok("PATCH", one, json={"tags": {"a": "1"}, "if_tags": {"a": "changed"}})
    renamed = await client.ok("PATCH", one, json=rename)
    assert renamed["tags"] == {"b": "2", "c": "1"}
    await client.refused(409, "PATCH", one, json=rename)  # once more: it is done


async def test_of_many_that_expect_the_same_one_comes_through(client: CheckedClient):
    made = await client.ok("POST", BASE, json={"name": "e"})
    one = f"{BASE}/{made['experiment_id']}"
    answers = await asyncio.gather(
        *(
            client.request("PATCH", one, json={"tags": {"a": str(n)}, "if_tags": {"a": None}})
            for n in range(20)
        )
    )
    won = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    assert len(won) == 1
    assert {answer.status_code for answer in answers} == {200, 409}
    assert (await client.ok("GET", one))["tags"] == {"a": str(won[0])}


async def test_lists_are_paged_and_counted(client: CheckedClient):
    for i in range(5):
        await client.ok("POST", BASE, json={"name": f"e{i}"})
    whole = await client.ok("GET", BASE)
    assert whole["total"] == 6, "Default is there"
    assert {"Default", "e0", "e4"} <= {one["name"] for one in whole["experiments"]}
    names, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = await client.ok("GET", BASE, params=query)
        names += [one["name"] for one in page["experiments"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == [one["name"] for one in whole["experiments"]]
    page = await client.ok("GET", BASE, params={"limit": 2, "offset": 3})
    assert [one["name"] for one in page["experiments"]] == names[3:5]
    assert (page["limit"], page["offset"], page["total"]) == (2, 3, 6)


async def test_an_experiment_is_found_by_its_name(client: CheckedClient):
    made = await client.ok("POST", BASE, json={"name": "a & b"})
    found = await client.ok("GET", BASE, params={"name": "a & b"})
    assert [one["experiment_id"] for one in found["experiments"]] == [made["experiment_id"]]
    assert found["total"] == 1
    assert (await client.ok("GET", BASE, params={"name": "a"}))["experiments"] == []
    deleted = await client.ok("GET", BASE, params={"name": "a & b", "lifecycle": "deleted"})
    assert deleted["experiments"] == []


async def test_a_patch_changes_what_it_names(client: CheckedClient):
    made = await client.ok(
        "POST", BASE, json={"name": "e", "description": "d", "tags": {"a": "1", "b": "2"}}
    )
    one = f"{BASE}/{made['experiment_id']}"
    changed = await client.ok("PATCH", one, json={"tags": {"a": None, "c": "3"}})
    assert changed["tags"] == {"b": "2", "c": "3"}
    assert (changed["name"], changed["description"]) == ("e", "d")
    changed = await client.ok("PATCH", one, json={"name": "f", "description": ""})
    assert (changed["name"], changed["description"]) == ("f", "")
    assert await client.ok("GET", one) == changed


async def test_deleting_an_experiment_takes_its_runs_along_and_back(client: CheckedClient):
    run_id = await client.new_run(experiment_name="e")
    experiment_id = (await client.ok("GET", f"{RUNS}/{run_id}"))["experiment_id"]
    deleted = await client.ok("DELETE", f"{BASE}/{experiment_id}")
    assert deleted["lifecycle"] == "deleted"
    assert (await client.ok("GET", f"{RUNS}/{run_id}"))["lifecycle"] == "deleted"
    await client.refused(409, "POST", f"{RUNS}/{run_id}/log-batch", json={})
    await client.refused(409, "POST", RUNS, json={"experiment_name": "e"})
    await client.refused(409, "POST", RUNS, json={"experiment_id": experiment_id})
    shown = await client.ok("GET", BASE, params={"lifecycle": "deleted"})
    assert [one["experiment_id"] for one in shown["experiments"]] == [experiment_id]
    await client.ok("POST", f"{BASE}/{experiment_id}/restore")
    assert (await client.ok("GET", f"{RUNS}/{run_id}"))["lifecycle"] == "active"
    await client.ok("POST", f"{RUNS}/{run_id}/log-batch", json={})


async def test_unknown_experiments_are_not_found_by_any_method(client: CheckedClient):
    for bad in (UNKNOWN, "nonsense", "0", UNKNOWN[:-1], "%2e%2e"):
        await client.refused(404, "GET", f"{BASE}/{bad}")
        await client.refused(404, "PATCH", f"{BASE}/{bad}", json={})
        await client.refused(404, "DELETE", f"{BASE}/{bad}")
        await client.refused(404, "POST", f"{BASE}/{bad}/restore")
    await client.refused(404, "GET", RUNS, params={"experiment_id": UNKNOWN})
    await client.refused(404, "POST", RUNS, json={"experiment_id": UNKNOWN})
