"""More than a slow disk can take: a bounded queue, 503 at once, and no acknowledged loss."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3

from stepwell.ids import new_run_id
from stepwell_storage.check import verify
from tests.crash import shim
from tests.crash.test_network_faults import memory
from tests.crash.test_server_kill import Writer, compare, create, stored, under_load
from tests.serving import Served, serving

CLIENTS = 64
POINTS = 80_000
QUEUE_BYTES = 64 * 1024 * 1024
SYNC_US = 30_000
SECONDS = 4.0
MEMORY_BYTES = 700 * 1024 * 1024
"""What the queue holds, what arrives meanwhile from 64 clients, and the copies in between."""


@dataclass
class Pusher(Writer):
    """As fast as the server answers, refused or not."""

    points: int = POINTS
    accepted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)

    def send(self, pool: urllib3.HTTPConnectionPool) -> urllib3.BaseHTTPResponse:
        start = time.perf_counter()
        answer = super().send(pool)
        took = time.perf_counter() - start
        if answer.status == 200:
            self.accepted_s.append(took)
        else:
            assert answer.status == 503, answer.data
            assert int(answer.headers["Retry-After"]) >= 1
            self.refused_s.append(took)
        return answer


def queued(server: Served) -> int:
    text = urllib3.request("GET", f"{server.url}/metrics").data.decode()
    name = "stepwell_queue_bytes "
    return int(next(line for line in text.splitlines() if line.startswith(name)).split()[1])


@pytest.mark.timeout(300)
def test_64_clients_at_full_speed_against_a_slow_disk(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    slow = shim.environment(shim.build(tmp_path), data) | {"STEPWELL_SHIM_SLOW": str(SYNC_US)}
    pushers = [Pusher(new_run_id("default")) for _ in range(CLIENTS)]
    most_queued = most_memory = 0
    with serving(data, environment=slow) as server:
        for pusher in pushers:
            create(server.url, pusher.run_id)
        with under_load(server, list(pushers)):
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                most_queued = max(most_queued, queued(server))
                most_memory = max(most_memory, memory(server))
                time.sleep(0.05)
        late = Pusher(new_run_id("default"))
        create(server.url, late.run_id)
        pool = urllib3.HTTPConnectionPool("127.0.0.1", server.port)
        assert late.send(pool).status == 200, "once the load ends, all is as before"
        for pusher in [*pushers, late]:
            compare(pusher, stored(server.url, pusher.run_id, pusher.next_step))
        assert server.stop() == 0
    assert asyncio.run(verify(data)).problems == []
    accepted = sorted(took for pusher in pushers for took in pusher.accepted_s)
    refused = sorted(took for pusher in pushers for took in pusher.refused_s)
    assert accepted
    assert refused, "the load met no bound"
    sys.stderr.write(
        f"{len(accepted)} accepted, median {statistics.median(accepted) * 1_000:.0f} ms, p99"
        f" {accepted[int(len(accepted) * 0.99)] * 1_000:.0f} ms; {len(refused)} refused, median"
        f" {statistics.median(refused) * 1_000:.0f} ms; at most {most_queued / 2**20:.0f} MiB"
        f" queued and {most_memory / 2**20:.0f} MiB resident\n"
    )
    assert most_queued <= QUEUE_BYTES
    assert most_memory < MEMORY_BYTES
