"""Runs over HTTP: their life, and what a training script logs into them."""

import asyncio
import struct

import msgspec

from stepwell import ids, wire
from tests.tracker.checked import RUNS, CheckedClient

START = 1707723600000


def columnar(key: str, *points: tuple[int, int, float]) -> list[object]:
    steps, timestamps, values = zip(*points, strict=True)
    n = len(points)
    return [
        key,
        struct.pack(f"<{n}q", *steps),
        struct.pack(f"<{n}q", *timestamps),
        struct.pack(f"<{n}d", *values),
    ]


async def points_of(client: CheckedClient, run_id: str, key: str) -> list[tuple[int, int, object]]:
    history = await client.ok("GET", f"{RUNS}/{run_id}/metrics/{key}")
    return [(p["step"], p["timestamp"], p["value"]) for p in history["points"]]


async def test_the_documented_run_from_creation_to_end(client: CheckedClient):
    made = await client.request(
        "POST",
        RUNS,
        headers={"X-Tenant-ID": "acme-corp"},
        json={
            "experiment_name": "fraud-detection-v3",
            "name": "xgboost-baseline",
            "description": "first",
            "tags": {"stage": "baseline"},
            "params": {"learning_rate": "0.01", "max_depth": 6},
            "user_id": "alice@acme.com",
            "start_time": START,
        },
    )
    assert made.status_code == 201
    run = made.json()
    one = f"{RUNS}/{run['run_id']}"
    assert ids.hash_of_run_id(run["run_id"]) == ids.tenant_hash("acme-corp")
    assert run["params"] == {"learning_rate": "0.01", "max_depth": "6"}
    assert (run["status"], run["end_time"], run["duration_seconds"]) == ("running", None, None)

    reply = await client.ok(
        "POST",
        f"{one}/log-metrics",
        json={"metrics": {"train_loss": 0.342, "val_loss": 0.5}, "step": 15, "timestamp": START},
    )
    assert reply == {"run_id": run["run_id"], "accepted": 2}
    reply = await client.ok("POST", f"{one}/log-params", json={"params": {"eta": 1, "on": True}})
    assert reply == {"run_id": run["run_id"], "accepted": 2}
    reply = await client.ok(
        "POST",
        f"{one}/log-batch",
        json={
            "metrics": [{"key": "train_loss", "value": 0.3, "step": 16, "timestamp": START}],
            "params": [{"key": "eta", "value": "1"}],
            "tags": [{"key": "host", "value": "a"}, {"key": "host", "value": "b"}],
        },
    )
    accepted = {"metrics": 1, "params": 1, "tags": 2}
    assert reply == {"run_id": run["run_id"], "accepted": accepted}

    end = await client.ok("POST", f"{one}/end?status=finished&end_time={START + 342_500}")
    assert end == {
        "message": "Run ended",
        "run_id": run["run_id"],
        "status": "finished",
        "duration_seconds": 342.5,
    }
    shown = await client.ok("GET", one)
    assert shown["metrics"] == {"train_loss": 0.3, "val_loss": 0.5}
    assert shown["params"]["on"] == "true"
    assert shown["tags"] == {"stage": "baseline", "host": "b"}
    assert (shown["status"], shown["duration_seconds"]) == ("finished", 342.5)
    assert shown["user_id"] == "alice@acme.com"


