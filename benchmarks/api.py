"""One blocking keep-alive connection: for setting up, for filling, and for timing reads."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any, Self

import msgspec

from benchmarks.bodies import get, post
from benchmarks.load import Broken, reply_size
from stepwell import wire

_RUNS = "/api/v1/experiments/runs"


class Refused(Exception):
    """The server answered with a status outside 2xx."""


class Caller:
    """Answers are whole bodies.  ``headers`` are lines ending in CRLF, sent with each request."""

    def __init__(self, port: int, headers: str = "") -> None:
        self._headers, self._port = headers, port
        self._socket = _connected(port)
        self._buffer = bytearray(1 << 20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def get(self, path: str, accept: str = wire.JSON, headers: str = "") -> bytes:
        return self.send(get(path, accept, self._headers + headers))

    def post(
        self,
        path: str,
        body: object,
        content_type: str = wire.JSON,
        accept: str = wire.JSON,
        headers: str = "",
    ) -> bytes:
        """``body`` is encoded as the content type says."""
        json = content_type == wire.JSON
        encoded = msgspec.json.encode(body) if json else msgspec.msgpack.encode(body)
        headers = f"Accept: {accept}\r\n{self._headers}{headers}"
        return self.send(post(path, encoded, content_type, headers))

    def send(self, request: bytes | bytearray | memoryview) -> bytes:
        """Sends a whole request, head included; over a new connection where the server has closed
        the old one while it was idle.  Raises Refused and Broken."""
        size = self._exchange(request)
        if size == 0:
            self._socket.close()
            self._socket = _connected(self._port)
            size = self._exchange(request)
        if size == 0:
            raise Broken("the server closes connections without an answer")
        body_at = self._buffer.index(b"\r\n\r\n") + 4
        body = bytes(memoryview(self._buffer)[body_at:size])
        if self._buffer[9:10] != b"2":
            raise Refused(f"{bytes(self._buffer[9:12]).decode()}: {body[:500]!r}")
        return body

    def _exchange(self, request: bytes | bytearray | memoryview) -> int:
        """The size of the reply in the buffer, or 0 where the connection was closed before it."""
        filled, size = 0, 0
        try:
            self._socket.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            return 0
        while size == 0 or filled < size:
            if filled == len(self._buffer):
                self._buffer += bytes(len(self._buffer))
            count = self._socket.recv_into(memoryview(self._buffer)[filled:])
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if count == 0 and filled:
                raise Broken("the server closed the connection in mid-reply")
            if count == 0:
                return 0
            filled += count
            if size == 0:
                size = reply_size(bytes(self._buffer[: min(filled, 8192)]))
                if size > len(self._buffer):
                    self._buffer += bytes(size - len(self._buffer))
        return size

    def create_run(self, *, headers: str = "", **fields: Any) -> str:
        """A new run's id, in the experiment ``bench`` unless told otherwise."""
        body = {"experiment_name": "bench", **fields}
        return str(msgspec.json.decode(self.post(_RUNS, body, headers=headers))["run_id"])


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=120)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
