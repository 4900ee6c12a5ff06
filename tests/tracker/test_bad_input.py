"""Bad input of every kind: a problem document that names the field, and nothing written."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stepwell import ids, wire
from stepwell_tracker import schema
from tests.tracker.checked import BASE, RUNS, CheckedClient

UNKNOWN_RUN = ids.new_run_id("default")
UNKNOWN_EXPERIMENT = "00000000-0000-8000-8000-000000000000"
LONG = "x" * 251
COLUMNS = {"Content-Type": wire.COLUMNS}


def metric(**fields: object) -> dict[str, Any]:
    return {"json": {"metrics": [{"key": "good", "value": 1}, {"key": "a", "value": 1} | fields]}}


def param(**fields: object) -> dict[str, Any]:
    return {"json": {"params": [{"key": "a", "value": "1"} | fields]}}


def raw(body: bytes) -> dict[str, Any]:
    return {"content": body, "headers": {"Content-Type": wire.JSON}}


def packed(value: object) -> dict[str, Any]:
    return {"content": msgspec.msgpack.encode(value), "headers": COLUMNS}


# what is sent to a run's log-batch, the status, the field that the problem names
LOG_BATCH: dict[str, tuple[dict[str, Any], int, str | None]] = {
    "malformed": (raw(b'{"metrics":['), 400, None),
    "no body": (raw(b""), 400, None),
    "not UTF-8": (raw(b'{"tags":[{"key":"\xff","value":"1"}]}'), 400, None),
    "half a surrogate pair": (
        raw(b'{"tags":[{"key":"\\ud800","value":"1"}]}'),
        422,
        "tags[0].key",
    ),
    "nested too deeply": (raw(b'{"x":' + b"[" * 100_000), 400, None),
    "bare NaN": (raw(b'{"metrics":[{"key":"a","value":NaN}]}'), 400, None),
    "bare Infinity": (raw(b'{"metrics":[{"key":"a","value":-Infinity}]}'), 400, None),
    "a list": (raw(b"[]"), 422, None),
    "null": (raw(b"null"), 422, None),
    "metrics as an object": (raw(b'{"metrics":{}}'), 422, "metrics"),
    "metrics null": (raw(b'{"metrics":null}'), 422, "metrics"),
    "no key": (raw(b'{"metrics":[{"value":1}]}'), 422, "metrics[0].key"),
    "no value": (raw(b'{"metrics":[{"key":"a"}]}'), 422, "metrics[0].value"),
    "an infinite number": (
        raw(b'{"metrics":[{"key":"a","value":1e999}]}'),
        422,
        "metrics[0].value",
    ),
    "value null": (metric(value=None), 422, "metrics[1].value"),
    "value true": (metric(value=True), 422, "metrics[1].value"),
    "value nan in lower case": (metric(value="nan"), 422, "metrics[1].value"),
    "value inf": (metric(value="inf"), 422, "metrics[1].value"),
    "value +Infinity": (metric(value="+Infinity"), 422, "metrics[1].value"),
    "value as a numeral": (metric(value="1.0"), 422, "metrics[1].value"),
    "empty key": (metric(key=""), 422, "metrics[1].key"),
    "long key": (metric(key=LONG), 422, "metrics[1].key"),
    "key with NUL": (metric(key="a\0"), 422, "metrics[1].key"),
    "key with a newline": (metric(key="a\nb"), 422, "metrics[1].key"),
    "key with C1": (metric(key="a\x85"), 422, "metrics[1].key"),
    "key a number": (metric(key=1), 422, "metrics[1].key"),
    "step beyond int64": (metric(step=2**63), 422, "metrics[1].step"),
    "step below int64": (metric(step=-(2**63) - 1), 422, "metrics[1].step"),
    "step a float": (metric(step=3.0), 422, "metrics[1].step"),
    "step null": (metric(step=None), 422, "metrics[1].step"),
    "step a text": (metric(step="3"), 422, "metrics[1].step"),
    "step true": (metric(step=True), 422, "metrics[1].step"),
    "timestamp beyond int64": (metric(timestamp=2**63), 422, "metrics[1].timestamp"),
    "timestamp a float": (metric(timestamp=1.5), 422, "metrics[1].timestamp"),
    "timestamp null": (metric(timestamp=None), 422, "metrics[1].timestamp"),
    "param null": (param(value=None), 422, "params[0].value"),
    "param a list": (param(value=[1]), 422, "params[0].value"),
    "param too long": (param(value="x" * 8_001), 422, "params[0].value"),
    "param with NUL": (param(value="\0"), 422, "params[0].value"),
    "param with a long key": (param(key=LONG), 422, "params[0].key"),
    "param twice": (
        {"json": {"params": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}},
        422,
        "params[1].key",
    ),
    "tag with an empty key": ({"json": {"tags": [{"key": "", "value": "1"}]}}, 422, "tags[0].key"),
    "tag without a value": ({"json": {"tags": [{"key": "a"}]}}, 422, "tags[0].value"),
    "rank below zero": ({"json": {"rank": -1}}, 422, "rank"),
    "rank beyond int64": ({"json": {"rank": 2**63}}, 422, "rank"),
    "columns: malformed": ({"content": b"\x92\x01", "headers": COLUMNS}, 400, None),
    "columns: JSON": ({"content": b"{}", "headers": COLUMNS}, 422, None),
    "columns: format": (packed([2, {"new": "layout"}]), 422, "format"),
    "columns: format of a text": (packed(["1"]), 422, "format"),
    "columns: no multiple of 8": (packed([1, [["a", b"1", b"1", b"1"]]]), 422, "series[0].steps"),
    "columns: unequal": (packed([1, [["a", b"1" * 8, b"1" * 16, b"1" * 8]]]), 422, "series[0]"),
    "columns: no bytes": (packed([1, [["a", "", b"", b""]]]), 422, "series[0].steps"),
    "columns: empty key": (packed([1, [["", b"", b"", b""]]]), 422, "series[0].key"),
    "columns: param too long": (packed([1, [], {"a": "x" * 8_001}]), 422, "params.a"),
    "form": (
        {"content": b"a=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        415,
        None,
    ),
    "plain text": ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, None),
    "gzip": (
        {"content": b"{}", "headers": {"Content-Type": wire.JSON, "Content-Encoding": "gzip"}},
        415,
        None,
    ),
}


async def state_of(client: CheckedClient, run_id: str) -> object:
    run = await client.ok("GET", f"{RUNS}/{run_id}")
    del run["heartbeat_at"]
    return run, await client.ok("GET", f"{RUNS}/{run_id}/metrics")


@pytest.mark.parametrize("name", LOG_BATCH)
async def test_log_batch(client: CheckedClient, name: str):
    sent, status, path = LOG_BATCH[name]
    run_id = await client.new_run()
    before = await state_of(client, run_id)
    problem = await client.refused(status, "POST", f"{RUNS}/{run_id}/log-batch", **sent)
    assert [error.path for error in problem.errors] == ([] if path is None else [path])
    assert await state_of(client, run_id) == before


# a call of a run, its body or query, and the field that its 422 names
OTHERS: list[tuple[str, str, object, str]] = [
    ("POST", "/log-metrics", {"metrics": {"a": "x"}}, "metrics.a"),
    ("POST", "/log-metrics", {"metrics": {"a": None}}, "metrics.a"),
    ("POST", "/log-metrics", {"metrics": {"a": 1}, "step": 2**63}, "step"),
    ("POST", "/log-metrics", {"metrics": {"a": 1}, "timestamp": 2**63}, "timestamp"),
    ("POST", "/log-metrics", {"metrics": {"a": 1}, "step": 1.5}, "step"),
    ("POST", "/log-metrics", {"metrics": {LONG: 1}}, f"metrics.{LONG}"),
    ("POST", "/log-metrics", {"step": 1}, "metrics"),
    ("POST", "/log-params", {"params": {"a": None}}, "params.a"),
    ("POST", "/log-params", {"params": {"": 1}}, "params."),
    ("POST", "/log-params", {"params": {"a": "x" * 8_001}}, "params.a"),
    ("POST", "/log-params", {}, "params"),
    ("PATCH", "", {"status": "done"}, "status"),
    ("PATCH", "", {"status": "scheduled"}, "status"),
    ("PATCH", "", {"status": None}, "status"),
    ("PATCH", "", {"status": "running", "end_time": 5}, "end_time"),
    ("PATCH", "", {"end_time": 2**63}, "end_time"),
    ("PATCH", "", {"name": ""}, "name"),
    ("PATCH", "", {"name": "x" * 501}, "name"),
    ("PATCH", "", {"name": "a\0"}, "name"),
    ("PATCH", "", {"tags": {"a\n": "1"}}, "tags.a\n"),
    ("PATCH", "", {"tags": {"a": 1}}, "tags.a"),
    ("POST", "/end?status=done", None, "status"),
    ("POST", "/end?status=scheduled", None, "status"),
    ("POST", "/end?status=finished&status=failed", None, "status"),
    ("POST", "/end?end_time=soon", None, "end_time"),
    ("POST", "/end?end_time=9223372036854775808", None, "end_time"),
    ("GET", "/metrics?limit=0", None, "limit"),
    ("GET", "/metrics?prefix=%00", None, "prefix"),
    ("GET", "/metrics/a?limit=100001", None, "limit"),
    ("GET", "/metrics/a?limit=x", None, "limit"),
    ("GET", "/metrics/a?max_points=3", None, "max_points"),
    ("GET", "/metrics/a?start_step=1.5", None, "start_step"),
    ("GET", "/metrics/a?start_step=9223372036854775808", None, "start_step"),
    ("GET", "/metrics/a?max_points=9&cursor=abc", None, "cursor"),
    ("GET", "/metrics/" + LONG, None, "key"),
    ("GET", "/metrics/", None, "key"),
    ("GET", "/metrics/a%0A", None, "key"),
    ("GET", "/metrics/a%00", None, "key"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), OTHERS)
async def test_calls_of_a_run(
    client: CheckedClient, method: str, path: str, body: object, field: str
):
    run_id = await client.new_run()
    before = await state_of(client, run_id)
    problem = await client.refused(422, method, f"{RUNS}/{run_id}{path}", json=body)
    assert [error.path for error in problem.errors] == [field]
    assert await state_of(client, run_id) == before


@pytest.mark.parametrize(
    ("url", "body", "field"),
    [
        (BASE, {}, "name"),
        (BASE, {"name": ""}, "name"),
        (BASE, {"name": "x" * 501}, "name"),
        (BASE, {"name": "a\0"}, "name"),
        (BASE, {"name": "a", "description": "x" * 20_001}, "description"),
        (BASE, {"name": "a", "description": "\0"}, "description"),
        (BASE, {"name": "a", "tags": {"k": 1}}, "tags.k"),
        (BASE, {"name": "a", "tags": {"k\0": "1"}}, "tags.k\0"),
        (BASE, {"name": "a", "tags": ["k"]}, "tags"),
        (RUNS, {"experiment_id": UNKNOWN_EXPERIMENT, "experiment_name": "a"}, "experiment_name"),
        (RUNS, {"experiment_name": ""}, "experiment_name"),
        (RUNS, {"experiment_name": "\0"}, "experiment_name"),
        (RUNS, {"run_id": "nonsense"}, "run_id"),
        (RUNS, {"parent_run_id": "nonsense"}, "parent_run_id"),
        (RUNS, {"start_time": 2**63}, "start_time"),
        (RUNS, {"start_time": 1.5}, "start_time"),
        (RUNS, {"user_id": "\0"}, "user_id"),
        (RUNS, {"name": "x" * 501}, "name"),
        (RUNS, {"params": {"a": "x" * 8_001}}, "params.a"),
        (RUNS, {"tags": {LONG: "1"}}, f"tags.{LONG}"),
    ],
)
async def test_creation(client: CheckedClient, data: Path, url: str, body: object, field: str):
    problem = await client.refused(422, "POST", url, json=body)
    assert [error.path for error in problem.errors] == [field]
    assert list((data / "tenants").iterdir()) == [], "not even the tenant was made"


@pytest.mark.parametrize(
    ("url", "status", "field"),
    [
        (f"{BASE}?limit=0", 422, "limit"),
        (f"{BASE}?limit=1001", 422, "limit"),
        (f"{BASE}?offset=-1", 422, "offset"),
        (f"{BASE}?lifecycle=gone", 422, "lifecycle"),
        (f"{BASE}?cursor=damaged", 400, "cursor"),
        (f"{RUNS}?limit=0", 422, "limit"),
        (f"{RUNS}?limit=1001", 422, "limit"),
        (f"{RUNS}?limit=ten", 422, "limit"),
        (f"{RUNS}?offset=-1", 422, "offset"),
        (f"{RUNS}?status=done", 422, "status[0]"),
        (f"{RUNS}?status=running&status=done", 422, "status[1]"),
        (f"{RUNS}?total=perhaps", 422, "total"),
        (f"{RUNS}?limit=1&limit=1", 422, "limit"),
        (f"{RUNS}?filter=metrics.loss+%3C%3C+1", 422, "filter"),
        (f"{RUNS}?order_by=nonsense", 422, "order_by"),
        (f"{RUNS}?cursor=damaged", 400, "cursor"),
        (f"{RUNS}?cursor=%00", 400, "cursor"),
    ],
)
async def test_lists(client: CheckedClient, url: str, status: int, field: str):
    problem = await client.refused(status, "GET", url)
    assert [error.path for error in problem.errors] == [field]


async def test_damaged_cursors_of_a_run_are_bad_requests(client: CheckedClient):
    run_id = await client.new_run()
    for path in ("metrics", "metrics/a"):
        for cursor in ("x", "AAAA", "x" * 500, "%ff", "%00", ""):
            url = f"{RUNS}/{run_id}/{path}?cursor={cursor}"
            problem = await client.refused(400, "GET", url)
            assert [error.path for error in problem.errors] == ["cursor"]


@pytest.mark.parametrize(
    "run_id", [UNKNOWN_RUN, "nonsense", "0" * 31, "0" * 33, "%2e%2e", "%00", "0" * 32 + "%0A"]
)
async def test_unknown_runs_come_before_any_body(client: CheckedClient, run_id: str):
    one = f"{RUNS}/{run_id}"
    for method, path in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/restore"),
        ("POST", "/stop"),
        ("POST", "/end?status=nonsense"),
        ("POST", "/log-batch"),
        ("POST", "/log-metrics"),
        ("POST", "/log-params"),
        ("GET", "/metrics?limit=nonsense"),
        ("GET", "/metrics/a"),
    ]:
        await client.refused(404, method, one + path, content=b"{malformed")


async def test_a_body_over_the_limit_is_refused_before_it_is_read(client: CheckedClient):
    run_id = await client.new_run()
    url = f"{RUNS}/{run_id}/log-batch"
    response = await client.post(url, content=b" " * (schema.MAX_BODY_BYTES + 1))
    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert str(schema.MAX_BODY_BYTES) in response.json()["detail"]


async def test_an_endless_chunked_body_is_cut_off_at_the_limit(client: CheckedClient):
    run_id = await client.new_run()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1_000_000

    response = await client.post(f"{RUNS}/{run_id}/log-batch", content=endless())
    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert sent <= schema.MAX_BODY_BYTES // 1_000_000 + 2
