"""SIGKILL the server at random moments under load; what it acknowledged must be there, once.

The oracle: each batch is one stretch of steps of one series.  An acknowledged stretch is there
whole and bit for bit; one whose answer never came is there whole or not at all; nothing else is.
``verify`` then finds nothing wrong.
"""

import asyncio
import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest
import urllib3

from stepwell.ids import new_run_id
from stepwell.wire import COLUMNS, COLUMNS_FORMAT, ColumnarBatch, ColumnarReply, ColumnarSeries
from stepwell_storage.check import verify
from stepwell_storage.points import Floats, Ints, Points
from tests.crash import changed_server
from tests.serving import PROGRAM, Served, serving

BASE = "/api/v1/experiments/runs"
POINTS = 400
WINDOW = 500_000
SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))


def values_of(steps: Ints) -> Floats:
    """Every bit of a value follows from its step; the mask keeps it finite."""
    bits = steps * np.int64(0x1E37_79B9_7F4A_7C15) & np.int64(0x3FEF_FFFF_FFFF_FFFF)
    return bits.view("<f8")


@dataclass
class Writer:
    """One client in a closed loop; ``sent`` maps a stretch's first step to its acknowledgement."""

    run_id: str
    next_step: int = 0
    sent: dict[int, bool] = field(default_factory=dict)
    points: int = POINTS

    def loop(self, url: str, stop: threading.Event) -> None:
        pool = urllib3.HTTPConnectionPool("127.0.0.1", int(url.rpartition(":")[2]), retries=False)
        while not stop.is_set():
            try:
                self.send(pool)
            except (urllib3.exceptions.HTTPError, OSError):
                return

    def send(self, pool: urllib3.HTTPConnectionPool) -> urllib3.BaseHTTPResponse:
        """One more stretch, and whether it was acknowledged is noted."""
        first, self.next_step = self.next_step, self.next_step + self.points
        self.sent[first] = False
        steps = np.arange(first, first + self.points, dtype="<i8")
        columns = steps.tobytes(), steps.tobytes(), values_of(steps).tobytes()
        series = ColumnarSeries("loss", *columns)
        answer = pool.request(
            "POST",
            f"{BASE}/{self.run_id}/log-batch",
            body=msgspec.msgpack.encode(ColumnarBatch(COLUMNS_FORMAT, [series])),
            headers={"Content-Type": COLUMNS},
            timeout=60,
        )
        self.sent[first] = answer.status == 200
        return answer


def create(url: str, run_id: str) -> None:
    body = msgspec.json.encode({"run_id": run_id, "experiment_name": "kill"})
    headers = {"Content-Type": "application/json"}
    answer = urllib3.request("POST", url + BASE, body=body, headers=headers)
    assert answer.status in (200, 201), answer.data


def stored(url: str, run_id: str, end: int = WINDOW) -> Points:
    """All points, and a window beyond the last that was sent; one reply holds a million at most."""
    windows = range(0, end + WINDOW, WINDOW)
    return Points.concat([_window(url, run_id, start) for start in windows])


def _window(url: str, run_id: str, start: int) -> Points:
    asked = {"run_ids": [run_id], "keys": ["loss"]}
    body = msgspec.json.encode(asked | {"start_step": start, "end_step": start + WINDOW - 1})
    headers = {"Content-Type": "application/json", "Accept": COLUMNS}
    answer = urllib3.request("POST", f"{url}{BASE}/series", body=body, headers=headers, timeout=60)
    assert answer.status == 200, answer.data
    reply = msgspec.msgpack.decode(answer.data, type=ColumnarReply)
    if not reply.series:
        return Points.empty()
    (found,) = reply.series
    return Points(
        np.frombuffer(found.steps, "<i8"),
        np.frombuffer(found.timestamps, "<i8"),
        np.frombuffer(found.values, "<f8"),
    )


def compare(writer: Writer, points: Points) -> None:
    assert (np.diff(points.steps) > 0).all(), "a point is there twice or out of order"
    assert points == Points(points.steps, points.steps, values_of(points.steps)), "other bits"
    size = writer.points
    firsts, counts = np.unique(points.steps // size * size, return_counts=True)
    there = dict(zip(firsts.tolist(), counts.tolist(), strict=True))
    for first, acknowledged in writer.sent.items():
        present = there.pop(first, 0)
        assert present in ((size,) if acknowledged else (0, size)), (first, acknowledged)
    assert not there, "points that nobody sent"


def storm(
    data: Path,
    writers: list[Writer],
    rng: random.Random,
    kills: int,
    program: Sequence[str] = PROGRAM,
) -> int:
    """Kill the server so often; returns how many batches were acknowledged."""
    for kill in range(kills):
        with serving(data, program=program) as server:
            check_all(server, writers)
            with under_load(server, writers):
                time.sleep(rng.uniform(0.02, 0.5 if kill % 4 else 1.5))
                server.kill()
    return settle(data, writers)


@contextlib.contextmanager
def under_load(server: Served, writers: list[Writer]) -> Iterator[None]:
    """All writers at work until the block ends, or the server."""
    stop = threading.Event()
    threads = [threading.Thread(target=one.loop, args=(server.url, stop)) for one in writers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def settle(data: Path, writers: list[Writer]) -> int:
    """What is left is compared once more, and verified; how many batches were acknowledged."""
    with serving(data) as server:
        check_all(server, writers)
        assert server.stop() == 0
    found = asyncio.run(verify(data))
    assert found.problems == []
    return sum(sum(writer.sent.values()) for writer in writers)


def check_all(server: Served, writers: list[Writer]) -> None:
    for writer in writers:
        create(server.url, writer.run_id)
        compare(writer, stored(server.url, writer.run_id, writer.next_step))


def writers() -> list[Writer]:
    return [Writer(new_run_id("default")) for _ in range(3)]


@pytest.mark.timeout(600)
def test_a_killed_server_lost_nothing_that_it_acknowledged(tmp_path: Path):
    acknowledged = storm(tmp_path / "data", writers(), random.Random(SEED), kills=20)
    assert acknowledged > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(1, 5))
def test_a_server_killed_two_hundred_times_lost_nothing(tmp_path: Path, number: int):
    """Four times fifty."""
    acknowledged = storm(tmp_path / "data", writers(), random.Random(SEED + number), kills=50)
    sys.stderr.write(f"50 kills: {acknowledged:,} batches acknowledged, none lost\n")
    assert acknowledged > 500


@pytest.mark.timeout(600)
def test_a_server_that_acknowledges_before_it_commits_is_caught(tmp_path: Path):
    """The same kills, and a server whose only fault is the order of those two."""
    program = changed_server.__file__, "ack-first"
    with pytest.raises(AssertionError, match=r"\(\d+, True\)"):
        storm(tmp_path / "data", writers(), random.Random(SEED), kills=20, program=program)


def test_the_oracle_sees_a_lost_a_repeated_and_a_changed_point():
    """An oracle that cannot fail proves nothing."""
    writer = Writer("r", POINTS, {0: True})
    steps = np.arange(POINTS, dtype="<i8")
    compare(writer, Points(steps, steps, values_of(steps)))
    for damaged in (steps[:-1], np.append(steps, steps[-1]), steps[:0], np.append(steps, 9_999)):
        with pytest.raises(AssertionError):
            compare(writer, Points(damaged, damaged, values_of(damaged)))
    with pytest.raises(AssertionError):
        compare(writer, Points(steps, steps, -values_of(steps)))
