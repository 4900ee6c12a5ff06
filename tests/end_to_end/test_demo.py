"""``make demo``: real trainings into a real server, read back by bare HTTP and by the client."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell import ExperimentTracker
from stepwell_tracker.cli_client import BASE
from tests.end_to_end.conftest import Http
from tests.serving import Served

ROOT = Path(__file__).parents[2]


def demo(spool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.fixture(scope="session")
def trained(server: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the demo printed."""
    if os.environ.get("CI") is None:
        pytest.importorskip("sklearn")
    done = demo(tmp_path_factory.mktemp("spool"), "--quick", "--url", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_run_has_parameters_metrics_history_and_artifacts(trained: str, http: Http):
    listed = http.ok("GET", f"{BASE}/runs")["runs"]
    by_id = {run["run_id"]: run for run in listed}
    ids = re.findall(r"^\S+  ([0-9a-f]{32})  ", trained, re.MULTILINE)
    assert len(ids) == 8
    for run in map(by_id.__getitem__, ids):
        assert run["status"] == "finished"
        assert {"name", "learning_rate"} <= set(run["params"])
        assert {"train_loss", "val_loss", "val_accuracy"} <= set(run["metrics"])
        history = http.ok("GET", f"{BASE}/runs/{run['run_id']}/metrics/train_loss")["points"]
        steps = [point["step"] for point in history]
        assert steps == list(range(len(steps)))
        assert len(steps) >= 10
        files = http.ok("GET", f"{BASE}/runs/{run['run_id']}/artifacts")["artifacts"]
        assert {"evaluation", "model_card.md"} <= {file["path"] for file in files}


def test_the_picture_is_a_picture_and_the_tables_are_tables(trained: str, http: Http):
    run = re.findall(r"^digits-mlp  (\w{32})", trained, re.MULTILINE)[0]
    files = f"{BASE}/runs/{run}/artifacts"
    assert http("GET", f"{files}/first_layer.png")[1].startswith(b"\x89PNG\r\n\x1a\n")
    table = http("GET", f"{files}/evaluation/confusion_matrix.csv")[1].decode().splitlines()
    assert len(table) == 11
    counts = [int(cell) for line in table[1:] for cell in line.split(",")[1:]]
    assert sum(counts) == 450  # a quarter of 1,797 images


def test_the_client_reads_them_back(trained: str, server: Served):
    tracker = ExperimentTracker(server.url)
    best = tracker.search_runs("digits-mlp", order_by=["metrics.val_accuracy DESC"])[0]
    history = tracker.get_metric_history(best.run_id, "val_accuracy")
    assert history[-1]["value"] == best.metrics["val_accuracy"]
    assert best.metrics["val_accuracy"] > 0.5


def test_what_it_prints_to_open_can_be_opened(trained: str, http: Http):
    addresses = re.findall(r"curl 'http://[^/]+(/\S+)'", trained)
    assert len(addresses) == 3
    for address in addresses:
        assert http("GET", address)[0] == 200
    commands = re.findall(r"^ +(STEPWELL_URL=\S+ \.venv/bin/stepwell .*)$", trained, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        line = command.replace(".venv/bin/stepwell", f"{sys.executable} -m stepwell")
        subprocess.run(line, shell=True, check=True, capture_output=True, timeout=60)


def test_without_a_server_it_says_how_to_start_one(tmp_path: Path):
    done = demo(tmp_path, "--quick", "--url", "http://127.0.0.1:1")
    assert done.returncode == 3
    assert "make run" in done.stderr
    assert "Traceback" not in done.stderr
