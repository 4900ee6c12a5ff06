"""Which requests may come in at all: the Host they ask for and the page they come from.

A tracker on loopback is open to every page that its user's browser shows, unless the server looks:
a page of another site is told by its Origin (cross-site requests), a rebound DNS name by its Host.
Both are checked on every request, whatever its path, before anything else.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from stepwell_tracker.config import Settings
from stepwell_tracker.errors import BadRequest, Forbidden, HeadersTooLarge, Refusal
from stepwell_tracker.http import HEADERS, problem_reply
from stepwell_tracker.mlflow.api import is_mlflow, route_path
from stepwell_tracker.mlflow.errors import error_reply

_SINGLE = frozenset({
    b"host", b"origin", b"x-tenant-id", b"x-mlflow-workspace", b"authorization",
    b"content-length", b"content-type", b"content-encoding", b"transfer-encoding",
})  # fmt: skip
"""Headers that decide something; two of a kind would let two readers decide differently."""


MAX_HEADERS = 256


class Gate:
    """ASGI middleware; it also leaves the headers as a dict in the scope."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = AllowedHosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope[HEADERS] = self._check(scope)
            except Refusal as refusal:
                answer = error_reply if is_mlflow(route_path(scope)) else problem_reply
                await answer(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> dict[bytes, bytes]:
        raw = scope["headers"]
        if len(raw) > MAX_HEADERS:
            raise HeadersTooLarge(f"a request has at most {MAX_HEADERS} headers")
        headers: dict[bytes, bytes] = dict(raw)
        if len(headers) != len(raw):
            names = [name for name, _ in raw]
            for name in _SINGLE:
                if names.count(name) > 1:
                    raise BadRequest(f"the header {name.decode()} is given twice")
        if (coding := headers.get(b"transfer-encoding")) and coding.strip().lower() != b"chunked":
            # The parser takes off chunks alone: what is left would be kept as if it were the body.
            raise BadRequest("Transfer-Encoding: no coding but chunked is supported")
        host = headers.get(b"host")
        if host is not None:
            self._hosts.check(host)
        elif scope.get("http_version") != "1.0":
            raise BadRequest("the Host header is missing")
        origin = headers.get(b"origin")
        if origin is not None and not self._hosts.same_site(origin, host):
            raise Forbidden(f"a page of {origin.decode('latin-1')} may not use this server")
        return headers


class AllowedHosts:
    """The names by which this server may be asked, by the address that it is bound to."""

    def __init__(self, settings: Settings) -> None:
        self._names = {name.lower() for name in settings.allowed_hosts}
        self._bound = settings.host.lower()
        self._any_literal = not is_loopback(self._bound)
        self._known = lru_cache(1024)(self._allows)

    def check(self, host: bytes) -> None:
        """Raises BadRequest for a name that is not this server's."""
        if not self._known(host):
            raise BadRequest(
                f"Host {host.decode('latin-1')!r} is not a name of this server;"
                " allow it with --allowed-hosts"
            )

    def same_site(self, origin: bytes, host: bytes | None) -> bool:
        """Whether a page comes from this server, or from a host that was allowed by name."""
        scheme, found, place = origin.lower().partition(b"://")
        if not found or scheme not in (b"http", b"https"):
            return False  # "null" too: a sandboxed page, a file
        if host is not None and place == host.lower():
            return True
        name = host_name(place)
        return name is not None and "*" not in self._names and self._listed(name)

    def _allows(self, host: bytes) -> bool:
        name = host_name(host)
        if name is None:
            return False
        if name == self._bound or is_loopback(name) or "*" in self._names or self._listed(name):
            return True
        return self._any_literal and is_literal(name)

    def _listed(self, name: str) -> bool:
        return name in self._names or any(f"*.{parent}" in self._names for parent in _parents(name))


def host_name(host: bytes) -> str | None:
    """The name in ``name``, ``name:port``, ``1.2.3.4:port`` or ``[::1]:port``, lower case."""
    text = host.decode("latin-1").lower()
    name, bracket, port = text.partition("]")
    if bracket:
        name = name.removeprefix("[")
    else:
        name, colon, port = text.partition(":")
        port = colon + port
    if not name or (port and not (port[0] == ":" and port[1:].isdigit() and port[1:].isascii())):
        return None
    return name


def is_literal(name: str) -> bool:
    """Whether it is an IP address; such a Host cannot come from a rebound DNS name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """``localhost``, 127.0.0.0/8 or ::1."""
    return name == "localhost" or (is_literal(name) and ipaddress.ip_address(name).is_loopback)


def _parents(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[i:]) for i in range(1, len(labels))]
