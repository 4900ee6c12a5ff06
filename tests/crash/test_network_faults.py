"""Clients that vanish, dawdle or give up: nothing half-written, nobody else held up."""

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stepwell.ids import new_run_id
from stepwell.wire import COLUMNS, COLUMNS_FORMAT, ColumnarBatch, ColumnarSeries
from stepwell_storage.check import verify
from tests.crash.test_server_kill import Writer, compare, create, stored, values_of
from tests.serving import Served, serving

POINTS = 400


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "data") as server:
        yield server
        assert server.stop() == 0
    assert asyncio.run(verify(tmp_path / "data")).problems == []


def request_of(server: Served, run_id: str, first: int, count: int = POINTS) -> bytes:
    """The bytes of a request that logs a stretch."""
    steps = np.arange(first, first + count, dtype="<i8")
    columns = steps.tobytes(), steps.tobytes(), values_of(steps).tobytes()
    body = msgspec.msgpack.encode(ColumnarBatch(COLUMNS_FORMAT, [ColumnarSeries("loss", *columns)]))
    head = (
        f"POST /api/v1/experiments/runs/{run_id}/log-batch HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.port}\r\nContent-Type: {COLUMNS}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextlib.contextmanager
def connection(server: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        yield sock


def reset(sock: socket.socket) -> None:
    """End the connection as a dead machine's peer sees it: with RST, not FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def new_writer(server: Served) -> Writer:
    writer = Writer(new_run_id("default"))
    create(server.url, writer.run_id)
    return writer


def log(server: Served, writer: Writer) -> float:
    """One more batch by a client that behaves, acknowledged; how many seconds it took."""
    first, writer.next_step = writer.next_step, writer.next_step + POINTS
    start = time.perf_counter()
    with connection(server) as sock:
        sock.sendall(request_of(server, writer.run_id, first))
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
    writer.sent[first] = True
    return time.perf_counter() - start


def memory(server: Served) -> int:
    """Resident bytes of the server."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def open_files(server: Served) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.mark.parametrize("orderly", [True, False], ids=["closed", "reset"])
def test_a_batch_that_was_cut_anywhere_is_there_whole_or_not_at_all(server: Served, orderly: bool):
    writer = new_writer(server)
    whole = len(request_of(server, writer.run_id, 0))
    for cut in [1, 40, whole // 3, whole - 1, whole]:
        first, writer.next_step = writer.next_step, writer.next_step + POINTS
        writer.sent[first] = False
        with connection(server) as sock:
            sock.sendall(request_of(server, writer.run_id, first)[:cut])
            time.sleep(0.02)
            if not orderly:
                reset(sock)
        log(server, writer)
    compare(writer, stored(server.url, writer.run_id))


def test_a_client_gave_up_and_repeats_what_it_never_saw_acknowledged(server: Served):
    """The answer is lost, not the batch: sent again, and again at once, it is there once."""
    writer = new_writer(server)
    for number in range(20):
        first, writer.next_step = writer.next_step, writer.next_step + POINTS
        writer.sent[first] = True
        request = request_of(server, writer.run_id, first)
        with connection(server) as lost:
            lost.sendall(request)
            time.sleep(0.002 * (number % 4))
            reset(lost)
        with connection(server) as one, connection(server) as two:
            one.sendall(request)
            two.sendall(request)
            for sock in (one, two):
                assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
    compare(writer, stored(server.url, writer.run_id))


def test_a_hundred_bodies_that_never_end_hold_nobody_up(server: Served):
    """Slow-loris: half a body, then a byte now and then.  Others go on, and memory stays."""
    writer, slow = new_writer(server), new_writer(server)
    log(server, writer)
    before, files = memory(server), open_files(server)
    with contextlib.ExitStack() as stack:
        lorises = [stack.enter_context(connection(server)) for _ in range(100)]
        request = request_of(server, slow.run_id, 0, 4_000)
        half = len(request) // 2
        for sock in lorises:
            sock.sendall(request[:half])
        slowest = 0.0
        for number in range(20):
            slowest = max(slowest, log(server, writer))
            for sock in lorises:
                sock.sendall(request[half + number : half + number + 1])
        assert slowest < 2.0, "a client that behaves had to wait for those that do not"
        assert memory(server) - before < 100 * len(request) * 2 + 32 * 1024 * 1024
        assert not len(stored(server.url, slow.run_id)), "half a body was written"
    compare(writer, stored(server.url, writer.run_id))
    until = time.monotonic() + 10
    while open_files(server) > files + 5 and time.monotonic() < until:
        time.sleep(0.05)
    assert open_files(server) <= files + 5, "connections of those that left are still there"


def test_clients_that_never_read_their_answers_cost_the_server_little(server: Served):
    """Large answers that nobody takes: what waits to be sent is bounded for each connection."""
    writer = new_writer(server)
    with connection(server) as sock:
        sock.sendall(request_of(server, writer.run_id, 0, 100_000))
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
    url = f"/api/v1/experiments/runs/{writer.run_id}/metrics/loss?limit=10000"
    ask = f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    with connection(server) as sock:
        sock.sendall(ask)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
    before = memory(server)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(connection(server))
            sock.sendall(ask * 50)  # pipelined: 50 answers of about 600 kB each
        time.sleep(2)
        assert memory(server) - before < 200 * 1024 * 1024
        log_after = new_writer(server)
        assert log(server, log_after) < 5.0
