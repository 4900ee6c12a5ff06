"""Deletion for good against a real server: by HTTP, by `stepwell gc`, and what a writer is told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepwell import ExperimentTracker
from stepwell.folders import folders
from stepwell.ids import new_run_id
from stepwell_tracker.cli_client import BASE
from tests.end_to_end.conftest import Http
from tests.serving import Served, serving, stepwell

GONE = "urn:stepwell:problem:deleted-for-good"


def created(http: Http, tenant: str, experiment: str = "lab") -> str:
    run: str = http.ok("POST", f"{BASE}/runs", {"experiment_name": experiment}, tenant=tenant)[
        "run_id"
    ]
    metrics = [{"key": "loss", "value": s, "step": s, "timestamp": s} for s in range(100)]
    http.ok("POST", f"{BASE}/runs/{run}/log-batch", {"metrics": metrics})
    http.ok("PUT", f"{BASE}/runs/{run}/artifacts/card.md", b"# card")
    return run


def test_a_purged_run_is_404_to_readers_and_409_to_writers(http: Http, server: Served):
    kept, run = created(http, "p1"), created(http, "p1")
    answer = http.ok("DELETE", f"{BASE}/runs/{run}?purge=true")
    assert (answer["run_id"], answer["lifecycle"]) == (run, "deleted")
    for method, path in (
        ("GET", ""), ("GET", "/metrics"), ("GET", "/metrics/loss"), ("GET", "/artifacts"),
        ("GET", "/artifacts/card.md"), ("GET", "/console"), ("DELETE", ""),
        ("DELETE", "?purge=true"), ("DELETE", "/artifacts/card.md"),
    ):  # fmt: skip
        assert http(method, f"{BASE}/runs/{run}{path}")[0] == 404, path
    writes: list[tuple[str, str, Any]] = [
        ("POST", "/log-batch", {"metrics": [{"key": "a", "value": 1}]}),
        ("POST", "/log-metrics", {"metrics": {"a": 1}}), ("POST", "/log-params", {"params": {}}),
        ("POST", "/end", None), ("POST", "/restore", None), ("PUT", "/artifacts/x", b"x"),
        ("PATCH", "", {"name": "x"}), ("POST", "/console", {"lines": []}),
    ]  # fmt: skip
    for method, path, body in writes:
        status, problem = http(method, f"{BASE}/runs/{run}{path}", body)
        assert (status, problem["type"]) == (409, GONE), path
        assert run in problem["detail"]
    status, problem = http("POST", f"{BASE}/runs", {"run_id": run}, tenant="p1")
    assert (status, problem["type"]) == (409, GONE)
    lists = http.ok("GET", f"{BASE}/runs?lifecycle=all", tenant="p1")
    assert [one["run_id"] for one in lists["runs"]] == [kept]
    assert http("POST", f"{BASE}/runs/series", {"run_ids": [run], "keys": ["loss"]})[0] == 404


def test_an_experiments_name_is_free_once_it_is_purged(http: Http):
    run = created(http, "p2", "vision")
    [lab] = [
        one for one in http.ok("GET", BASE, tenant="p2")["experiments"] if one["name"] == "vision"
    ]
    path = f"{BASE}/{lab['experiment_id']}"
    assert http.ok("DELETE", f"{path}?purge=true", tenant="p2")["lifecycle"] == "deleted"
    assert http("GET", path, tenant="p2")[0] == 404
    assert http("GET", f"{BASE}/runs/{run}")[0] == 404
    again = http.ok("POST", BASE, {"name": "vision"}, tenant="p2")
    assert again["number"] > lab["number"]
    default = http.ok("GET", BASE, tenant="p2")["experiments"][0]
    status, problem = http("DELETE", f"{BASE}/{default['experiment_id']}?purge=true", tenant="p2")
    assert (default["name"], status) == ("Default", 409)
    assert "purge its runs" in problem["detail"]


def test_gc_purges_what_was_deleted_and_nothing_else(
    http: Http, server: Served, capsys: pytest.CaptureFixture[str]
):
    kept, deleted, restored = (created(http, "p3") for _ in range(3))
    for run in (deleted, restored):
        http.ok("DELETE", f"{BASE}/runs/{run}")
    http.ok("POST", f"{BASE}/runs/{restored}/restore")
    common = ["gc", "--url", server.url, "--tenant", "p3", "--json"]
    assert stepwell(*common, "--older-than", "1h") == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 0, "experiments": 0, "models": 0}
    time.sleep(0.01)
    assert stepwell(*common) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 1, "experiments": 0, "models": 0}
    assert http("GET", f"{BASE}/runs/{deleted}")[0] == 404
    for run in (kept, restored):
        assert http.ok("GET", f"{BASE}/runs/{run}")["lifecycle"] == "active"
    assert stepwell("gc", "--url", server.url, "--tenant", "nobody") == 0
    assert stepwell("gc", "--data", server.data) == 5  # a server owns it


def test_a_client_sets_aside_what_a_purged_run_refuses_once(
    http: Http, server: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tracker = ExperimentTracker(server.url, tenant="p4")
    run = tracker.start_run("lab")
    run.log_metric("loss", 1.0, step=0)
    assert run.flush(30)
    http.ok("DELETE", f"{BASE}/runs/{run.run_id}?purge=true")
    run.log_params({"late": 1})
    run.log_metric("loss", 2.0, step=1)
    assert run.end(timeout_s=30)
    spool = tmp_path / "spool"
    reasons = (spool / "refused" / f"{run.run_id}.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in reasons]
    assert sorted(kinds) == ["end", "series", "texts"]
    assert all("deleted for good" in json.loads(line)["reason"] for line in reasons)
    assert folders(spool) == []


def test_a_spool_that_comes_late_does_not_bring_a_purged_run_back(
    http: Http, server: Served, tmp_path: Path
):
    run_id = new_run_id("p5")
    program = f"""
