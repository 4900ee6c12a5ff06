"""Series over HTTP: exact pages, charts that keep every extreme, columns bit for bit."""

import math
import struct
from typing import Any

import msgspec
import pytest

from stepwell import wire
from stepwell_tracker import schema
from tests.tracker.checked import RUNS, CheckedClient
from tests.tracker.test_runs import columnar

START = 1707723600000
Point = tuple[int, int, float]


async def log(client: CheckedClient, run_id: str, key: str, points: list[Point]) -> None:
    await client.ok(
        "POST",
        f"{RUNS}/{run_id}/log-batch",
        content=msgspec.msgpack.encode([1, [columnar(key, *points)]]),
        headers={"Content-Type": wire.COLUMNS},
    )


async def columns(client: CheckedClient, method: str, url: str, **kwargs) -> wire.ColumnarReply:
    response = await client.request(method, url, headers={"Accept": wire.COLUMNS}, **kwargs)
    assert response.status_code == 200
    assert response.headers["content-type"] == wire.COLUMNS
    return msgspec.msgpack.decode(response.content, type=wire.ColumnarReply)


def unpack(history: wire.ColumnarHistory) -> list[Point]:
    n = len(history.steps) // 8
    return list(
        zip(
            struct.unpack(f"<{n}q", history.steps),
            struct.unpack(f"<{n}q", history.timestamps),
            struct.unpack(f"<{n}d", history.values),
            strict=True,
        )
    )


def objects(history: dict[str, Any]) -> list[Point]:
    return [(p["step"], p["timestamp"], wire.from_value(p["value"])) for p in history["points"]]


def wave(n: int) -> list[Point]:
    return [(i, START + i, math.sin(i / 7) + i / n) for i in range(n)]


async def test_the_series_of_a_run_with_sizes_last_points_and_extremes(client: CheckedClient):
    run_id = await client.new_run()
    await log(client, run_id, "loss", [(0, START, 3.0), (1, START, 1.0), (2, START, 2.0)])
    await log(client, run_id, "nan", [(0, START, math.nan)])
    page = await client.ok("GET", f"{RUNS}/{run_id}/metrics")
    loss, nan = page["series"]
    assert page["total"] == 2
    assert (loss["key"], loss["count"], loss["exact"]) == ("loss", 3, True)
    assert (loss["last"], loss["last_step"], loss["last_timestamp"]) == (2.0, 2, START)
    assert (loss["min"], loss["min_step"]) == (1.0, 1)
    assert (loss["max"], loss["max_step"]) == (3.0, 0)
    assert (nan["last"], nan["min"], nan["max_step"]) == ("NaN", None, None)
    first = await client.ok("GET", f"{RUNS}/{run_id}/metrics", params={"limit": 1})
    assert [one["key"] for one in first["series"]] == ["loss"]
    query = {"limit": 1, "cursor": first["next_cursor"]}
    second = await client.ok("GET", f"{RUNS}/{run_id}/metrics", params=query)
    assert [one["key"] for one in second["series"]] == ["nan"]
    assert second["next_cursor"] is None
    found = await client.ok("GET", f"{RUNS}/{run_id}/metrics", params={"prefix": "n"})
    assert [one["key"] for one in found["series"]] == ["nan"]


async def test_the_names_of_all_series_sorted(client: CheckedClient):
    run_id, other = await client.new_run(), await client.new_run()
    assert await client.ok("GET", f"{RUNS}/{run_id}/metric-keys") == {"run_id": run_id, "keys": []}
    names = ["ключ", "b", "a/b", "a b", "B", "\U0001f600", "\uffee"]
    body = {"metrics": dict.fromkeys(names, 1)}
    await client.ok("POST", f"{RUNS}/{run_id}/log-metrics", json=body)
    await log(client, other, "elsewhere", [(0, START, 1.0)])
    found = await client.ok("GET", f"{RUNS}/{run_id}/metric-keys")
    assert found["keys"] == sorted(names)
    listed = await client.ok("GET", f"{RUNS}/{run_id}/metrics")
    assert found["keys"] == [one["key"] for one in listed["series"]]


