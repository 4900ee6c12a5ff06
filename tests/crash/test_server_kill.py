"""SIGKILL the server at random moments under load; what it acknowledged must be there, once.

The oracle: each batch is one stretch of steps of one series.  An acknowledged stretch is there
whole and bit for bit; one whose answer never came is there whole or not at all; nothing else is.
``verify`` then finds nothing wrong.
"""

import asyncio
import os
import random
import struct
import threading
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import urllib3

from stepwell.ids import new_run_id
from stepwell.wire import COLUMNS, COLUMNS_FORMAT, ColumnarBatch, ColumnarReply, ColumnarSeries
from stepwell_storage.check import verify
from tests.serving import Served, serving

BASE = "/api/v1/experiments/runs"
POINTS = 400
SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))


def value_of(step: int) -> float:
    """Every bit of a value follows from its step."""
    return float(struct.unpack("<d", struct.pack("<q", (step * 0x9E37_79B9_7F4A) | 1))[0])


@dataclass
class Writer:
    """One client in a closed loop; ``sent`` maps a stretch's first step to its acknowledgement."""

    run_id: str
    next_step: int = 0
    sent: dict[int, bool] = field(default_factory=dict)

    def loop(self, url: str, stop: threading.Event) -> None:
        pool = urllib3.HTTPConnectionPool("127.0.0.1", int(url.rpartition(":")[2]), retries=False)
        while not stop.is_set():
            first, self.next_step = self.next_step, self.next_step + POINTS
            self.sent[first] = False
            steps = range(first, first + POINTS)
            series = ColumnarSeries(
                key="loss",
                steps=array("q", steps).tobytes(),
                timestamps=array("q", steps).tobytes(),
                values=array("d", map(value_of, steps)).tobytes(),
            )
            body = msgspec.msgpack.encode(ColumnarBatch(COLUMNS_FORMAT, [series]))
            try:
                answer = pool.request(
                    "POST",
                    f"{BASE}/{self.run_id}/log-batch",
                    body=body,
                    headers={"Content-Type": COLUMNS},
                    timeout=10,
                )
            except (urllib3.exceptions.HTTPError, OSError):
                return
            if answer.status == 200:
                self.sent[first] = True


def create(url: str, run_id: str) -> None:
    body = msgspec.json.encode({"run_id": run_id, "experiment_name": "kill"})
    headers = {"Content-Type": "application/json"}
    answer = urllib3.request("POST", url + BASE, body=body, headers=headers)
    assert answer.status in (200, 201), answer.data


def stored(url: str, run_id: str) -> list[tuple[int, int, float]]:
    body = msgspec.json.encode({"run_ids": [run_id], "keys": ["loss"]})
    headers = {"Content-Type": "application/json", "Accept": COLUMNS}
    answer = urllib3.request("POST", f"{url}{BASE}/series", body=body, headers=headers, timeout=60)
    assert answer.status == 200, answer.data
    reply = msgspec.msgpack.decode(answer.data, type=ColumnarReply)
    if not reply.series:
        return []
    (found,) = reply.series
    columns = array("q"), array("q"), array("d")
    for column, data in zip(columns, (found.steps, found.timestamps, found.values), strict=True):
        column.frombytes(data)
    return list(zip(*columns, strict=True))


def compare(writer: Writer, points: list[tuple[int, int, float]]) -> None:
    steps = [step for step, _, _ in points]
    assert steps == sorted(set(steps)), "a point is there twice or out of order"
    for step, timestamp, value in points:
        assert timestamp == step
        assert struct.pack("<d", value) == struct.pack("<d", value_of(step))
    there = set(steps)
    for first, acknowledged in writer.sent.items():
        stretch = range(first, first + POINTS)
        present = sum(step in there for step in stretch)
        assert present in ((POINTS,) if acknowledged else (0, POINTS)), (first, acknowledged)
        there -= set(stretch)
    assert not there, "points that nobody sent"


def storm(data: Path, writers: list[Writer], rng: random.Random, kills: int) -> int:
    """Kill the server so often; returns how many batches were acknowledged."""
    for kill in range(kills):
        with serving(data) as server:
            check_all(server, writers)
            stop = threading.Event()
            threads = [
                threading.Thread(target=writer.loop, args=(server.url, stop)) for writer in writers
            ]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(0.02, 0.8 if kill % 4 else 2.5))
            server.kill()
            stop.set()
            for thread in threads:
                thread.join()
    with serving(data) as server:
        check_all(server, writers)
        assert server.stop() == 0
    found = asyncio.run(verify(data))
    assert found.problems == []
    return sum(sum(writer.sent.values()) for writer in writers)


def check_all(server: Served, writers: list[Writer]) -> None:
    for writer in writers:
        create(server.url, writer.run_id)
        compare(writer, stored(server.url, writer.run_id))


def writers() -> list[Writer]:
    return [Writer(new_run_id("default")) for _ in range(3)]


@pytest.mark.timeout(600)
def test_a_killed_server_lost_nothing_that_it_acknowledged(tmp_path: Path):
    acknowledged = storm(tmp_path / "data", writers(), random.Random(SEED), kills=20)
    assert acknowledged > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_server_killed_two_hundred_times_lost_nothing(tmp_path: Path):
    acknowledged = storm(tmp_path / "data", writers(), random.Random(SEED + 1), kills=200)
    assert acknowledged > 2_000


def test_the_oracle_sees_a_lost_and_a_repeated_point():
    """An oracle that cannot fail proves nothing."""
    writer = Writer("r", POINTS, {0: True})
    whole = [(step, step, value_of(step)) for step in range(POINTS)]
    compare(writer, whole)
    for damaged in (whole[:-1], [*whole, whole[-1]], [], [*whole, (9_999, 9_999, value_of(9_999))]):
        with pytest.raises(AssertionError):
            compare(writer, damaged)
    with pytest.raises(AssertionError):
        compare(writer, [(0, 0, -value_of(0)), *whole[1:]])
