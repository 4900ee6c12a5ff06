"""Connections with bounds: how slowly a request may arrive, how long its head is, and how many.

uvicorn waits for ever for a head, for a body and for a client that reads its answer, and it takes
heads of any size.  Here one sweep every few seconds looks at all connections, so that a request
pays for none of it but an addition for each piece that arrives.

- A head is whole after HEAD_S, and has at most MAX_HEAD_BYTES (431); so have a chunked body's
  extensions and trailers between two pieces of data.
- A body brings MIN_BYTES_PER_S, or is given up after SLOW_S of less (408).  While the server itself
  does not read on, nothing is held against the client.
- An answer of which a client took nothing for UNREAD_S is given up.
- A connection without a request is closed after IDLE_S.
- There are at most ``limit`` connections.  Beyond it those that were idle for longest are closed;
  where none is idle, the newcomer is answered 503.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from stepwell_storage.descriptors import FILES_PER_TENANT, affordable_tenants
from stepwell_storage.errors import Busy
from stepwell_storage.store import Options
from stepwell_tracker.errors import BadRequest, HeadersTooLarge, TooSlow
from stepwell_tracker.http import problem_reply
from stepwell_tracker.transports import OneWrite

SWEEP_S = 5.0
HEAD_S = 20.0
SLOW_S = 30.0
MIN_BYTES_PER_S = 500
UNREAD_S = 60.0
IDLE_S = 75.0
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_FILES: Final = 65_536
SPARE_FILES: Final = 64
"""For artifacts that are sent, and what Python itself holds."""
LEAST_CONNECTIONS: Final = 32
EVICTED_AT_ONCE: Final = 8
"""Beyond the bound one in so many is closed, so that a flood does not look at all each time."""


class Connection(HttpToolsProtocol):
    """One of uvicorn's.  ``received`` counts bytes."""

    # Their types at uvicorn hide that they are None before the first request.
    scope: Any
    cycle: Any
    connections: set[Any]

    def __init__(self, *args: Any, limit: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit = limit
        self.received = 0
        self._silent = 0
        self._brought_body = False
        # What the last sweep saw, and since when it has been so.
        self._seen = self._unsent = 0
        self._standing: tuple[object, str] = (None, "idle")
        self._since = self.loop.time()

    # --- what arrives --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]  # all of one that is used
        if len(self.connections) > self._limit and not self._make_room():
            self.refuse(Busy("the server has as many connections as it can hold"))

    def data_received(self, data: bytes) -> None:
        self._brought_body = False
        super().data_received(data)
        self.received += len(data)
        cycle = self.cycle
        if self._brought_body or (cycle and cycle.scope is self.scope and not cycle.more_body):
            self._silent = 0
            return
        self._silent += len(data)
        if self._silent > MAX_HEAD_BYTES:
            self.refuse(HeadersTooLarge(f"a request's head has at most {MAX_HEAD_BYTES} bytes"))

    def on_body(self, body: bytes) -> None:
        self._brought_body = True
        super().on_body(body)

    @property
    def _is_in_head(self) -> bool:
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed: it does not cut the answer to the request before it."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            self.refuse(BadRequest(msg))
        else:
            cycle.keep_alive = False
            self.flow.pause_reading()

    # --- what does not -------------------------------------------------------------------------

    def _now(self) -> str:
        if self.transport.get_write_buffer_size():  # a finished answer's, too: it is not taken yet
            return "unread"
        if self._is_in_head:
            return "head"
        if self.cycle is None or self.cycle.response_complete:
            return "idle"
        if self.cycle.more_body and not self.flow.read_paused:
            return "body"
        return "work"

    def sweep(self, now: float, elapsed: float) -> None:
        """Give the connection up where it has stood still for too long."""
        state, unsent = self._now(), self.transport.get_write_buffer_size()
        brought, self._seen = self.received - self._seen, self.received
        progress = (
            (state == "body" and brought >= MIN_BYTES_PER_S * elapsed)
            or (state == "unread" and unsent != self._unsent)
            or (state == "idle" and brought)
        )
        self._unsent = unsent
        standing = (self.scope, state)
        if progress or state != self._standing[1] or self.scope is not self._standing[0]:
            self._standing, self._since = standing, now
            return
        bound = {"head": HEAD_S, "body": SLOW_S, "unread": UNREAD_S, "idle": IDLE_S}.get(state)
        if bound is None or now - self._since < bound:
            return
        if state in ("head", "body"):
            self.refuse(TooSlow("the request arrives too slowly"))
        elif state == "unread":
            self.transport.abort()
        else:
            self.transport.close()

    def refuse(self, why: Exception) -> None:
        """Answer, unless another answer would be cut by it, and end the connection."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(_refusal(why))
        else:
            if not (self._is_in_head or self.pipeline or cycle.response_started):
                self.transport.write(_refusal(why))
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _make_room(self) -> bool:
        """Close the longest idle ones; whether there was one."""
        idle = [one for one in self.connections if one is not self and one._now() == "idle"]
        idle.sort(key=lambda one: one._since)
        for one in idle[: max(1, self._limit // EVICTED_AT_ONCE)]:
            one.transport.close()
            self.connections.discard(one)
        return bool(idle)


def _refusal(why: Exception) -> bytes:
    reply = problem_reply(why)
    headers = [
        *reply.headers,
        (b"content-type", reply.media.encode()),
        (b"content-length", b"%d" % len(reply.body)),
    ]
    if b"connection" not in dict(headers):
        headers.append((b"connection", b"close"))
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return STATUS_LINE[reply.status] + lines + b"\r\n" + reply.body


async def sweep(connections: set[Any]) -> None:
    """Look at all connections again and again, until cancelled."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    while True:
        await asyncio.sleep(SWEEP_S)
        now = loop.time()
        for connection in list(connections):
            connection.sweep(now, now - before)
        before = now


def affordable_connections() -> int:
    """What the files that the process may open leave beside the tenants'; their limit is raised as
    far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft == resource.RLIM_INFINITY:
        soft = MAX_FILES
    elif soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    tenants = affordable_tenants(Options().max_open_tenants)
    return max(LEAST_CONNECTIONS, soft - SPARE_FILES - FILES_PER_TENANT * tenants)