@pytest.mark.parametrize("key", ["a/b", "ключ", "a b", "100%", "a?b#c", "x" * 250, "/", "a/"])
async def test_any_key_is_reached_percent_encoded(client: CheckedClient, key: str):
    from urllib.parse import quote

    run_id = await client.new_run()
    await log(client, run_id, key, [(0, START, 1.0)])
    for safe in ("", "/"):
        url = f"{RUNS}/{run_id}/metrics/{quote(key, safe=safe)}"
        history = await client.ok("GET", url)
        assert (history["key"], objects(history)) == (key, [(0, START, 1.0)])


async def test_a_history_is_paged_without_gap_or_repeat(client: CheckedClient):
    run_id = await client.new_run()
    points = wave(2_500)
    await log(client, run_id, "loss", points[::-1])
    for accept_columns in (False, True):
        seen: list[Point] = []
        cursor = None
        while True:
            query = {"limit": 1_000} | ({"cursor": cursor} if cursor else {})
            url = f"{RUNS}/{run_id}/metrics/loss"
            if accept_columns:
                [page] = (await columns(client, "GET", url, params=query)).series
                seen += unpack(page)
                cursor = page.next_cursor
            else:
                history = await client.ok("GET", url, params=query)
                seen += objects(history)
                cursor = history["next_cursor"]
            if cursor is None:
                break
        assert seen == points


async def test_a_range_of_steps_has_both_its_ends(client: CheckedClient):
    run_id = await client.new_run()
    await log(client, run_id, "loss", wave(100))
    url = f"{RUNS}/{run_id}/metrics/loss"
    history = await client.ok("GET", url, params={"start_step": 10, "end_step": 12})
    assert [p["step"] for p in history["points"]] == [10, 11, 12]
    empty = await client.ok("GET", url, params={"start_step": 12, "end_step": 10})
    assert empty["points"] == []


async def test_a_large_page_is_exact(client: CheckedClient):
    run_id = await client.new_run()
    points = wave(20_000)
    points[7] = (7, START + 7, math.inf)
    await log(client, run_id, "loss", points)
    history = await client.ok("GET", f"{RUNS}/{run_id}/metrics/loss", params={"limit": 100_000})
    assert objects(history) == points
    assert history["points"][7]["value"] == "Infinity"


async def test_a_chart_keeps_every_extreme_and_each_bucket_is_exact(client: CheckedClient):
    run_id = await client.new_run()
    points = wave(5_000)
    points[1_234] = (1_234, START + 1_234, 99.0)
    points[4_321] = (4_321, START + 4_321, -99.0)
    points[17] = (17, START + 17, math.nan)
    await log(client, run_id, "loss", points)
    url = f"{RUNS}/{run_id}/metrics/loss"
    chart = await client.ok("GET", url, params={"max_points": 200})
    assert (chart["sampled"], chart["count"], chart["next_cursor"]) == (True, 5_000, None)
    drawn = objects(chart)
    assert len(drawn) <= 200
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(points)
    assert (99.0 in {p[2] for p in drawn}, -99.0 in {p[2] for p in drawn}) == (True, True)
    start = 0
    for bucket in chart["buckets"]:
        inside = points[start : start + bucket["count"]]
        start += bucket["count"]
        numbers = [p for p in inside if not math.isnan(p[2])]
        low, high = min(p[2] for p in numbers), max(p[2] for p in numbers)
        assert (bucket["min"]["value"], bucket["max"]["value"]) == (low, high)
        assert (bucket["first"]["step"], bucket["last"]["step"]) == (inside[0][0], inside[-1][0])
    assert start == 5_000
    [sampled] = (await columns(client, "GET", url, params={"max_points": 200})).series
    assert sampled.sampled
    counts = struct.unpack(f"<{len(sampled.counts) // 8}q", sampled.counts)
    assert list(counts) == [bucket["count"] for bucket in chart["buckets"]]
    assert len(unpack(sampled)) == 4 * len(counts)


async def test_a_bucket_of_nothing_but_nan_has_no_extremes(client: CheckedClient):
    run_id = await client.new_run()
    await log(client, run_id, "loss", [(i, START, math.nan) for i in range(1_000)])
    chart = await client.ok("GET", f"{RUNS}/{run_id}/metrics/loss", params={"max_points": 8})
    assert chart["buckets"]
    for bucket in chart["buckets"]:
        assert (bucket["min"], bucket["max"]) == (None, None)
        assert bucket["first"]["value"] == "NaN"


