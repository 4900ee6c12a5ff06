"""A tenant is a folder: what docs/operations.md says of copying it."""

from __future__ import annotations

import shutil
from pathlib import Path

from stepwell_tracker.cli_client import BASE
from tests.end_to_end.conftest import Http
from tests.serving import serving


def logged(http: Http, tenant: str) -> str:
    run: str = http.ok("POST", f"{BASE}/runs", {"name": "kept"}, tenant=tenant)["run_id"]
    metrics = [{"key": "loss", "value": s / 7, "step": s, "timestamp": s} for s in range(500)]
    http.ok("POST", f"{BASE}/runs/{run}/log-batch", {"metrics": metrics})
    http.ok("PUT", f"{BASE}/runs/{run}/artifacts/card.md", b"# card")
    return run


def points(http: Http, run: str) -> list[float]:
    history = http.ok("GET", f"{BASE}/runs/{run}/metrics/loss")["points"]
    return [point["value"] for point in history]


def test_a_stopped_tenants_folder_is_whole_on_another_server(tmp_path: Path):
    with serving(tmp_path / "old") as served:
        run = logged(Http(served.url), "acme-corp")
        assert served.stop() == 0
    shutil.copytree(tmp_path / "old" / "tenants", tmp_path / "new" / "tenants")
    with serving(tmp_path / "new") as served:
        http = Http(served.url)
        assert points(http, run) == [step / 7 for step in range(500)]
        assert http("GET", f"{BASE}/runs/{run}/artifacts/card.md")[1] == b"# card"