from stepwell import ExperimentTracker, RunConfig
tracker = ExperimentTracker("http://127.0.0.1:9", tenant="p5", exit_timeout_s=0.1)
with tracker.start_run("lab", RunConfig(run_id="{run_id}")) as run:
    run.log_metric("loss", 1.0, step=0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    http.ok("POST", f"{BASE}/runs", {"run_id": run_id}, tenant="p5")
    http.ok("DELETE", f"{BASE}/runs/{run_id}?purge=true")
    spool = tmp_path / "spool"
    assert stepwell("sync", "--url", server.url, spool) in (0, 3)
    assert folders(spool) == []
    lines = (spool / "refused" / f"{run_id}.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds == ["create", "resume", "series", "end"]
    assert http("GET", f"{BASE}/runs/{run_id}")[0] == 404


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "data", "--keep-deleted-s", "1") as served:
        yield served


def test_what_was_deleted_goes_by_itself_when_the_operators_time_is_over(short: Served):
    http = Http(short.url)
    kept, run = created(http, "acme"), created(http, "acme")
    http.ok("DELETE", f"{BASE}/runs/{run}")
    http.ok("POST", f"{BASE}/runs/{run}/restore")
    http.ok("DELETE", f"{BASE}/runs/{run}")
    deadline = time.monotonic() + 15
    while http("GET", f"{BASE}/runs/{run}")[0] != 404:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert http.ok("GET", f"{BASE}/runs/{kept}")["lifecycle"] == "active"
    assert stepwell("verify", short.data) == 0
    http.close()


def test_a_server_that_was_killed_in_the_middle_finishes_it_at_its_next_start(tmp_path: Path):
    with serving(tmp_path / "data") as served:
        http = Http(served.url)
        kept = created(http, "acme")
        run = created(http, "acme")
        for start in range(0, 60_000, 10_000):
            steps = range(start, start + 10_000)
            metrics = [{"key": f"k{s % 7}", "value": s, "step": s, "timestamp": s} for s in steps]
            http.ok("POST", f"{BASE}/runs/{run}/log-batch", {"metrics": metrics})
        http.ok("DELETE", f"{BASE}/runs/{run}?purge=true")
        served.kill()
        http.close()
    marker = tmp_path / "data/tenants/acme/purging"
    assert stepwell("verify", tmp_path / "data") == 0
    with serving(tmp_path / "data") as served:
        deadline = time.monotonic() + 30
        while marker.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        http = Http(served.url)
        assert http("GET", f"{BASE}/runs/{run}")[0] == 404
        assert len(http.ok("GET", f"{BASE}/runs/{kept}/metrics/loss")["points"]) == 100
        assert served.stop() == 0
        http.close()
    assert not (tmp_path / "data/tenants/acme/artifacts/runs" / run).exists()
    assert stepwell("verify", tmp_path / "data") == 0
