"""urllib3's connections, in shorter stretches (see courtesy.py), and for networks that are slow.

A body goes in blocks, each of which has the time that an answer has: a timeout of sockets is for
all of one send, and by default that of the connection.  And an answer must get on: a timeout starts
anew with each byte, so that a server that sends one now and then would hold its thread for days.

Imported with urllib3, and like that not before a transport is made.
"""

from __future__ import annotations

import io
import time
from http.client import HTTPResponse as Answer
from typing import TYPE_CHECKING, Any, Final

from urllib3 import HTTPConnectionPool, HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.wait import wait_for_read

from stepwell.courtesy import give_way

if TYPE_CHECKING:
    Base = HTTPConnection
else:
    Base = object


SEND_BYTES: Final = 64 * 1024
LEAST_BYTES_S: Final = 1_000
"""What an answer brings a second, at least, after its first ``timeout``."""


class _Steady(io.RawIOBase):
    """What comes in, unless it trickles."""

    def __init__(self, source: io.RawIOBase, patience_s: float | None) -> None:
        self._source = source
        self._end = None if patience_s is None else time.monotonic() + patience_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._end is not None and time.monotonic() > self._end:
            raise TimeoutError("the answer trickles in")
        count: int | None = self._source.readinto(buffer)
        if self._end is not None and count:
            self._end += count / LEAST_BYTES_S
        return count

    def fileno(self) -> int:
        return self._source.fileno()

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


class _SteadyAnswer(Answer):
    def __init__(self, sock: Any, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        self.fp = io.BufferedReader(_Steady(self.fp.detach(), sock.gettimeout()))


class _Courteous(Base):
    response_class = _SteadyAnswer

    def __init__(self, *args: Any, send_timeout_s: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self._send_timeout_s = send_timeout_s

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self._send_timeout_s)

    def send(self, data: Any) -> None:
        if not isinstance(data, bytes) or len(data) <= SEND_BYTES:
            return super().send(data)
        whole = memoryview(data)
        for start in range(0, len(whole), SEND_BYTES):
            super().send(whole[start : start + SEND_BYTES])
        return None

    def endheaders(self, *args: Any, **named: Any) -> None:
        give_way()
        if self.sock is not None:  # kept, with the timeout of the last answer
            self.sock.settimeout(self._send_timeout_s)
        super().endheaders(*args, **named)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as urllib3 has it
        if not wait_for_read(self.sock, self.timeout):
            raise TimeoutError("timed out")
        give_way()
        response = super().getresponse()
        give_way()
        return response


class CourteousHTTP(_Courteous, HTTPConnection): ...


class CourteousHTTPS(_Courteous, HTTPSConnection): ...


def make_courteous(pool: HTTPConnectionPool, send_timeout_s: float) -> None:
    """From its next connection on."""
    pool.conn_kw["send_timeout_s"] = send_timeout_s
    pool.ConnectionCls = CourteousHTTPS if pool.scheme == "https" else CourteousHTTP
