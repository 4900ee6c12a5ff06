"""A tenant to Parquet beside its server, killed imports, another server: the same to every call."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stepwell_tracker.cli_client import BASE
from tests.end_to_end.conftest import Http
from tests.serving import Served, serving, stepwell

MLFLOW = "/api/2.0/mlflow"
ODD: list[Any] = ["NaN", "Infinity", "-Infinity", -0.0, 0.0, 5e-324, 1.7976931348623157e308]


def filled(http: Http) -> None:
    """Something of everything, by both protocols, in the tenant ``acme``."""

    def post(path: str, body: Any) -> Any:
        return http.ok("POST", path, body, tenant="acme")

    runs = []
    for status in ("finished", "failed", "killed", "running"):
        body = {
            "experiment_name": "lab",
            "name": status,
            "params": {"lr": "1e-3", "ü": "\U0001f600"},
            "tags": {"t": "a\nb"},
            "user_id": "alice",
            "description": "long",
            "start_time": 5,
        }
        run = post(f"{BASE}/runs", body)["run_id"]
        metrics = [
            {"key": "odd/ü", "value": v, "step": s // 3 - 1, "timestamp": -s}
            for s, v in enumerate(ODD)
        ]
        metrics += [{"key": "back", "value": s, "step": 50 - s, "timestamp": s} for s in range(100)]
        post(f"{BASE}/runs/{run}/log-batch", {"metrics": metrics})
        http.ok("PUT", f"{BASE}/runs/{run}/artifacts/deep/100%25.bin", bytes(range(256)) * 99)
        http.ok("PUT", f"{BASE}/runs/{run}/artifacts/empty", b"")
        lines = [{"stream": "stdout", "timestamp": 1, "text": "hello"}]
        post(f"{BASE}/runs/{run}/console", {"lines": lines})
        if status != "running":
            post(f"{BASE}/runs/{run}/end?status={status}&end_time=99", None)
        runs.append(run)
    http.ok("DELETE", f"{BASE}/runs/{runs[1]}")
    http.ok("DELETE", f"{BASE}/runs/{post(f'{BASE}/runs', {})['run_id']}?purge=true")
    gone = post(BASE, {"name": "gone", "description": "d", "tags": {"a": "b"}})
    http.ok("DELETE", f"{BASE}/{gone['experiment_id']}", tenant="acme")
    scheduled = post(f"{MLFLOW}/runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    post(f"{MLFLOW}/runs/update", {"run_id": scheduled, "status": "SCHEDULED"})
    data = {"name": "d", "digest": "1", "source_type": "local", "source": "{}"}
    used = [{"tags": [{"key": "mlflow.data.context", "value": "train"}], "dataset": data}]
    post(f"{MLFLOW}/runs/log-inputs", {"run_id": runs[0], "datasets": used})
    body = {"experiment_id": "0", "name": "net", "source_run_id": runs[0]}
    model = post(f"{MLFLOW}/logged-models", body)["model"]["info"]["model_id"]
    post(f"{MLFLOW}/registered-models/create", {"name": "net", "description": "d"})
    post(
        f"{MLFLOW}/model-versions/create",
        {"name": "net", "source": f"models:/{model}", "model_id": model, "run_id": runs[0]},
    )
    alias = {"name": "net", "alias": "champion", "version": "1"}
    post(f"{MLFLOW}/registered-models/alias", alias)


def picture(http: Http) -> dict[str, Any]:
    """Every answer of both protocols about the tenant."""

    def get(path: str) -> Any:
        return http.ok("GET", path, tenant="acme")

    found: dict[str, Any] = {"experiments": get(f"{BASE}?lifecycle=all")}
    found["runs"] = get(f"{BASE}/runs?lifecycle=all&order_by=start_time")
    for run in found["runs"]["runs"]:
        place = f"{BASE}/runs/{run['run_id']}"
        for path in ("", "/metrics", "/artifacts", "/artifacts?path=deep", "/console"):
            found[place + path] = answer = get(place + path)
            for file in answer.get("artifacts", ()):
                if file["is_dir"]:
                    del file["modified_at"]  # a folder's is when it was copied
        for series in found[f"{place}/metrics"]["series"]:
            key = series["key"].replace("/", "%2F").replace("ü", "%C3%BC")
            found[f"{place}/{key}"] = get(f"{place}/metrics/{key}")["points"]
        if run["name"] in ("finished", "failed", "killed", "running"):
            for name in ("deep/100%25.bin", "empty"):
                found[f"{place}/{name}"] = get(f"{place}/artifacts/{name}")
        found[f"mlflow {place}"] = get(f"{MLFLOW}/runs/get?run_id={run['run_id']}")
    found["registered"] = get(f"{MLFLOW}/registered-models/search")
    found["versions"] = get(f"{MLFLOW}/model-versions/search")
    found["alias"] = get(f"{MLFLOW}/registered-models/alias?name=net&alias=champion")
    search = {"experiment_ids": ["0"]}
    found["models"] = http.ok("POST", f"{MLFLOW}/logged-models/search", search, tenant="acme")
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An export that was made beside the server, and what that said."""
    folder = tmp_path_factory.mktemp("parquet")
    with serving(folder / "data") as served:
        http = Http(served.url)
        filled(http)
        common = ["export", "parquet", "--data", str(folder / "data"), "--tenant", "ACME"]
        assert stepwell(*common, folder / "to") == 0
        assert stepwell(*common, folder / "to") == 2  # never over another one
        seen = picture(http)
        http.close()
    return folder / "to", seen


