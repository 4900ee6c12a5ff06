"""Requests that no client would send: refused with a reason, bounded, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stepwell.wire import COLUMNS
from stepwell_storage.check import verify
from tests.crash import changed_server
from tests.crash.test_network_faults import (
    connection,
    log,
    memory,
    new_writer,
    open_files,
    request_of,
)
from tests.crash.test_server_kill import compare, stored
from tests.serving import Served, serving

MIB = 1024 * 1024
DEADLINE_S = 20.0
"""Far beyond the deadlines of a server with ``brisk-sweep``: 1 s a head, 1.5 a body, 3.75 idle."""


def running(changes: str) -> Callable[[pytest.TempPathFactory], Iterator[Served]]:
    """A fixture: a server with some changes, that ends well and whose data is whole."""

    def fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
        data = tmp_path_factory.mktemp("hostile") / "data"
        with serving(data, program=(changed_server.__file__, changes)) as server:
            yield server
            assert server.stop() == 0
        assert asyncio.run(verify(data)).problems == []

    return fixture


server = pytest.fixture(running("brisk-sweep"), scope="module", name="server")
narrow = pytest.fixture(running("few-files:256"), scope="module", name="narrow")
thrifty = pytest.fixture(running(f"small-arriving:{16 * MIB}"), scope="module", name="thrifty")


def answer_to(server: Served, request: bytes) -> bytes:
    """All that comes back until the server closes, or a whole answer is there."""
    with connection(server) as sock:
        with contextlib.suppress(ConnectionError):  # it may close before all of it was sent
            sock.sendall(request)
        return answer_on(sock)


def answer_on(sock: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in found and (more := sock.recv(65_536)):
            found += more
    return found


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def head(server: Served, method: str, path: str, *lines: str) -> bytes:
    host = f"Host: 127.0.0.1:{server.port}"
    return "\r\n".join([f"{method} {path} HTTP/1.1", host, *lines, "", ""]).encode()


def post(server: Served, run_id: str, *lines: str) -> bytes:
    return head(server, "POST", f"/api/v1/experiments/runs/{run_id}/log-batch", *lines)


# --- heads ----------------------------------------------------------------------------------------


def test_heads_that_no_client_sends_are_refused(server: Served):
    many = [f"X-{number}: y" for number in range(300)]
    assert status_of(answer_to(server, head(server, "GET", "/health", *many))) == 431
    long = "X-Long: " + "y" * 200_000
    assert status_of(answer_to(server, head(server, "GET", "/health", long))) in (0, 431)
    twice = ["X-Tenant-ID: one", "X-Tenant-ID: two"]
    runs = "/api/v1/experiments/runs"
    assert status_of(answer_to(server, head(server, "GET", runs, *twice))) == 400
    for strange in (b"\x00\xff", b"GET / HTTP/9.9", b"GET  ", b"PRI * HTTP/2.0"):
        assert status_of(answer_to(server, strange + b"\r\n\r\n")) in (0, 400, 408)
    both = ["Content-Length: 4", "Transfer-Encoding: chunked"]
    writer = new_writer(server)
    assert status_of(answer_to(server, post(server, writer.run_id, *both) + b"0\r\n\r\n")) == 400
    for codings in (["gzip, chunked"], ["gzip", "chunked"], ["chunked", "gzip"], ["identity"]):
        lines = [f"Transfer-Encoding: {coding}" for coding in codings]
        request = post(server, writer.run_id, *lines) + b"2\r\n{}\r\n0\r\n\r\n"
        assert status_of(answer_to(server, request)) == 400, codings
    for length in ("-1", "1e3", "99999999999999999999999", "4, 4"):
        request = post(server, writer.run_id, f"Content-Length: {length}")
        assert status_of(answer_to(server, request)) in (400, 413), length
    assert log(server, writer) < 2.0


def test_a_head_without_end_ends(server: Served):
    """A name, a value or ever more headers: the connection is over after 64 KiB of them."""
    before = memory(server)
    for piece in (b"x" * 10_000, b"X-A: " + b"y" * 990 + b"\r\n"):
        sent = 0
        with connection(server) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(b"GET /health HTTP/1.1\r\nX-First: ")
            while sent < 50 * MIB and not select.select([sock], [], [], 0)[0]:
                sock.sendall(piece)
                sent += len(piece)
            assert status_of(answer_on(sock)) in (0, 400, 431)
        assert sent < 50 * MIB
    assert memory(server) - before < 16 * MIB


def test_chunks_that_bring_nothing_end(server: Served):
    """Extensions and trailers are no data: they are bounded like a head."""
    writer = new_writer(server)
    begin = post(server, writer.run_id, f"Content-Type: {COLUMNS}", "Transfer-Encoding: chunked")
    before = memory(server)
    for start in (b"5;", b"0\r\nX-Trailer: "):
        sent = 0
        with connection(server) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(begin + start)
            while sent < 50 * MIB and not select.select([sock], [], [], 0)[0]:
                sock.sendall(b"y" * 10_000)
                sent += 10_000
        assert sent < 50 * MIB
    assert memory(server) - before < 16 * MIB
    assert log(server, writer) < 2.0


# --- bodies ---------------------------------------------------------------------------------------


def test_a_chunked_body_is_a_body(server: Served):
    writer = new_writer(server)
    whole = request_of(server, writer.run_id, 0)
    body = whole.partition(b"\r\n\r\n")[2]
    begin = post(server, writer.run_id, f"Content-Type: {COLUMNS}", "Transfer-Encoding: chunked")
    pieces = [body[at : at + 1_000] for at in range(0, len(body), 1_000)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    assert status_of(answer_to(server, begin + chunks + b"0\r\nX-Trailer: y\r\n\r\n")) == 200
    writer.sent[0], writer.next_step = True, 400
    assert status_of(answer_to(server, begin + b"fffffffffffffffffff\r\n")) in (0, 400)
    assert status_of(answer_to(server, begin + b"5\r\nabcdefgh")) in (0, 400)
    compare(writer, stored(server.url, writer.run_id))


def test_a_body_is_as_long_as_it_said(server: Served):
    """What is more is no part of it, and does not cut its answer; of less, nothing is written."""
    writer = new_writer(server)
    whole = request_of(server, writer.run_id, 0)
    with connection(server) as sock:
        sock.sendall(whole + b"surplus\r\n\r\n")
        answers = b""
        with contextlib.suppress(ConnectionError):
            while more := sock.recv(65_536):
                answers += more
    assert answers.startswith(b"HTTP/1.1 200")
    assert answers.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answers
    writer.sent[0], writer.next_step = True, 400
    with connection(server) as sock:
        sock.sendall(request_of(server, writer.run_id, 400)[:-1])
        sock.shutdown(socket.SHUT_WR)
        assert status_of(answer_on(sock)) in (0, 400, 408)
    compare(writer, stored(server.url, writer.run_id))


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br", "deflate", "gzip, identity"])
def test_packed_bodies_are_refused_unread(server: Served, encoding: str):
    """So there is no bomb to unpack."""
    writer = new_writer(server)
    lines = ["Content-Type: application/json", f"Content-Encoding: {encoding}", "Content-Length: 2"]
    assert status_of(answer_to(server, post(server, writer.run_id, *lines) + b"{}")) == 415


@pytest.mark.parametrize(
    ("media", "body"),
    [
        (COLUMNS, b"\x91" * 200_000),
        (COLUMNS, b"\x81\xa1a" * 100_000),
        (COLUMNS, b"\xdd\xff\xff\xff\xff"),
        (COLUMNS, b"\xc6\xff\xff\xff\xff"),
        ("application/json", b"[" * 200_000),
        ("application/json", b'{"a":' * 100_000),
    ],
    ids=["arrays", "maps", "a huge array", "a huge string", "json arrays", "json objects"],
)
def test_bodies_nested_or_sized_beyond_sense_are_refused(server: Served, media: str, body: bytes):
    writer, before = new_writer(server), memory(server)
    lines = [f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    assert status_of(answer_to(server, post(server, writer.run_id, *lines) + body)) in (400, 422)
    assert memory(server) - before < 16 * MIB
    assert log(server, writer) < 2.0


# --- deadlines ------------------------------------------------------------------------------------


def closed_within(sock: socket.socket, seconds: float) -> bytes:
    """What came before the server closed.  Raises TimeoutError."""
    sock.settimeout(seconds)
    found = b""
    with contextlib.suppress(ConnectionError):
        while more := sock.recv(65_536):
            found += more
    return found


def drip(sock: socket.socket, byte: bytes) -> bytes:
    """Send a byte now and then until the server answers or closes; the answer."""
    until = time.monotonic() + DEADLINE_S
    with contextlib.suppress(ConnectionError):
        while not select.select([sock], [], [], 0.1)[0]:
            assert time.monotonic() < until, "the server waits for ever"
            sock.sendall(byte)
    return answer_on(sock)


def test_a_head_or_body_that_drips_is_given_up(server: Served):
    writer, files = new_writer(server), open_files(server)
    with connection(server) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nX-Slow: ")
        assert status_of(drip(sock, b"y")) == 408
    with connection(server) as sock:
        request = request_of(server, writer.run_id, 0)
        sock.sendall(request[: len(request) // 2])
        assert status_of(drip(sock, request[-1:])) == 408
    with connection(server) as sock:
        path = f"/api/v1/experiments/runs/{writer.run_id}/artifacts/slow.bin"
        sock.sendall(head(server, "PUT", path, "Content-Length: 1000000") + b"z")
        assert status_of(drip(sock, b"z")) == 408
    compare(writer, stored(server.url, writer.run_id))
    assert open_files(server) <= files + 3


def test_a_slow_upload_that_goes_on_is_taken(server: Served):
    """10 kB a second is twenty times what is asked of a body."""
    writer = new_writer(server)
    path = f"/api/v1/experiments/runs/{writer.run_id}/artifacts/slow.bin"
    with connection(server) as sock:
        sock.sendall(head(server, "PUT", path, "Content-Length: 40000"))
        for _ in range(40):
            sock.sendall(b"z" * 1_000)
            time.sleep(0.1)
        assert status_of(answer_on(sock)) == 200


def test_connections_that_do_nothing_are_closed(server: Served):
    with connection(server) as unused, connection(server) as used:
        used.sendall(head(server, "GET", "/health"))
        assert closed_within(used, DEADLINE_S).startswith(b"HTTP/1.1 200")
        assert closed_within(unused, DEADLINE_S) == b""


def test_an_answer_that_nobody_takes_is_given_up(server: Served):
    writer = new_writer(server)
    with connection(server) as sock:
        sock.sendall(request_of(server, writer.run_id, 0, 100_000))
        assert answer_on(sock).startswith(b"HTTP/1.1 200")
    url = f"/api/v1/experiments/runs/{writer.run_id}/metrics/loss?limit=100000"
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            sock = stack.enter_context(connection(server))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.sendall(head(server, "GET", url))
        time.sleep(0.5)
        until, held = time.monotonic() + DEADLINE_S, sockets(server)
        while sockets(server) > held - 5:
            assert time.monotonic() < until, "the server waits for ever"
            time.sleep(0.1)


def sockets(server: Served) -> int:
    found = 0
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += str(link.readlink()).startswith("socket:")
    return found


# --- bounds ---------------------------------------------------------------------------------------


def test_bodies_that_arrive_together_are_bounded(thrifty: Served):
    """60 MB of halves of bodies, of which it takes 16: the others are told to come again."""
    writer, slow, before = new_writer(thrifty), new_writer(thrifty), memory(thrifty)
    request = request_of(thrifty, slow.run_id, 0, 50_000)
    refused = 0
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connection(thrifty)) for _ in range(100)]
        for sock in socks:
            with contextlib.suppress(ConnectionError):
                sock.sendall(request[: len(request) // 2])
            assert log(thrifty, writer) < 5.0
        for sock in select.select(socks, [], [], 2)[0]:
            answer = answer_on(sock)
            assert status_of(answer) == 503
            assert b"retry-after" in answer
            refused += 1
        assert refused >= 60
        assert memory(thrifty) - before < 3 * 16 * MIB
    until = time.monotonic() + DEADLINE_S
    while status_of(answer := answer_to(thrifty, request)) != 200:
        assert time.monotonic() < until, answer
    compare(writer, stored(thrifty.url, writer.run_id))
    assert len(stored(thrifty.url, slow.run_id)) == 50_000


def flood(server: Served, count: int, bound: int) -> None:
    """So many connections that do nothing: at most ``bound`` are held, and others are served."""
    writer = new_writer(server)
    slowest = 0.0
    with contextlib.ExitStack() as stack:
        for number in range(count):
            with contextlib.suppress(ConnectionError):
                stack.enter_context(connection(server))
            if number % (count // 20) == 0:
                slowest = max(slowest, log(server, writer))
        assert open_files(server) < bound + 60
        slowest = max(slowest, log(server, writer))
        sys.stderr.write(
            f"{count} idle connections: {open_files(server)} files open,"
            f" {memory(server) / 1e6:.0f} MB, slowest other request {slowest * 1_000:.0f} ms\n"
        )
    assert slowest < 2.0
    compare(writer, stored(server.url, writer.run_id))


def test_more_idle_connections_than_files_may_be_open(narrow: Served):
    flood(narrow, 600, 128)


@pytest.mark.slow
def test_ten_thousand_idle_connections(server: Served):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 11_000:
        pytest.skip(f"this process may open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    flood(server, 10_000, hard)


def test_a_flood_of_requests_that_never_end_leaves_room_for_none(narrow: Served):
    """Where nothing is idle, whoever comes is told so, and taken once there is room."""
    request = request_of(narrow, new_writer(narrow).run_id, 0)
    with contextlib.ExitStack() as stack:
        for _ in range(140):
            sock = stack.enter_context(connection(narrow))
            with contextlib.suppress(ConnectionError):
                sock.sendall(request[: len(request) // 2])
        time.sleep(0.5)
        answer = answer_to(narrow, head(narrow, "GET", "/health"))
        assert status_of(answer) in (0, 503)
    until = time.monotonic() + DEADLINE_S
    while status_of(answer_to(narrow, head(narrow, "GET", "/health"))) != 200:
        assert time.monotonic() < until, "there is room again"
        time.sleep(0.05)
