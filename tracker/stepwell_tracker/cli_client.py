"""The commands' reader of the HTTP API: wire types in; a message and an exit code on failure."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec

from stepwell.ids import hash_of_run_id, parse_run_id, tenant_hash
from stepwell.wire import DEFAULT_PORT, PROBLEM, TENANT_HEADER, Problem, Tenants
from stepwell_tracker.cli import UNREACHABLE, WRONG_USE, fail

BASE = "/api/v1/experiments"
TENANTS = "/api/v1/tenants"
TIMEOUT_S = 30.0
RECONNECT_PAUSE_S = 0.5
T = TypeVar("T")
Query = Sequence[tuple[str, str | int]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that talks to a server."""
    parser.add_argument(
        "--url",
        default=os.environ.get("STEPWELL_URL") or f"http://127.0.0.1:{DEFAULT_PORT}",
        help="the server (STEPWELL_URL; %(default)s)",
    )
    parser.add_argument(
        "--tenant",
        default=os.environ.get("STEPWELL_TENANT") or None,
        help="whose runs (STEPWELL_TENANT; the server's default tenant, or what the run id names)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def run_id(text: str) -> str:
    """A run id as an argument, for argparse."""
    parsed = parse_run_id(text)
    if parsed is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no run id: 32 hex digits")
    return parsed


class Client:
    """One server as one tenant.  Reads only; every failure ends the command.

    ``patience_s`` is for how long a server that does not answer is waited for.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.patience_s = 0.0
        self.url = str(arguments.url).rstrip("/")
        self._place = _place(self.url)
        self._headers = {"User-Agent": "stepwell-cli"}
        if arguments.tenant:
            self._headers[TENANT_HEADER] = arguments.tenant
        if token := os.environ.get("STEPWELL_TOKEN"):
            self._headers["Authorization"] = f"Bearer {token}"

    def ask_as_tenant_of(self, run: str) -> None:
        """From now on ask as the tenant that a run names, where none was given."""
        carried = hash_of_run_id(run)
        if carried is None or TENANT_HEADER in self._headers:
            return
        known = self._decode(self._request("GET", TENANTS), Tenants).tenants
        named = [name for name in known if tenant_hash(name) == carried]
        if len(named) == 1:
            self._headers[TENANT_HEADER] = named[0]

    def get(self, path: str, kind: type[T], query: Query = ()) -> T:
        """GET below the API's base, decoded."""
        return self._decode(self._request("GET", _target(f"{BASE}{path}", query)), kind)

    def post(self, path: str, body: msgspec.Struct, kind: type[T]) -> T:
        """POST a question below the API's base, decoded."""
        return self._decode(self._request("POST", f"{BASE}{path}", msgspec.json.encode(body)), kind)

    def lines(self, path: str, query: Query = ()) -> Iterator[str]:
        """The lines of an endless answer, as they come; it ends when the connection does."""
        target = _target(f"{BASE}{path}", query)
        connection, answer = self._patiently(lambda: self._open("GET", target))
        if answer.status != 200:
            fail(f"{self.url} says: {_complaint(answer, answer.read())}")
        if connection.sock is not None:  # an event stream may be silent for long
            connection.sock.settimeout(None)
        return _lines(connection, answer)

    def _request(self, method: str, target: str, body: bytes | None = None) -> bytes:
        answer, data = self._patiently(lambda: self._whole(method, target, body))
        if answer.status != 200:
            fail(f"{self.url} says: {_complaint(answer, data)}")
        return data

    def _whole(self, method: str, target: str, body: bytes | None) -> tuple[HTTPResponse, bytes]:
        connection, answer = self._open(method, target, body)
        with contextlib.closing(connection):
            return answer, answer.read()

    def _open(
        self, method: str, target: str, body: bytes | None = None
    ) -> tuple[HTTPConnection, HTTPResponse]:
        connection = self._connection()
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        try:
            connection.request(method, self._place.path + target, body, headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _connection(self) -> HTTPConnection:
        host, port = self._place.hostname or "", self._place.port
        if self._place.scheme == "https":
            return HTTPSConnection(host, port, timeout=TIMEOUT_S)
        return HTTPConnection(host, port, timeout=TIMEOUT_S)

    def _patiently(self, ask: Callable[[], T]) -> T:
        while True:
            try:
                return ask()
            except (HTTPException, OSError) as error:
                if not self._wait():
                    cause = str(error) or type(error).__name__
                    fail(f"no server answers at {self.url}: {cause}", UNREACHABLE)

    def _wait(self) -> bool:
        """Whether the server answers again while patience lasts."""
        deadline = time.monotonic() + self.patience_s
        while time.monotonic() < deadline:
            try:
                self._whole("GET", "/health", None)
            except (HTTPException, OSError):
                time.sleep(RECONNECT_PAUSE_S)
            else:
                return True
        return False

    def _decode(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            fail(f"{self.url} does not answer as a Stepwell server: {error}", UNREACHABLE)


def _place(url: str) -> SplitResult:
    """The parts of an address; without a scheme it is http."""
    try:
        place = urlsplit(url if "://" in url else f"http://{url}")
        is_one = place.scheme in ("http", "https") and place.hostname and place.port != 0
    except ValueError:  # a port that is none, for one
        is_one = False
    if not is_one:
        fail(f"{url!r} is no address of a server", WRONG_USE)
    return place


def _target(path: str, query: Query) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _lines(connection: HTTPConnection, answer: HTTPResponse) -> Iterator[str]:
    pending = b""
    try:
        while chunk := answer.read1(65_536):
            *whole, pending = (pending + chunk).split(b"\n")
            yield from (line.rstrip(b"\r").decode(errors="replace") for line in whole)
    except (HTTPException, OSError):
        return
    finally:
        connection.close()


def dump(value: object) -> str:
    """A reply as indented JSON."""
    return json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)


def _complaint(answer: HTTPResponse, data: bytes) -> str:
    if answer.headers.get("Content-Type", "").startswith(PROBLEM):
        try:
            problem = msgspec.json.decode(data, type=Problem)
        except msgspec.MsgspecError:
            return f"status {answer.status}"
        fields = "".join(f"; {error.path}: {error.detail}" for error in problem.errors)
        return f"{problem.detail or problem.title}{fields}"
    return f"status {answer.status}"
