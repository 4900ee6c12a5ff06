"""An HTTP load generator that is cheap enough to share two cores with the server: closed loops,
which wait for nothing but replies, or clients that keep a pace.

One process, one epoll, one keep-alive connection per client, requests encoded before the clock
started.  Measured where one send and receive over loopback cost 12 us: 40 us a request of 3 points
and 130 us one of 1,000 (99 kB), nearly all of it the kernel's, while the server is at 100 % of the
other core.  Blocking threads cost 55 us and a quarter of the throughput, by handing the GIL around;
a second process gains nothing where the server needs the other core.
"""

from __future__ import annotations

import gc
import heapq
import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles

Source = Callable[[], "bytes | bytearray | memoryview"]
"""The next request of one client, whole, head included; StopIteration when it has no more.
The buffer that it returned before is not looked at again."""

_DRAIN_SECONDS = 30.0
_HEAD_END = b"\r\n\r\n"


class Broken(Exception):
    """The server closed a connection in mid-reply, or did not answer within 30 s."""


@dataclass
class Tally:
    """What one round saw.  Latencies are seconds from before the send to the whole reply; of
    clients that keep a pace from when the request was due, so that waiting for a late reply counts.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """CPU of this process: divided by ``wall_s`` it is the generator's share of a core."""
    latencies: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[int] = field(default_factory=Counter)
    """Replies outside 2xx by status; they are in no other figure."""

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.wall_s

    def latency_ms(self) -> dict[str, float]:
        """p50, p99 and max."""
        if len(self.latencies) < 2:
            only = round(self.latencies[0] * 1e3, 3) if self.latencies else 0.0
            return {"p50_ms": only, "p99_ms": only, "max_ms": only}
        cuts = quantiles(self.latencies, n=100, method="inclusive")
        figures = {"p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": max(self.latencies)}
        return {name: round(value * 1e3, 3) for name, value in figures.items()}


def reply_size(data: bytes) -> int:
    """Bytes of head and body, or 0 while the head is incomplete."""
    end = data.find(_HEAD_END)
    if end < 0:
        return 0
    at = data.find(b"content-length:", 0, end)
    if at < 0:
        at = data[:end].lower().find(b"content-length:")
        if at < 0:
            return end + 4
    stop = data.find(b"\r", at)
    return end + 4 + int(data[at + 15 : stop])


class Client:
    """One connection with at most one request in flight."""

    __slots__ = ("_quick", "_source", "_unsent", "begun", "received", "socket")

    def __init__(self, port: int, source: Source, *, quick_ack: bool = False) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._quick = quick_ack
        self._source = source
        self._unsent: memoryview | None = None
        self.begun = 0.0
        self.received = b""

    def begin(self, due: float | None = None) -> bool:
        """Sends the next request; False where the kernel's buffer did not take all of it."""
        request = self._source()
        self.begun = due or time.perf_counter()
        sent = self.socket.send(request)
        if sent == len(request):
            return True
        self._unsent = memoryview(request)[sent:]
        return False

    def go_on(self) -> bool:
        """Sends more of a large request; True when all is sent."""
        if self._unsent is not None:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
            if self._unsent:
                return False
            self._unsent = None
        return True

    def receive(self) -> int:
        """The status of the reply once it is whole, else 0.  Raises Broken."""
        data = self.socket.recv(65536)
        if self._quick:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if not data:
            raise Broken("the server closed a connection")
        if self.received:
            data = self.received + data
        size = reply_size(data)
        if size == 0 or len(data) < size:
            self.received = data
            return 0
        self.received = b""
        return int(data[9:12])


def drive(
    port: int,
    sources: Sequence[Source],
    seconds: float,
    *,
    every_s: float = 0.0,
    quick_ack: bool = False,
    to_the_end: bool = False,
) -> Tally:
    """One closed-loop client per source for this long, or until all sources have ended; then waits
    for the replies under way.  Raises Broken.

    ``every_s``: each client has a request due so often, and the clients are spread over that time.

    ``quick_ack`` acknowledges each TCP segment at once, for servers without TCP_NODELAY.
    ``to_the_end`` counts the replies under way, and the time that they took, for servers so slow
    that they would be a good part of all.
    """
    tally = Tally()
    with _quiet_collector(), select.epoll() as poll:
        clients: dict[int, Client] = {}
        try:
            for source in sources:
                client = Client(port, source, quick_ack=quick_ack)
                clients[client.socket.fileno()] = client
            start = time.perf_counter()
            waiting = _loop(poll, clients, seconds, tally, every_s)
            _drain(poll, clients, waiting, tally if to_the_end else Tally())
            if to_the_end:
                tally.wall_s = time.perf_counter() - start
        finally:
            for client in clients.values():
                client.socket.close()
    return tally


def _loop(
    poll: select.epoll, clients: dict[int, Client], seconds: float, tally: Tally, every_s: float
) -> set[int]:
    """Answers which connections wait for a reply still."""
    cpu, start = time.process_time(), time.perf_counter()
    deadline, busy = start + seconds, set(clients)
    # When each that waits for no reply has a request due.
    resting = [(start + every_s * i / len(clients), fd) for i, fd in enumerate(clients)]
    for fd in clients:
        poll.register(fd, select.EPOLLIN)
    while busy and time.perf_counter() < deadline:
        while resting and resting[0][0] <= time.perf_counter():
            due, fd = heapq.heappop(resting)
            if not _begin(poll, clients[fd], due if every_s else None):
                busy.discard(fd)
        pause = resting[0][0] - time.perf_counter() if resting else 0.1
        for fd, mask in poll.poll(min(max(pause, 0.0), 0.1)):
            if not _serve(poll, fd, mask, clients[fd], tally):
                continue
            if every_s:
                heapq.heappush(resting, (clients[fd].begun + every_s, fd))
            elif not _begin(poll, clients[fd]):
                busy.discard(fd)
    tally.wall_s = time.perf_counter() - start
    tally.cpu_s = time.process_time() - cpu
    return busy - {fd for _, fd in resting}


def _begin(poll: select.epoll, client: Client, due: float | None = None) -> bool:
    """The next request; False where there is none."""
    try:
        if not client.begin(due):
            poll.modify(client.socket, select.EPOLLIN | select.EPOLLOUT)
    except StopIteration:
        return False
    return True


def _serve(poll: select.epoll, fd: int, mask: int, client: Client, tally: Tally) -> bool:
    """Moves one connection on; True when its reply is whole."""
    if mask & select.EPOLLOUT and client.go_on():
        poll.modify(fd, select.EPOLLIN)
    if not mask & ~select.EPOLLOUT:
        return False
    status = client.receive()
    if 200 <= status < 300:
        tally.latencies.append(time.perf_counter() - client.begun)
    elif status:
        tally.errors[status] += 1
    return status != 0


def _drain(poll: select.epoll, clients: dict[int, Client], waiting: set[int], tally: Tally) -> None:
    """Waits for what was sent before the deadline: it is not cut off."""
    deadline = time.perf_counter() + _DRAIN_SECONDS
    while waiting:
        if time.perf_counter() > deadline:
            raise Broken(f"{len(waiting)} replies did not come within {_DRAIN_SECONDS:.0f} s")
        for fd, mask in poll.poll(0.1):
            if _serve(poll, fd, mask, clients[fd], tally):
                waiting.discard(fd)


@contextmanager
def _quiet_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
