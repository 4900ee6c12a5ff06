from __future__ import annotations

import asyncio
import os
import re
import resource
import threading
from pathlib import Path

from starlette.applications import Starlette

from stepwell_tracker import probe
from stepwell_tracker.observe import Observations
from tests.tracker.checked import RUNS, CheckedClient


async def test_a_living_server_is_restarted(client):
    assert await client.ok("GET", "/health") == {"status": "ok"}
    assert await client.ok("GET", "/ready") == {"status": "ready"}
    assert (await client.head("/health")).status_code == 200


async def test_a_server_that_cannot_write_is_ready(client, data: Path, monkeypatch):
    monkeypatch.setattr(probe, "REMEMBER_S", -1.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        problem = await client.refused(503, "GET", "/ready")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in problem.detail
    assert str(data) not in problem.detail
    monkeypatch.setattr(probe, "MIN_FREE_BYTES", 2**62)
    assert "full" in (await client.refused(503, "GET", "/ready")).detail
    monkeypatch.undo()
    monkeypatch.setattr(probe, "REMEMBER_S", -1.0)
    await client.ok("GET", "/ready")
    assert (await client.ok("GET", "/health")) == {"status": "ok"}
    assert [place.name for place in data.iterdir()] == ["lock", "tenants"]


async def test_a_hundred_probes_sync_a_hundred_times(client, monkeypatch):
    synced = []
    real = os.fsync

    def counted(fd: int) -> None:
        synced.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fsync", counted)
    await asyncio.gather(*(client.ok("GET", "/ready") for _ in range(100)))
    assert len(synced) == 1


async def test_a_disk_that_hangs_holds_the_probe(client, monkeypatch):
    monkeypatch.setattr(probe, "WITHIN_S", 0.05)
    gate = threading.Event()
    monkeypatch.setattr(probe, "free_bytes", lambda folder: gate.wait(10) and 2**40)
    problem = await client.refused(503, "GET", "/ready")
    assert "not answered" in problem.detail
    gate.set()


SAMPLE = re.compile(r'(stepwell_\w+)(?:\{((?:\w+="[^"\\\n]*",?)*)\})? (-?[0-9.e+-]+)')


def parsed(text: str) -> dict[str, dict[str, float]]:
    """Samples by name and labels; fails where the format is broken."""
    kinds: dict[str, str] = {}
    samples: dict[str, dict[str, float]] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, help_text = line.removeprefix("# HELP ").split(" ", 1)
            assert help_text
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name not in kinds
            kinds[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            full, labels, value = match.groups()
            base = re.sub("_(bucket|sum|count)$", "", full)
            kind = kinds.get(full) or kinds[base]
            assert (kind == "counter") == full.endswith("_total"), line
            assert labels not in samples.setdefault(full, {})
            samples[full][labels or ""] = float(value)
    return samples


async def test_the_counters_count_something_else(client: CheckedClient, app: Starlette, data: Path):
    run_id = await client.new_run()
    metrics = [{"key": "loss", "value": i, "step": i} for i in range(50)]
    for _ in range(3):
        await client.ok("POST", f"{RUNS}/{run_id}/log-batch", json={"metrics": metrics})
    await client.refused(404, "GET", f"{RUNS}/{'0' * 32}")
    await client.refused(404, "GET", "/no/such/page")
    await client.refused(400, "GET", "/health", headers={"Host": "evil.example"})
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"
    found = parsed(answer.text)
    requests = found["stepwell_requests_total"]
    template = "/api/v1/experiments/runs/{run_id}"
    assert requests[f'route="{template}/log-batch",method="POST",status="200"'] == 3
    assert requests[f'route="{template}",method="GET",status="404"'] == 1
    assert requests['route="none",method="any",status="404"'] == 1
    assert requests['route="none",method="any",status="400"'] == 1
    assert "".join(requests).count(run_id) == 0
    buckets = list(found["stepwell_log_batch_seconds_bucket"].values())
    assert buckets == sorted(buckets)
    assert buckets[-1] == found["stepwell_log_batch_seconds_count"][""] == 3
    assert found["stepwell_points_total"][""] == 150
    assert found["stepwell_commit_seconds_count"][""] >= 4
    assert found["stepwell_commit_seconds_sum"][""] > 0
    assert found["stepwell_commit_group_requests_count"][""] >= 4
    assert found["stepwell_journal_points"][""] == 150
    assert found["stepwell_journal_bytes"][""] > 0
    assert found["stepwell_queue_bytes"][""] == 0
    assert found["stepwell_tenants"][""] == found["stepwell_open_tenants"][""] == 1
    assert found["stepwell_disk_free_bytes"][""] > 0
    assert found["stepwell_resident_memory_bytes"][""] > 1e7
    assert found["stepwell_event_streams"][""] == 0
    await app.state.server.store.compact("default")
    found = parsed((await client.get("/metrics")).text)
    assert found["stepwell_compacted_points_total"][""] == 150
    assert found["stepwell_compaction_seconds_count"][""] == 1
    assert found["stepwell_journal_points"][""] == 0


async def test_a_server_error_is_not_counted(client: CheckedClient, app: Starlette, monkeypatch):
    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(app.state.server.store, "opened", broken)
    await client.refused(500, "GET", "/metrics")
    monkeypatch.undo()
    found = parsed((await client.get("/metrics")).text)
    assert found["stepwell_requests_total"]['route="/metrics",method="GET",status="500"'] == 1


def test_labels_grow_with_what_clients_send():
    observations = Observations()
    for status in (200, 404, 200):
        observations.add(None, "any", status, 0.5)
    assert len(list(observations.requests())) == 2
    [(labels, count, seconds)] = observations.seconds()
    assert (labels, count, seconds) == ({"route": "none"}, 3, 1.5)