async def test_a_run_made_twice_by_its_id_is_one(client: CheckedClient):
    run_id = ids.new_run_id("default")
    body = {"run_id": run_id, "name": "first", "experiment_name": "e"}
    first = await client.request("POST", RUNS, json=body)
    again = await client.request("POST", RUNS, json=body | {"name": "second"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["name"] == "first"
    assert again.json()["experiment_id"] == first.json()["experiment_id"]
    dashed = "-".join([run_id[:8], run_id[8:12], run_id[12:16], run_id[16:20], run_id[20:]])
    assert (await client.ok("GET", f"{RUNS}/{dashed.upper()}"))["run_id"] == run_id
    assert (await client.ok("GET", RUNS))["total"] == 1


async def test_a_run_without_a_name_gets_a_readable_one(client: CheckedClient):
    names = set()
    for body in ({}, {"name": ""}, {"name": None}):
        run = await client.ok("POST", RUNS, json=body)
        adjective, noun, number = run["name"].split("-")
        assert adjective.isalpha()
        assert noun.isalpha()
        assert number.isdigit()
        names.add(run["name"])
    assert len(names) > 1


async def test_both_forms_of_a_batch_store_the_same(client: CheckedClient):
    points = [(0, START, 0.5), (1, START + 1, float("nan")), (2, START + 2, float("-inf"))]
    body = [1, [columnar("loss", *points)], {"lr": "0.1"}, {"t": "x"}]
    by_columns = await client.new_run()
    reply = await client.ok(
        "POST",
        f"{RUNS}/{by_columns}/log-batch",
        content=msgspec.msgpack.encode(body),
        headers={"Content-Type": wire.COLUMNS},
    )
    assert reply["accepted"] == {"metrics": 3, "params": 1, "tags": 1}
    by_json = await client.new_run()
    metrics = [
        {"key": "loss", "value": wire.to_value(v), "step": s, "timestamp": t} for s, t, v in points
    ]
    await client.ok(
        "POST",
        f"{RUNS}/{by_json}/log-batch",
        json={
            "metrics": metrics,
            "params": [{"key": "lr", "value": 0.1}],
            "tags": [{"key": "t", "value": "x"}],
        },
    )
    expected = [(0, START, 0.5), (1, START + 1, "NaN"), (2, START + 2, "-Infinity")]
    for run_id in (by_columns, by_json):
        assert await points_of(client, run_id, "loss") == expected
        shown = await client.ok("GET", f"{RUNS}/{run_id}")
        assert (shown["params"], shown["tags"]) == ({"lr": "0.1"}, {"t": "x"})
        assert shown["metrics"] == {"loss": "-Infinity"}, "the last value, not the last number"


async def test_an_absent_step_is_zero_and_an_absent_timestamp_now(client: CheckedClient):
    run_id = await client.new_run()
    await client.ok(
        "POST", f"{RUNS}/{run_id}/log-batch", json={"metrics": [{"key": "a", "value": 1}]}
    )
    await client.ok("POST", f"{RUNS}/{run_id}/log-metrics", json={"metrics": {"b": 2}})
    run = await client.ok("GET", f"{RUNS}/{run_id}")
    for key in "ab":
        [(step, timestamp, _)] = await points_of(client, run_id, key)
        assert step == 0
        assert 0 <= timestamp - run["start_time"] < 60_000


async def test_repeating_a_batch_adds_nothing(client: CheckedClient):
    run_id = await client.new_run()
    body = {
        "metrics": [{"key": "a", "value": 0.1, "step": 1, "timestamp": START}],
        "params": [{"key": "p", "value": "1"}],
    }
    for _ in range(3):
        await client.ok("POST", f"{RUNS}/{run_id}/log-batch", json=body)
    assert await points_of(client, run_id, "a") == [(1, START, 0.1)]


async def test_a_batch_with_a_conflict_is_stored_not_even_in_part(client: CheckedClient):
    run_id = await client.new_run(params={"lr": "0.1"})
    body = {
        "metrics": [{"key": "a", "value": 1}],
        "params": [{"key": "new", "value": 1}, {"key": "lr", "value": "0.2"}],
        "tags": [{"key": "t", "value": "x"}],
    }
    problem = await client.refused(409, "POST", f"{RUNS}/{run_id}/log-batch", json=body)
    assert "lr" in problem.detail
    problem = await client.refused(
        409, "POST", f"{RUNS}/{run_id}/log-params", json={"params": {"lr": 0.2}}
    )
    assert "lr" in problem.detail
    shown = await client.ok("GET", f"{RUNS}/{run_id}")
    assert (shown["params"], shown["tags"], shown["metrics"]) == ({"lr": "0.1"}, {}, {})


async def test_an_empty_batch_is_a_heartbeat(client: CheckedClient):
    run_id = await client.new_run()
    before = (await client.ok("GET", f"{RUNS}/{run_id}"))["heartbeat_at"]
    reply = await client.ok("POST", f"{RUNS}/{run_id}/log-batch", json={})
    assert reply["accepted"] == {"metrics": 0, "params": 0, "tags": 0}
    assert (await client.ok("GET", f"{RUNS}/{run_id}"))["heartbeat_at"] >= before


async def test_an_ended_run_still_takes_late_data(client: CheckedClient):
    run_id = await client.new_run()
    await client.ok("POST", f"{RUNS}/{run_id}/end")
    await client.ok("POST", f"{RUNS}/{run_id}/log-metrics", json={"metrics": {"late": 1}})
    await client.ok("POST", f"{RUNS}/{run_id}/log-params", json={"params": {"late": 1}})
    shown = await client.ok("GET", f"{RUNS}/{run_id}")
    assert (shown["status"], shown["metrics"]) == ("finished", {"late": 1.0})


async def test_ending_twice_alike_changes_nothing_and_another_status_wins(client: CheckedClient):
    run_id = await client.new_run(start_time=START)
    one = f"{RUNS}/{run_id}"
    await client.ok("POST", f"{one}/end?status=failed&end_time={START + 1000}")
    again = await client.ok("POST", f"{one}/end?status=failed&end_time={START + 9000}")
    assert again["duration_seconds"] == 1.0
    other = await client.ok("POST", f"{one}/end?status=killed&end_time={START + 2000}")
    assert (other["status"], other["duration_seconds"]) == ("killed", 2.0)
    resumed = await client.ok("PATCH", one, json={"status": "running"})
    assert (resumed["end_time"], resumed["duration_seconds"]) == (None, None)


async def test_a_patch_changes_what_it_names(client: CheckedClient):
    run_id = await client.new_run(name="a", description="d", tags={"x": "1", "y": "2"})
    one = f"{RUNS}/{run_id}"
    changed = await client.ok("PATCH", one, json={"tags": {"x": None, "z": "3"}})
    assert changed["tags"] == {"y": "2", "z": "3"}
    assert (changed["name"], changed["description"]) == ("a", "d")
    changed = await client.ok(
        "PATCH", one, json={"name": "b", "description": "", "status": "failed", "end_time": START}
    )
    assert (changed["name"], changed["description"]) == ("b", "")
    assert (changed["status"], changed["end_time"]) == ("failed", START)
    again = await client.ok("PATCH", one, json={})
    assert again | {"heartbeat_at": 0} == changed | {"heartbeat_at": 0}


async def test_a_stop_reaches_the_writer_with_its_next_acknowledgement(client: CheckedClient):
    run_id = await client.new_run()
    one = f"{RUNS}/{run_id}"
    assert "stop_requested" not in await client.ok("POST", f"{one}/log-batch", json={})
    stop = await client.ok("POST", f"{one}/stop")
    assert stop["stop_requested"] is True
    assert (await client.ok("POST", f"{one}/log-batch", json={}))["stop_requested"] is True
    reply = await client.ok("POST", f"{one}/log-metrics", json={"metrics": {}})
    assert reply["stop_requested"] is True
    assert (await client.ok("GET", one))["stop_requested"] is True


async def test_a_deleted_run_refuses_writes_and_shows_itself(client: CheckedClient):
    run_id = await client.new_run()
    one = f"{RUNS}/{run_id}"
    assert (await client.ok("DELETE", one))["lifecycle"] == "deleted"
    assert (await client.ok("DELETE", one))["lifecycle"] == "deleted"
    for path, body in [
        ("log-batch", {}),
        ("log-metrics", {"metrics": {"a": 1}}),
        ("log-params", {"params": {"a": 1}}),
        ("end", None),
        ("stop", None),
    ]:
        await client.refused(409, "POST", f"{one}/{path}", json=body)
    await client.refused(409, "PATCH", one, json={"name": "b"})
    assert (await client.ok("GET", one))["lifecycle"] == "deleted"
    assert (await client.ok("GET", RUNS))["runs"] == []
    for lifecycle in ("deleted", "all"):
        shown = await client.ok("GET", RUNS, params={"lifecycle": lifecycle})
        assert [run["run_id"] for run in shown["runs"]] == [run_id]
    assert (await client.ok("POST", f"{one}/restore"))["lifecycle"] == "active"
    await client.ok("POST", f"{one}/log-batch", json={})


async def test_runs_are_listed_newest_first_in_pages(client: CheckedClient):
    made = [await client.new_run(start_time=START + i, experiment_name="e") for i in range(5)]
    newest = made[::-1]
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = await client.ok("GET", RUNS, params=query)
        assert page["total"] == 5
        seen += [run["run_id"] for run in page["runs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == newest
    page = await client.ok("GET", RUNS, params={"limit": 2, "offset": 2, "total": "false"})
    assert [run["run_id"] for run in page["runs"]] == newest[2:4]
    assert "total" not in page


async def test_a_page_of_many_runs_is_the_same_as_many_pages(client: CheckedClient):
    """Long pages are encoded off the event loop."""
    made = await asyncio.gather(*(client.new_run(start_time=START + i) for i in range(120)))
    page = await client.ok("GET", RUNS, params={"limit": 1_000})
    assert [run["run_id"] for run in page["runs"]] == made[::-1]
    short = await client.ok("GET", RUNS, params={"limit": 100})
    assert page["runs"][:100] == short["runs"]


async def test_runs_are_searched_filtered_and_ordered(client: CheckedClient):
    made = []
    for i in range(4):
        run_id = await client.new_run(
            experiment_name=f"e{i % 2}", params={"model": f"m{i % 2}", "depth": i}
        )
        await client.ok(
            "POST", f"{RUNS}/{run_id}/log-metrics", json={"metrics": {"loss": 1 / (i + 1)}}
        )
        made.append(run_id)
    await client.ok("POST", f"{RUNS}/{made[3]}/end?status=failed")

    async def found(**query: object) -> list[str]:
        page = await client.ok("GET", RUNS, params=query)
        return [run["run_id"] for run in page["runs"]]

    assert await found(filter="metrics.loss < 0.6", order_by="metrics.loss") == made[:0:-1]
    assert await found(filter="params.model = 'm1' and params.depth > 1") == [made[3]]
    assert await found(status="failed") == [made[3]]
    assert set(await found(status=["failed", "running"])) == set(made)
    experiment_id = (await client.ok("GET", f"{RUNS}/{made[0]}"))["experiment_id"]
    assert set(await found(experiment_id=experiment_id)) == {made[0], made[2]}
    page = await client.ok("GET", RUNS, params={"keys": ["loss", "depth"], "limit": 1})
    assert set(page["runs"][0]["params"]) == {"depth"}
    assert set(page["runs"][0]["metrics"]) == {"loss"}


async def test_a_run_of_many_keys_is_shown_in_part_and_says_so(client: CheckedClient):
    run_id = await client.new_run()
    metrics = {f"k{i}": i for i in range(1_200)}
    await client.ok("POST", f"{RUNS}/{run_id}/log-metrics", json={"metrics": metrics})
    shown = await client.ok("GET", f"{RUNS}/{run_id}")
    assert (len(shown["metrics"]), shown["truncated"]) == (1_000, True)
    listed = (await client.ok("GET", RUNS))["runs"][0]
    assert (len(listed["metrics"]), listed["truncated"]) == (100, True)
