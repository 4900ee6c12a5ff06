"""Backups as docs/operations.md tells to make them: a tenant is a folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from stepwell_tracker.cli_client import BASE
from tests.end_to_end.conftest import Http
from tests.serving import serving

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


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


def test_the_copy_of_a_live_database_holds_what_was_acknowledged_before_it(tmp_path: Path):
    command = re.search(r"^    python3 (-c .*)$", PAGE.read_text(), re.MULTILINE)
    assert command is not None
    copy = tmp_path / "copy" / "tenants" / "acme-corp" / "tenant.db"
    copy.parent.mkdir(parents=True)
    line = command[1].replace("stepwell-data", str(tmp_path / "data"))
    line = line.replace("/backup/tenant.db", str(copy))
    with serving(tmp_path / "data") as served:
        run = logged(Http(served.url), "acme-corp")
        subprocess.run(f"{sys.executable} {line}", shell=True, check=True, timeout=60)
        served.kill()
    with serving(tmp_path / "copy") as served:
        assert points(Http(served.url), run) == [step / 7 for step in range(500)]
