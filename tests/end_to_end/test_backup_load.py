"""A backup in the middle of full load: restored elsewhere it is one instant, nothing half."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stepwell_tracker.cli_client import BASE
from tests.end_to_end.conftest import Http
from tests.serving import Served, serving, stepwell

WRITERS = 4
KEYS = [f"k{number}" for number in range(20)]


class Writer:
    """Logs numbered batches of one point a key, with a parameter each, and an artifact in between.

    ``acknowledged`` is how many batches the server has answered.
    """

    def __init__(self, url: str, number: int, stop: threading.Event) -> None:
        self.http = Http(url)
        self.number = number
        self.stop = stop
        self.sent = self.acknowledged = 0
        body = {"experiment_name": f"e{number}", "name": "loaded"}
        self.run: str = self.http.ok("POST", f"{BASE}/runs", body, tenant="acme")["run_id"]

    def work(self) -> None:
        while not self.stop.is_set():
            step = self.sent
            metrics = [
                {"key": key, "value": step + 0.5, "step": step, "timestamp": step} for key in KEYS
            ]
            params = [{"key": f"p{step}", "value": str(step)}]
            self.sent += 1
            self.http.ok(
                "POST", f"{BASE}/runs/{self.run}/log-batch", {"metrics": metrics, "params": params}
            )
            self.acknowledged += 1
            if step % 20 == 0:
                path = f"{BASE}/runs/{self.run}/artifacts/f{step}.bin"
                self.http.ok("PUT", path, f"{step}".encode() * 1000)
        self.http.close()


def check_instant(http: Http, writer: Writer, at_least: int, at_most: int) -> None:
    """The restored run is a whole number of batches, with all that were acknowledged before."""
    run = http.ok("GET", f"{BASE}/runs/{writer.run}")
    lengths = set()
    for key in KEYS:
        points = http.ok("GET", f"{BASE}/runs/{writer.run}/metrics/{key}")["points"]
        assert [(p["step"], p["timestamp"], p["value"]) for p in points] == [
            (step, step, step + 0.5) for step in range(len(points))
        ]
        lengths.add(len(points))
    [length] = lengths
    assert at_least <= length <= at_most
    params = {key: value for key, value in run["params"].items() if key.startswith("p")}
    assert len(params) == min(length, 1_000)
    files = http.ok("GET", f"{BASE}/runs/{writer.run}/artifacts")["artifacts"]
    for file in files:
        step = int(file["path"].removeprefix("f").removesuffix(".bin"))
        body = http("GET", f"{BASE}/runs/{writer.run}/artifacts/{file['path']}")[1]
        assert body == f"{step}".encode() * 1000
    before = {f"f{step}.bin" for step in range(0, max(0, at_least - 20), 20)}
    assert before <= {file["path"] for file in files}


@pytest.mark.timeout(120)
def test_a_backup_under_full_load_is_one_instant(tmp_path: Path):
    backup = tmp_path / "acme.backup"
    stop = threading.Event()
    with serving(tmp_path / "data") as served, ThreadPoolExecutor(WRITERS) as pool:
        writers = [Writer(served.url, number, stop) for number in range(WRITERS)]
        futures = [pool.submit(writer.work) for writer in writers]
        try:
            while min(writer.acknowledged for writer in writers) < 100:
                for future in futures:
                    assert not future.done() or future.exception() is None
            before = [writer.acknowledged for writer in writers]
            command = ["backup", "--data", str(tmp_path / "data"), "--tenant", "acme", str(backup)]
            assert stepwell(*command) == 0
            after = [writer.sent for writer in writers]
        finally:
            stop.set()
        for future in futures:
            future.result(30)
        assert stepwell(*command) == 2  # never over another one
        served.kill()
    assert stepwell("verify", backup) == 0
    assert stepwell("restore", backup, "--data", tmp_path / "other") == 0
    with serving(tmp_path / "other") as served:
        http = Http(served.url)
        for writer, low, high in zip(writers, before, after, strict=True):
            check_instant(http, writer, low, high)
        status = http("POST", f"{BASE}/runs/{writers[0].run}/log-metrics", {"metrics": {"a": 1}})
        assert status[0] == 200
        http.close()
        assert stepwell("restore", backup, "--data", tmp_path / "other") == 5
        assert served.stop() == 0
    assert stepwell("verify", tmp_path / "other") == 0
    assert stepwell("restore", backup, "--data", tmp_path / "other") == 2
    assert stepwell("restore", backup, "--data", tmp_path / "other", "--replace") == 0
    assert stepwell("verify", tmp_path / "other") == 0


@pytest.fixture
def made(http: Http, server: Served, tmp_path: Path) -> Path:
    tenant = f"b{tmp_path.stat().st_ino}"  # of this test alone
    run = http.ok("POST", f"{BASE}/runs", {"name": "kept"}, tenant=tenant)["run_id"]
    metrics = [{"key": "loss", "value": s, "step": s, "timestamp": s} for s in range(3_000)]
    http.ok("POST", f"{BASE}/runs/{run}/log-batch", {"metrics": metrics})
    http.ok("PUT", f"{BASE}/runs/{run}/artifacts/deep/card.md", b"# card")
    backup = tmp_path / "made"
    assert stepwell("backup", "--data", server.data, "--tenant", tenant.upper(), backup) == 0
    return backup


def test_a_backup_is_private_and_lists_what_it_has(made: Path):
    header, *files = [json.loads(line) for line in (made / "backup.jsonl").read_text().splitlines()]
    assert (header["format"], len(header["tenants"])) == (1, 1)
    assert [file["path"].split("/", 2)[2].rpartition("/")[2] for file in files] == [
        "tenant.db",
        "card.md",
    ]
    for folder, _, names in os.walk(made):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE((Path(folder) / name).stat().st_mode) == 0o600
    assert not [one for one in made.parent.iterdir() if "partial" in one.name]


@pytest.mark.parametrize("name", ["tenant.db", "card.md"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_backup_is_not_restored(
    name: str, damage: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    [file] = made.rglob(name)
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(whole[:-1])
    else:
        file.write_bytes(whole[:5] + bytes([whole[5] ^ 1]) + whole[6:])
    assert stepwell("restore", made, "--data", tmp_path / "to") == 1
    assert name in capsys.readouterr().err
    assert list((tmp_path / "to" / "tenants").iterdir()) == []


@pytest.mark.parametrize("part", ["tenants", "path"])
def test_a_backup_that_names_places_elsewhere_writes_none_of_them(
    part: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lines = [json.loads(line) for line in (made / "backup.jsonl").read_text().splitlines()]
    [tenant] = lines[0]["tenants"]
    if part == "tenants":
        lines[0]["tenants"] = ["../elsewhere"]
        for file in lines[1:]:
            file["path"] = file["path"].replace(f"tenants/{tenant}/", "tenants/../elsewhere/")
        (made / "tenants" / tenant).rename(made / "elsewhere")
    else:
        (tmp_path / "elsewhere").write_bytes(b"")
        path = f"tenants/{tenant}/../../../elsewhere"
        lines.append({"path": path, "size": 0, "sha256": hashlib.sha256(b"").hexdigest()})
    (made / "backup.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    to = tmp_path / "to"
    assert stepwell("restore", made, "--data", to) == 1
    assert "backup.jsonl" in capsys.readouterr().err
    assert not (to / "elsewhere").exists()


def test_a_backup_takes_names_of_tenants_only_and_each_once(
    server: Served, made: Path, tmp_path: Path
):
    [tenant] = json.loads((made / "backup.jsonl").read_text().splitlines()[0])["tenants"]
    saved = ["backup", "--data", str(server.data)]
    outside = f"../tenants/{tenant}"
    assert stepwell(*saved, "--tenant", outside, str(tmp_path / "x")) == 2
    assert not (tmp_path / "x").exists()
    assert stepwell(*saved, "--tenant", tenant, "--tenant", tenant, str(tmp_path / "y")) == 0
    [header, *_] = (tmp_path / "y" / "backup.jsonl").read_text().splitlines()
    assert json.loads(header)["tenants"] == [tenant]


def test_what_is_no_backup_and_who_is_no_tenant_are_wrong_use(
    made: Path, server: Served, tmp_path: Path
):
    assert stepwell("restore", tmp_path, "--data", tmp_path / "to") == 2
    restored = ["restore", str(made), "--data", str(tmp_path / "to")]
    assert stepwell(*restored, "--tenant", "nobody") == 2
    missing = ["backup", "--data", str(server.data), "--tenant", "nobody", str(tmp_path / "x")]
    assert stepwell(*missing) == 2
    assert stepwell("backup", "--data", tmp_path / "nowhere", tmp_path / "x") == 2
    assert not (tmp_path / "x").exists()
