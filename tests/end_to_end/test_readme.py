"""The examples of the README and of DESIGN section 6, run as they stand against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell import ExperimentTracker, RunConfig, RunMetrics
from stepwell_tracker.cli_client import BASE
from tests.end_to_end.conftest import Http
from tests.needs import program
from tests.serving import Served

README = Path(__file__).parents[2] / "README.md"
DEFAULT_URL = "http://127.0.0.1:7837"


def block(language: str) -> str:
    """The first block of that language."""
    found = re.search(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_no_page_points_at_a_page_that_is_not_there():
    root = README.parent
    for page in [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("examples/*.md")]:
        text = page.read_text()
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"
        for target in re.findall(r"\bdocs/[\w-]+\.md\b", text):
            assert (root / target).exists(), f"{page.name} names {target}"


def test_the_python_example_as_it_stands(server: Served, http: Http):
    done = subprocess.run(
        [sys.executable, "-c", block("python")],
        env={**os.environ, "STEPWELL_URL": server.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    promised = re.search(r"print\(history\[0\]\) +# (.*)", block("python"))
    assert promised is not None
    pattern = re.escape(promised[1]).replace(r"\.\.\.", r"\d{13}")
    assert re.fullmatch(pattern, done.stdout.strip())

    query = (
        "filter=attributes.run_name%20%3D%20'xgboost-baseline'%20and%20metrics.val_loss%20%3C%201"
    )
    runs = http.ok("GET", f"{BASE}/runs?{query}", tenant="acme-corp")["runs"]
    run = next(run for run in runs if run["user_id"] == "alice@acme.com" and run["metrics"])
    assert run["params"] == {"learning_rate": "0.01", "max_depth": "6"}
    assert run["status"] == "finished"
    history = http.ok("GET", f"{BASE}/runs/{run['run_id']}/metrics/val_loss")
    assert [point["step"] for point in history["points"]] == list(range(100))


def test_the_curl_example_as_it_stands(server: Served, tmp_path: Path):
    program("curl", package="curl")
    script = block("sh").replace(DEFAULT_URL, server.url)
    assert server.url in script
    done = subprocess.run(
        ["sh", "-eu"],
        input=script,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert '"accepted":2' in done.stdout
    assert '"message":"Run ended"' in done.stdout
    assert '{"step":15,"timestamp":' in done.stdout
    assert '"name":"by-hand"' in done.stdout


def test_the_example_of_design_section_6(server: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STEPWELL_URL", server.url)
    train_loss = [1 / (epoch + 1) for epoch in range(100)]
    val_loss = [1.1 / (epoch + 1) for epoch in range(100)]

    tracker = ExperimentTracker()
    with tracker.start_run(
        experiment_name="fraud-detection-v3",
        run_config=RunConfig(
            run_name="xgboost-baseline", tenant_id="acme-corp", user_id="alice@acme.com"
        ),
    ) as run:
        run.log_params({"learning_rate": 0.01, "max_depth": 6})
        for epoch in range(100):
            run.log_metrics(
                {"train_loss": train_loss[epoch], "val_loss": val_loss[epoch]}, step=epoch
            )
    history = tracker.get_metric_history(run_id=run.run_id, key="val_loss")

    assert [set(point) for point in history] == [{"key", "value", "timestamp", "step"}] * 100
    assert [point["value"] for point in history] == val_loss
    assert [point["step"] for point in history] == list(range(100))
    assert run.pending == 0
    assert run.status == "finished"


def test_the_whole_interface_of_design_section_6(server: Served, tmp_path: Path):
    tracker = ExperimentTracker(server.url, tenant="interface")
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(range(256)))
    run = tracker.start_run("search", run_name="a", tags={"kind": "x"}, params={"depth": 6})
    run.log_metrics(RunMetrics({"loss": 0.5}, step=3, timestamp=1_707_723_600_000))
    run.log_metric("loss", 0.25)  # one past the greatest step
    run.log_param("booster", "gbtree")
    run.set_tags({"stage": "baseline"})
    run.set_tag("owner", "alice")
    run.log_artifact(weights, "model")
    assert run.flush(30)
    assert run.end("failed", 30)

    arrays = tracker.get_metric_arrays(run.run_id, "loss")
    assert (list(arrays.steps), list(arrays.values)) == ([3, 4], [0.5, 0.25])
    shown = tracker.get_run(run.run_id)
    assert (shown.status, shown.metrics) == ("failed", {"loss": 0.25})
    assert shown.params == {"depth": "6", "booster": "gbtree"}
    assert {"kind": "x", "stage": "baseline", "owner": "alice"}.items() <= shown.tags.items()
    found = tracker.search_runs("search", "metrics.loss < 0.3 and params.depth = 6", limit=5)
    assert [one.run_id for one in found] == [run.run_id]
    assert tracker.search_runs("search", "metrics.loss > 0.3") == []