async def test_a_short_series_is_no_chart_but_itself(client: CheckedClient):
    run_id = await client.new_run()
    await log(client, run_id, "loss", wave(10))
    chart = await client.ok("GET", f"{RUNS}/{run_id}/metrics/loss", params={"max_points": 100})
    assert (chart["sampled"], chart["count"]) == (False, 10)
    assert "buckets" not in chart
    assert objects(chart) == wave(10)


async def test_an_unknown_key_of_a_known_run_has_no_points(client: CheckedClient):
    run_id = await client.new_run()
    history = await client.ok("GET", f"{RUNS}/{run_id}/metrics/none")
    assert history == {"run_id": run_id, "key": "none", "points": [], "next_cursor": None}
    chart = await client.ok("GET", f"{RUNS}/{run_id}/metrics/none", params={"max_points": 9})
    assert (chart["points"], chart["sampled"], chart["count"]) == ([], False, 0)


async def test_many_series_at_once(client: CheckedClient):
    first, second = await client.new_run(tenant="acme"), await client.new_run(tenant="acme")
    await log(client, first, "a", wave(600))
    await log(client, first, "b", wave(3))
    await log(client, second, "a", wave(5))
    body: dict[str, Any] = {"run_ids": [first, second, first], "keys": ["a", "b", "none", "a"]}
    reply = await client.ok("POST", f"{RUNS}/series", json=body)
    found = {(one["run_id"], one["key"]): objects(one) for one in reply["series"]}
    expected = {(first, "a"): wave(600), (first, "b"): wave(3), (second, "a"): wave(5)}
    assert found == expected
    assert len(reply["series"]) == 3
    packed = await columns(client, "POST", f"{RUNS}/series", json=body)
    assert {(one.run_id, one.key): unpack(one) for one in packed.series} == expected
    reply = await client.ok("POST", f"{RUNS}/series", json=body | {"max_points": 16})
    sampled = {(one["run_id"], one["key"]): one["sampled"] for one in reply["series"]}
    assert sampled == {(first, "a"): True, (first, "b"): False, (second, "a"): False}
    body |= {"start_step": 1, "end_step": 1}
    reply = await client.ok("POST", f"{RUNS}/series", json=body)
    assert [p["step"] for one in reply["series"] for p in one["points"]] == [1, 1, 1]


async def test_many_series_of_no_run_are_none(client: CheckedClient):
    reply = await client.ok("POST", f"{RUNS}/series", json={"run_ids": [], "keys": ["a"]})
    assert reply == {"series": []}


async def test_series_of_two_tenants_are_never_mixed(client: CheckedClient):
    mine, other = await client.new_run(tenant="mine"), await client.new_run(tenant="other")
    for run_ids in ([mine, other], [other, mine]):
        await client.refused(
            404, "POST", f"{RUNS}/series", json={"run_ids": run_ids, "keys": ["a"]}
        )
    await client.refused(
        404,
        "POST",
        f"{RUNS}/series",
        json={"run_ids": [mine], "keys": ["a"]},
        headers={"X-Tenant-ID": "other"},
    )


async def test_more_points_than_a_reply_may_hold_are_refused_not_cut(
    client: CheckedClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(schema, "MAX_POINTS_PER_REPLY", 100)
    run_id = await client.new_run()
    await log(client, run_id, "a", wave(60))
    await log(client, run_id, "b", wave(41))
    body = {"run_ids": [run_id], "keys": ["a", "b"]}
    for accept in (wire.JSON, wire.COLUMNS):
        problem = await client.refused(
            422, "POST", f"{RUNS}/series", json=body, headers={"Accept": accept}
        )
        assert problem.errors[0].path == "max_points"
    await client.refused(422, "POST", f"{RUNS}/series", json=body | {"max_points": 99})
    body["keys"] = ["a"]
    assert len((await client.ok("POST", f"{RUNS}/series", json=body))["series"][0]["points"]) == 60


async def test_too_many_pairs_are_refused(client: CheckedClient):
    run_id = await client.new_run()
    keys = [f"k{i}" for i in range(schema.MAX_SERIES_PER_REQUEST + 1)]
    problem = await client.refused(
        422, "POST", f"{RUNS}/series", json={"run_ids": [run_id], "keys": keys}
    )
    assert problem.errors[0].path == "keys"
