"""urllib3's connections, in shorter stretches: see courtesy.py.

Imported with urllib3, and like that not before a transport is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.wait import wait_for_read

from stepwell.courtesy import give_way

if TYPE_CHECKING:
    Base = HTTPConnection
else:
    Base = object


class _Courteous(Base):
    def endheaders(self, *args: Any, **named: Any) -> None:
        give_way()
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


def make_courteous(pool: HTTPConnectionPool) -> None:
    """From its next connection on."""
    pool.ConnectionCls = CourteousHTTPS if pool.scheme == "https" else CourteousHTTP
