"""The benchmarks measure what they say: distinct points, whole replies, errors told apart."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import bodies
from benchmarks.load import Broken, Source, drive, reply_size
from stepwell import wire
from stepwell_tracker import schema

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [bodies.Shape(1, 1), bodies.Shape(10, 1), bodies.Shape(10, 100), bodies.Shape(1, 1_000)]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Point = tuple[str, int, int, float]


def body_of(source: Source) -> bytes:
    head, _, body = bytes(source()).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return body


def json_points(body: bytes) -> list[Point]:
    batch = msgspec.json.decode(body, type=schema.LogBatch)
    assert all(isinstance(point.timestamp, int) for point in batch.metrics)
    return [(m.key, m.step, int(m.timestamp), float(m.value)) for m in batch.metrics]  # type: ignore[arg-type]


def columnar_points(body: bytes) -> list[Point]:
    batch = msgspec.msgpack.decode(body, type=wire.ColumnarBatch)
    points: list[Point] = []
    for series in batch.series:
        steps = np.frombuffer(series.steps, np.int64).tolist()
        times = np.frombuffer(series.timestamps, np.int64).tolist()
        values = np.frombuffer(series.values, np.float64).tolist()
        points += [(series.key, *rest) for rest in zip(steps, times, values, strict=True)]
    return points


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_repeated_point_would_be_a_duplicate_and_cost_nothing(shape: bodies.Shape) -> None:
    as_json = bodies.json_batches("/x", shape, 3)
    as_columns = bodies.columnar_batches("/x", shape, 3)
    seen: set[Point] = set()
    for _ in range(20):
        points = json_points(body_of(as_json))
        assert len(points) == shape.points
        assert not seen.intersection(points)
        seen.update(points)
        columns = columnar_points(body_of(as_columns))
        by_place = [(key, step, at) for key, step, at, _ in columns]
        assert sorted(by_place) == sorted((key, step, at) for key, step, at, _ in points)
    assert len(seen) == 20 * shape.points
    assert len({point[1] for point in seen}) == 20 * shape.steps


def test_values_are_float32_since_random_doubles_would_not_compress() -> None:
    values = [point[3] for point in json_points(body_of(bodies.json_batches("/x", SHAPES[3], 1)))]
    assert values == np.array(values).astype(np.float32).astype(np.float64).tolist()
    assert len(set(values)) > 900


def test_a_head_cut_anywhere_is_no_reply() -> None:
    for cut in range(len(OK) - 2):
        assert reply_size(OK[:cut]) == 0
    assert reply_size(OK[:-2]) == reply_size(OK) == len(OK)


@pytest.fixture
def serve() -> Iterator[Callable[[list[list[bytes]]], int]]:
    """A server that answers each request of one connection with these pieces, then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = []

        def answer(replies: list[list[bytes]]) -> None:
            connection, _ = listener.accept()
            with connection:
                for pieces in replies:
                    connection.recv(65536)
                    for piece in pieces:
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        connection.sendall(piece)

        def start(replies: list[list[bytes]]) -> int:
            threads.append(threading.Thread(target=answer, args=(replies,)))
            threads[-1].start()
            port: int = listener.getsockname()[1]
            return port

        yield start
        for thread in threads:
            thread.join()


def test_replies_in_pieces_and_refusals_are_counted_once_each(
    serve: Callable[[list[list[bytes]]], int],
) -> None:
    busy = OK.replace(b"200 OK", b"503 Busy")
    port = serve([[OK], [OK[:10], OK[10:39], OK[39:]], [busy], [OK]])
    requests = iter([b"GET / HTTP/1.1\r\n\r\n"] * 4)
    tally = drive(port, [requests.__next__], 10)
    assert len(tally.latencies) == 3
    assert tally.errors == {503: 1}


def test_clients_that_keep_a_pace_are_spread_over_it(
    serve: Callable[[list[list[bytes]]], int],
) -> None:
    port = serve([[OK]] * 4)  # still there when the requests have ended
    requests = iter([b"GET / HTTP/1.1\r\n\r\n"] * 3)
    begun = time.perf_counter()
    tally = drive(port, [requests.__next__], 10, every_s=0.2)
    assert 0.4 <= time.perf_counter() - begun < 9
    assert len(tally.latencies) == 3


def test_a_server_that_dies_in_mid_reply_is_not_measured(
    serve: Callable[[list[list[bytes]]], int],
) -> None:
    port = serve([[OK], [OK[:20]]])
    requests = iter([b"GET / HTTP/1.1\r\n\r\n"] * 2)
    with pytest.raises(Broken):
        drive(port, [requests.__next__], 10)


def test_the_quick_form_prints_one_line_of_json_for_each_result(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "start", "one_step"],
        cwd=ROOT,
        env={**os.environ, "BENCH_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["name"] for line in lines] == ["start_empty", "memory_idle", "one_step"]
    for line in lines:
        assert line["met"] in (True, False)
        assert {"python", "sqlite", "stepwell"} <= line["versions"].keys()
        assert line["machine"]["cores"] >= 1
    step = lines[-1]
    assert step["figures"]["errors"] == step["baseline"]["errors"] == 0
    measured = step["figures"]["requests_per_s"] / step["baseline"]["requests_per_s"]
    assert step["ratio"] == pytest.approx(measured, rel=0.01)
    assert list(tmp_path.iterdir()) == []
