"""The disk refuses the n-th write or sync, or is full: 507, nothing half there, nothing lost."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import urllib3

from stepwell.wire import COLUMNS, COLUMNS_FORMAT, ColumnarBatch, ColumnarReply, ColumnarSeries
from stepwell_storage.check import verify
from tests.crash import engine_work, failing_work, shim
from tests.crash.plans import values_of
from tests.serving import serving

SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))
ROOT = Path(__file__).parents[2]
PARTS = 4
DISK_BYTES = 96 * 1024 * 1024
POINTS = 20_000
PAGE = 500_000


def storm(folder: Path, fault: str, seed: int, first: int, stride: int) -> dict[str, Any]:
    disk = folder / "disk"
    disk.mkdir()
    environment = shim.environment(shim.build(folder), disk) | {"PYTHONPATH": str(ROOT)}
    numbers = map(str, (seed, first, stride))
    command = [sys.executable, failing_work.__file__, str(disk), fault, *numbers]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    answer: dict[str, Any] = json.loads(done.stdout)
    sys.stderr.write(f"{fault}: {answer}\n")
    return answer


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", failing_work.FAULTS)
def test_the_disk_refuses_a_call(tmp_path: Path, fault: str):
    """A share of all n: those from a seeded place, so far apart that it is about ten."""
    stride = 31 if failing_work.FAULTS[fault].what == engine_work.ANY_WRITE else 4
    answer = storm(tmp_path, fault, SEED, 1 + SEED % stride, stride)
    assert answer["wrong"] == []
    assert answer["struck"] >= answer["tried"] >= 5
    assert answer["refused"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fault", failing_work.FAULTS)
def test_the_disk_refuses_every_call_in_turn(tmp_path: Path, fault: str, part: int):
    answer = storm(tmp_path, fault, SEED, 1 + part, PARTS)
    assert answer["wrong"] == []
    assert answer["struck"] >= answer["tried"] > 5


# --- a disk that is really full ----------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MB in memory."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        reason = f"no file system could be mounted: {mounted.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class Client:
    """Logs stretches of noise into one run."""

    def __init__(self, url: str) -> None:
        self.move_to(url)
        self.run_id = self.create()
        self.acknowledged: list[int] = []
        self.next_step = 0

    def send(self, method: str, path: str, body: object = None) -> urllib3.BaseHTTPResponse:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        return urllib3.request(method, self._url + path, body=data, headers=headers, timeout=60)

    def create(self) -> str:
        run_id = uuid.uuid4().hex
        answer = self.send("POST", "", {"run_id": run_id})
        assert answer.status == 201, answer.data
        return run_id

    def log(self) -> int:
        """The status of one more batch."""
        first, self.next_step = self.next_step, self.next_step + POINTS
        steps = np.arange(first, first + POINTS, dtype="<i8")
        columns = steps.tobytes(), steps.tobytes(), values_of("loss", steps).tobytes()
        body = msgspec.msgpack.encode(
            ColumnarBatch(COLUMNS_FORMAT, [ColumnarSeries("loss", *columns)])
        )
        url = f"{self._url}/{self.run_id}/log-batch"
        headers = {"Content-Type": COLUMNS}
        answer = urllib3.request("POST", url, body=body, headers=headers, timeout=60)
        if answer.status == 200:
            self.acknowledged.append(first)
        return answer.status

    def move_to(self, url: str) -> None:
        """The server was started again."""
        self._url = f"{url}/api/v1/experiments/runs"

    def compare(self) -> None:
        """Reads go on: every acknowledged point, and no other, is there."""
        assert self.send("GET", "").status == 200
        assert self.send("GET", f"/{self.run_id}").status == 200
        expected = np.concatenate(
            [np.arange(first, first + POINTS, dtype="<i8") for first in self.acknowledged]
        )
        steps, values = b"", b""
        for first in range(0, self.next_step, PAGE):
            more = self._page(first)
            steps, values = steps + more[0], values + more[1]
        assert steps == expected.tobytes()
        assert values == values_of("loss", expected).tobytes()

    def _page(self, first: int) -> tuple[bytes, bytes]:
        body: dict[str, object] = {"run_ids": [self.run_id], "keys": ["loss"]}
        body |= {"start_step": first, "end_step": first + PAGE - 1}
        headers = {"Content-Type": "application/json", "Accept": COLUMNS}
        url = f"{self._url}/series"
        answer = urllib3.request("POST", url, body=msgspec.json.encode(body), headers=headers)
        assert answer.status == 200, answer.data
        found = msgspec.msgpack.decode(answer.data, type=ColumnarReply).series
        return (found[0].steps, found[0].values) if found else (b"", b"")


@pytest.mark.timeout(300)
def test_a_full_disk_refuses_points_and_nothing_else(small_disk: Path):
    data = small_disk / "data"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 3))
    with serving(data) as server:
        client = Client(server.url)
        spare = client.create()
        while (status := client.log()) == 200:
            assert len(client.acknowledged) < 10_000
        assert status == 507
        client.compare()
        for _ in range(20):  # and it stays so: what is refused takes no room
            assert client.log() in (200, 507)
        assert client.send("DELETE", f"/{spare}").status == 200
        client.compare()
        assert used(data) < DISK_BYTES
        ballast.unlink()
        assert client.log() == 200, "it recovers by itself"
        client.compare()
        assert server.stop() == 0
    with serving(data) as server:
        client.move_to(server.url)
        client.compare()
        assert server.stop() == 0
    assert asyncio.run(verify(data)).problems == []


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