def test_another_server_says_the_same_to_every_call(
    exported: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    to, seen = exported
    data = tmp_path / "data"
    assert stepwell("import", "parquet", to, "--data", data) == 0
    assert "acme, 428 points" in capsys.readouterr().out
    assert stepwell("import", "parquet", to, "--data", data) == 0
    assert "imported already" in capsys.readouterr().out
    assert stepwell("verify", data) == 0
    with serving(data) as served:
        http = Http(served.url)
        assert picture(http) == seen
        assert stepwell("import", "parquet", to, "--data", data) == 5  # a server owns it
        run = next(run for run in seen["runs"]["runs"] if run["name"] == "running")["run_id"]
        odd = http.ok("GET", f"{BASE}/runs/{run}/metrics/odd%2F%C3%BC")["points"]
        texts = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}
        values = [texts.get(point["value"], point["value"]) for point in odd]
        expected = [float(value) for value in ODD]
        assert sorted(struct.pack("<d", one) for one in values) == sorted(
            struct.pack("<d", one) for one in expected
        )
        point = {"metrics": {"back": 1.5}, "step": 51, "timestamp": 1}
        http.ok("POST", f"{BASE}/runs/{run}/log-metrics", point)
        assert http.ok("GET", f"{BASE}/runs/{run}")["metrics"]["back"] == 1.5
        http.close()


def start_import(to: Path, data: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stepwell", "import", "parquet", str(to), "--data", str(data)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.timeout(120)
def test_an_import_that_is_killed_leaves_no_tenant_and_goes_on(
    exported: tuple[Path, dict[str, Any]], tmp_path: Path
):
    to, seen = exported
    data = tmp_path / "data"
    started = start_import(to, data)
    partial = data / "tenants"
    while not list(partial.glob(".acme.*.partial/acme/artifacts")):
        assert started.poll() is None
        time.sleep(0.001)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    assert not (partial / "acme").exists()
    with serving(data) as served:  # what is half there is no tenant of anybody's
        http = Http(served.url)
        assert http.ok("GET", f"{BASE}/runs", tenant="acme")["runs"] == []
        http.close()
    assert stepwell("verify", data) == 0
    assert stepwell("import", "parquet", to, "--data", data) == 0
    assert [one.name for one in partial.iterdir()] == ["acme"]
    with serving(data) as served:
        http = Http(served.url)
        assert picture(http) == seen
        http.close()


def test_exit_codes_say_what_was_wrong(
    exported: tuple[Path, dict[str, Any]],
    server: Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    to, _ = exported
    nobody = ["export", "parquet", "--data", str(server.data), "--tenant", "nobody"]
    assert stepwell(*nobody, tmp_path / "x") == 2
    assert stepwell("import", "parquet", tmp_path, "--data", tmp_path / "d") == 2
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "d").exists()
    spoiled = tmp_path / "spoiled"
    spoiled.mkdir()
    lines = (to / "manifest.jsonl").read_text().splitlines()
    newer = {**json.loads(lines[0]), "format": 2}
    (spoiled / "manifest.jsonl").write_text("\n".join([json.dumps(newer), *lines[1:]]))
    assert stepwell("import", "parquet", spoiled, "--data", tmp_path / "d") == 5
    (spoiled / "manifest.jsonl").write_text("\n".join(lines[:-1]))
    assert stepwell("import", "parquet", spoiled, "--data", tmp_path / "d") == 1
    (spoiled / "manifest.jsonl").write_text("\n".join(lines))
    capsys.readouterr()
    assert stepwell("import", "parquet", spoiled, "--data", tmp_path / "d") == 1
    error = capsys.readouterr().err
    assert "nothing was imported: is missing" in error
    assert "Traceback" not in error
