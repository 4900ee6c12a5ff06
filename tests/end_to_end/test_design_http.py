"""The table of DESIGN section 5, row by row, with its own examples, over a real socket."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
import urllib3

from stepwell import wire
from stepwell.ids import new_run_id
from tests.end_to_end.conftest import Http
from tests.serving import Served

EXPERIMENTS = "/api/v1/experiments"
RUNS = f"{EXPERIMENTS}/runs"
RUN_FIELDS = {
    "run_id", "experiment_id", "name", "description", "user_id", "parent_run_id", "status", "tags",
    "params", "metrics", "start_time", "end_time", "duration_seconds", "heartbeat_at", "lifecycle",
}  # fmt: skip


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """A tenant for each test, so that lists hold nothing else."""
    name: str = request.node.originalname.replace("_", "-")
    return name[:63]


@pytest.fixture
def run(http: Http, tenant: str) -> str:
    body = {"experiment_name": "fraud-detection-v3", "name": "xgboost-baseline"}
    run_id: str = http.ok("POST", RUNS, body, tenant=tenant)["run_id"]
    return run_id


def test_experiments_are_created_listed_changed_deleted_and_restored(http: Http, tenant: str):
    body = {"name": "fraud-detection-v3", "description": "cards", "tags": {"team": "risk"}}
    status, made = http("POST", EXPERIMENTS, body, tenant=tenant)
    assert status == 201
    assert set(made) == {
        "experiment_id", "number", "name", "description", "tags", "lifecycle", "created_at",
        "updated_at", "run_count",
    }  # fmt: skip
    status, problem = http("POST", EXPERIMENTS, body, tenant=tenant)
    assert (status, problem["experiment_id"]) == (409, made["experiment_id"])
    one = f"{EXPERIMENTS}/{made['experiment_id']}"
    names = {e["name"] for e in http.ok("GET", EXPERIMENTS, tenant=tenant)["experiments"]}
    assert names == {"Default", "fraud-detection-v3"}
    assert http.ok("GET", one.replace("-", ""), tenant=tenant)["tags"] == {"team": "risk"}
    changed = http.ok("PATCH", one, {"description": "", "tags": {"team": None}}, tenant=tenant)
    assert (changed["description"], changed["tags"]) == ("", {})
    http.ok("DELETE", one, tenant=tenant)
    assert http.ok("GET", one, tenant=tenant)["lifecycle"] == "deleted"
    http.ok("POST", f"{one}/restore", tenant=tenant)
    assert http.ok("GET", one, tenant=tenant)["lifecycle"] == "active"


def test_a_run_made_offline_and_made_again_is_one_run(http: Http):
    run_id = new_run_id("acme-corp", 1707723600000, random=15)
    assert run_id[:-1] + "0" == "018d9c4230808f13be8df00000000000"  # the vector of DESIGN
    body = {"experiment_name": "fraud-detection-v3", "name": "xgboost-baseline",
            "user_id": "alice@acme.com", "run_id": run_id, "start_time": 1707723600000,
            "tags": {"stage": "baseline"}, "params": {"max_depth": 6}}  # fmt: skip
    status, made = http("POST", RUNS, body, tenant="acme-corp")
    again, same = http("POST", RUNS, body, tenant="Acme-Corp")
    assert status == 201
    assert again == 200
    assert made["run_id"] == same["run_id"] == run_id
    assert set(made) == RUN_FIELDS
    assert made["params"] == {"max_depth": "6"}
    assert http.ok("GET", f"{RUNS}/{run_id}")["user_id"] == "alice@acme.com"  # no header
    assert http("GET", f"{RUNS}/{run_id}", tenant="other")[0] == 404
    assert http("POST", f"{RUNS}/{run_id}/end", tenant="other")[0] == 404


def test_log_metrics_params_and_batch_as_documented(http: Http, run: str):
    one = f"{RUNS}/{run}"
    body: Any = {
        "metrics": {"train_loss": 0.342, "val_loss": 0.381}, "step": 15, "timestamp": 1707723600000,
    }  # fmt: skip
    assert http("POST", f"{one}/log-metrics", body) == (200, {"run_id": run, "accepted": 2})
    body = {"params": {"learning_rate": "0.01", "max_depth": 6, "bagging": True}}
    assert http("POST", f"{one}/log-params", body) == (200, {"run_id": run, "accepted": 3})
    assert http("POST", f"{one}/log-params", {"params": {"max_depth": 7}})[0] == 409
    body = {
        "metrics": [{"key": "train_loss", "value": 0.3, "step": 16, "timestamp": 1707723601000}],
        "params": [{"key": "booster", "value": "gbtree"}],
        "tags": [{"key": "stage", "value": "baseline"}],
    }
    accepted = {"metrics": 1, "params": 1, "tags": 1}
    for _ in range(2):  # with timestamps it may be repeated blindly
        answer = http.ok("POST", f"{one}/log-batch", body)
        assert answer == {"run_id": run, "accepted": accepted}
    shown = http.ok("GET", one)
    assert shown["metrics"] == {"train_loss": 0.3, "val_loss": 0.381}
    assert shown["params"] == {
        "learning_rate": "0.01",
        "max_depth": "6",
        "bagging": "true",
        "booster": "gbtree",
    }
    assert shown["tags"] == {"stage": "baseline"}
    history = http.ok("GET", f"{one}/metrics/train_loss")
    assert history == {
        "run_id": run,
        "key": "train_loss",
        "points": [
            {"step": 15, "timestamp": 1707723600000, "value": 0.342},
            {"step": 16, "timestamp": 1707723601000, "value": 0.3},
        ],
        "next_cursor": None,
    }


def test_values_that_are_not_finite_come_back_as_they_went(http: Http, run: str):
    values = ["NaN", "Infinity", "-Infinity", -0.0, 5e-324, 1.7976931348623157e308]
    metrics = [{"key": "x", "value": v, "step": i, "timestamp": i} for i, v in enumerate(values)]
    http.ok("POST", f"{RUNS}/{run}/log-batch", {"metrics": metrics})
    points = http.ok("GET", f"{RUNS}/{run}/metrics/x")["points"]
    assert list(map(repr, values)) == [repr(point["value"]) for point in points]


def test_the_columnar_form_in_and_out(server: Served, http: Http, run: str):
    steps, times, values = [0, 1, 2], [10, 20, 30], [0.5, float("inf"), 0.25]
    columns = [struct.pack("<3q", *steps), struct.pack("<3q", *times), struct.pack("<3d", *values)]
    body = msgspec.msgpack.encode([1, [["val_loss", *columns]], {"p": "1"}, {"t": "2"}])
    reply = urllib3.request(
        "POST", f"{server.url}{RUNS}/{run}/log-batch", body=body, retries=False,
        headers={"Content-Type": wire.COLUMNS},
    )  # fmt: skip
    accepted = {"metrics": 3, "params": 1, "tags": 1}
    assert reply.json() == {"run_id": run, "accepted": accepted}
    reply = urllib3.request(
        "GET", f"{server.url}{RUNS}/{run}/metrics/val_loss", retries=False,
        headers={"Accept": wire.COLUMNS},
    )  # fmt: skip
    answer = msgspec.msgpack.decode(reply.data, type=wire.ColumnarReply)
    series = answer.series[0]
    assert [series.steps, series.timestamps, series.values] == columns


def test_a_run_ends_is_resumed_and_ends_otherwise(http: Http, tenant: str):
    body = {"start_time": 1707723600000}
    run = http.ok("POST", RUNS, body, tenant=tenant)["run_id"]
    one = f"{RUNS}/{run}"
    answer = http.ok("POST", f"{one}/end?status=finished&end_time=1707723942500")
    assert answer == {
        "message": "Run ended", "run_id": run, "status": "finished", "duration_seconds": 342.5,
    }  # fmt: skip
    assert http.ok("POST", f"{one}/end")["duration_seconds"] == 342.5
    assert http.ok("PATCH", one, {"status": "running"})["end_time"] is None
    assert http.ok("POST", f"{one}/end?status=failed")["status"] == "failed"
    http.ok("POST", f"{one}/log-metrics", {"metrics": {"late": 1}})  # late data is data
    http.ok("DELETE", one)
    assert http("POST", f"{one}/log-metrics", {"metrics": {"late": 2}})[0] == 409
    http.ok("POST", f"{one}/restore")
    assert http.ok("GET", one)["metrics"] == {"late": 1}


def test_runs_are_listed_filtered_ordered_and_paged(http: Http, tenant: str):
    for index in range(5):
        body = {"name": f"run {index}", "params": {"depth": index}, "start_time": 1000 + index}
        run = http.ok("POST", RUNS, body, tenant=tenant)["run_id"]
        http.ok("POST", f"{RUNS}/{run}/log-metrics", {"metrics": {"loss": index / 10}})
    page = http.ok("GET", f"{RUNS}?limit=2", tenant=tenant)
    assert [run["name"] for run in page["runs"]] == ["run 4", "run 3"]
    assert (page["total"], page["limit"], page["offset"]) == (5, 2, 0)
    page = http.ok("GET", f"{RUNS}?limit=2&cursor={page['next_cursor']}", tenant=tenant)
    assert [run["name"] for run in page["runs"]] == ["run 2", "run 1"]
    query = "filter=metrics.loss%20%3C%200.3%20and%20params.depth%20%3E%200"
    page = http.ok("GET", f"{RUNS}?{query}&order_by=metrics.loss%20ASC&total=false", tenant=tenant)
    assert [run["name"] for run in page["runs"]] == ["run 1", "run 2"]
    assert "total" not in page
    assert http("GET", f"{RUNS}?limit=1001", tenant=tenant)[0] == 422
    assert http("GET", f"{RUNS}?cursor=damaged", tenant=tenant)[0] == 400
    assert http("GET", f"{RUNS}?filter=metrics.", tenant=tenant)[0] == 422


def test_series_history_buckets_and_charts(http: Http, run: str):
    metrics = [
        {"key": "loss", "value": 100.0 if i == 777 else i % 10, "step": i, "timestamp": i}
        for i in range(3000)
    ]
    http.ok("POST", f"{RUNS}/{run}/log-batch", {"metrics": metrics})
    series = http.ok("GET", f"{RUNS}/{run}/metrics")["series"]
    assert [(s["key"], s["count"], s["max"], s["max_step"]) for s in series] == [
        ("loss", 3000, 100.0, 777)
    ]
    page = http.ok("GET", f"{RUNS}/{run}/metrics/loss?start_step=10&end_step=2000&limit=100")
    assert [page["points"][0]["step"], len(page["points"])] == [10, 100]
    following = f"{RUNS}/{run}/metrics/loss?start_step=10&end_step=2000&limit=100"
    page = http.ok("GET", f"{following}&cursor={page['next_cursor']}")
    assert page["points"][0]["step"] == 110
    chart = http.ok("GET", f"{RUNS}/{run}/metrics/loss?max_points=40")
    assert chart["sampled"] is True
    assert len(chart["points"]) <= 40
    assert max(point["value"] for point in chart["points"]) == 100.0
    body = {"run_ids": [run], "keys": ["loss", "absent"], "max_points": 40}
    found = http.ok("POST", f"{RUNS}/series", body)["series"]
    assert [(one["key"], one["count"]) for one in found] == [("loss", 3000)]
    assert http.ok("GET", f"{RUNS}/{run}/metrics/absent")["points"] == []


def test_artifacts_up_down_ranged_listed_and_removed(server: Served, http: Http, run: str):
    one = f"{RUNS}/{run}/artifacts"
    body = bytes(range(256)) * 1000
    made = http.ok("PUT", f"{one}/model/weights.bin", body)
    assert (made["path"], made["size"]) == ("model/weights.bin", len(body))
    assert http("GET", f"{one}/model/weights.bin")[1] == body
    part = urllib3.request(
        "GET", f"{server.url}{one}/model/weights.bin", headers={"Range": "bytes=10-19"}
    )
    assert (part.status, part.data) == (206, body[10:20])
    listed = http.ok("GET", one)["artifacts"]
    assert [(a["path"], a["is_dir"]) for a in listed] == [("model", True)]
    listed = http.ok("GET", f"{one}?path=model")["artifacts"]
    assert [(a["path"], a["size"]) for a in listed] == [("model/weights.bin", len(body))]
    assert http("GET", f"{one}/model")[0] == 404
    assert http("PUT", f"{one}/model", b"x")[0] == 409
    assert http("PUT", f"{one}/model/weights.bin/x", b"x")[0] == 409
    for climbing in ("..%2F..%2Fx", "%2e%2e/x", "a/../../x", "a%00b"):
        assert http("PUT", f"{one}/{climbing}", b"x")[0] in (400, 404, 422)
    http.ok("DELETE", f"{one}/model/weights.bin")
    assert http("GET", f"{one}/model/weights.bin")[0] == 404


def test_console_lines_are_appended_and_tailed(http: Http, run: str):
    lines = [
        {"stream": "stdout", "timestamp": index, "text": f"line {index}"} for index in range(5)
    ]
    http.ok("POST", f"{RUNS}/{run}/console", {"lines": lines})
    page = http.ok("GET", f"{RUNS}/{run}/console?tail=2")
    assert [line["text"] for line in page["lines"]] == ["line 3", "line 4"]
    assert page["total"] == 5


def test_events_tell_what_changed_and_stop_reaches_the_writer(server: Served, http: Http, run: str):
    stream = urllib3.request(
        "GET", f"{server.url}{RUNS}/{run}/events", preload_content=False, retries=False
    )
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    chunks = stream.stream(65_536)
    text = next(chunks)
    answer = http.ok("POST", f"{RUNS}/{run}/stop")
    assert answer["stop_requested"] is True
    reply = http.ok("POST", f"{RUNS}/{run}/log-metrics", {"metrics": {"loss": 1}})
    assert reply == {"run_id": run, "accepted": 1, "stop_requested": True}
    while b"event: points" not in text:
        text += next(chunks)
    assert b"event: stop" in text
    stream.close()


def test_health_ready_metrics_limits_and_openapi(http: Http):
    assert http.ok("GET", "/health")["status"] == "ok"
    assert http("GET", "/ready")[0] == 200
    assert b"# TYPE" in http("GET", "/metrics")[1]
    limits = http.ok("GET", "/api/v1/limits")
    assert (limits["body_bytes"], limits["key_chars"]) == (32 * 1024 * 1024, 250)
    document = http.ok("GET", "/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert f"{RUNS}/{{run_id}}/log-batch" in document["paths"]


def test_an_unknown_tenant_reads_empty_and_is_not_made(http: Http):
    assert http.ok("GET", RUNS, tenant="nobody")["total"] == 0
    found = http.ok("GET", EXPERIMENTS, tenant="nobody")["experiments"]
    assert [one["name"] for one in found] == ["Default"]
    assert http("GET", f"{RUNS}/{'0' * 32}", tenant="nobody")[0] == 404
    assert http("GET", RUNS, tenant="../etc")[0] == 400
