"""The commands' reader of the HTTP API: wire types in; a message and an exit code on failure."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3

from stepwell.ids import hash_of_run_id, parse_run_id, tenant_hash
from stepwell.wire import DEFAULT_PORT, TENANT_HEADER, Problem
from stepwell_tracker.cli import UNREACHABLE, WRONG_USE, fail
from stepwell_tracker.schema import PROBLEM, Tenants

BASE = "/api/v1/experiments"
TENANTS = "/api/v1/tenants"
TIMEOUT_S = 30.0
RETRIES = 2
RECONNECT_PAUSE_S = 0.5
NOT_FOR_US = (401, 403, 404)
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


def at_least(least: int) -> Callable[[str], int]:
    """A whole number of an option, from ``least`` on, for argparse."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return number


class Client:
    """One server as one tenant.  Reads only; every failure ends the command.

    ``patience_s`` is for how long a server that does not answer is waited for.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.patience_s = 0.0
        address = str(arguments.url).rstrip("/")
        self.url = address if "://" in address else f"http://{address}"
        headers = {"User-Agent": "stepwell-cli"}
        if arguments.tenant:
            headers[TENANT_HEADER] = arguments.tenant
        if token := os.environ.get("STEPWELL_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(
            headers=headers, timeout=TIMEOUT_S, retries=urllib3.Retry(RETRIES, redirect=0)
        )

    def ask_as_tenant_of(self, run: str) -> None:
        """From now on ask as the tenant that a run names, where none was given.

        Who may not see the list of tenants goes on asking as whom the server takes them for.
        """
        carried = hash_of_run_id(run)
        if carried is None or TENANT_HEADER in self._pool.headers:
            return
        known = self._found(TENANTS, Tenants)
        named = [name for name in known.tenants if tenant_hash(name) == carried] if known else []
        if len(named) == 1:
            self._pool.headers = {**self._pool.headers, TENANT_HEADER: named[0]}

    def get(self, path: str, kind: type[T], query: Query = ()) -> T:
        """GET below the API's base, decoded."""
        response = self._request("GET", f"{BASE}{path}", query=query)
        return self._decode(response.data, kind)

    def find(self, path: str, kind: type[T]) -> T | None:
        """The same; None where it is not there, or not for us."""
        return self._found(f"{BASE}{path}", kind)

    def _found(self, target: str, kind: type[T]) -> T | None:
        response = self._request("GET", target, allowed=NOT_FOR_US)
        return None if response.status in NOT_FOR_US else self._decode(response.data, kind)

    def post(self, path: str, body: msgspec.Struct, kind: type[T]) -> T:
        """POST a question below the API's base, decoded."""
        response = self._request("POST", f"{BASE}{path}", body=msgspec.json.encode(body))
        return self._decode(response.data, kind)

    def lines(self, path: str, query: Query = ()) -> Iterator[str]:
        """The lines of an endless answer, as they come; it ends when the connection does."""
        return _lines(self._request("GET", f"{BASE}{path}", query=query, stream=True))

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: bytes | None = None,
        stream: bool = False,
        allowed: tuple[int, ...] = (),
    ) -> urllib3.BaseHTTPResponse:
        address = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        options: dict[str, Any] = {"body": body, "preload_content": not stream}
        if stream:  # an event stream may be silent for long
            options["timeout"] = urllib3.Timeout(connect=TIMEOUT_S, read=None)
        if body is not None:
            options["headers"] = {**self._pool.headers, "Content-Type": "application/json"}
        try:
            response = self._pool.request(method, address, **options)
        except urllib3.exceptions.LocationValueError as error:
            fail(f"{self.url!r} is no address of a server: {error}", WRONG_USE)
        except urllib3.exceptions.HTTPError as error:
            if self._wait():
                return self._request(
                    method, path, query=query, body=body, stream=stream, allowed=allowed
                )
            cause = getattr(error, "reason", None) or error
            fail(f"no server answers at {self.url}: {cause}", UNREACHABLE)
        if response.status not in (200, *allowed):
            fail(f"{self.url} says: {_complaint(response)}")
        return response

    def _wait(self) -> bool:
        """Whether the server answers again while patience lasts."""
        deadline = time.monotonic() + self.patience_s
        while time.monotonic() < deadline:
            try:
                self._pool.request("GET", f"{self.url}/health", retries=False)
            except urllib3.exceptions.HTTPError:
                time.sleep(RECONNECT_PAUSE_S)
            else:
                return True
        return False

    def _decode(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            fail(f"{self.url} does not answer as a Stepwell server: {error}", UNREACHABLE)


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[str]:
    pending = b""
    try:
        for chunk in response.stream(65_536):
            *whole, pending = (pending + chunk).split(b"\n")
            yield from (line.rstrip(b"\r").decode(errors="replace") for line in whole)
    except urllib3.exceptions.HTTPError:
        return
    finally:
        response.close()


def dump(value: object) -> str:
    """A reply as indented JSON."""
    return json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)


def _complaint(response: urllib3.BaseHTTPResponse) -> str:
    if response.headers.get("Content-Type", "").startswith(PROBLEM):
        try:
            problem = msgspec.json.decode(response.data, type=Problem)
        except msgspec.MsgspecError:
            return f"status {response.status}"
        parts = [f"{error.path}: {error.detail}" for error in problem.errors]
        if problem.detail not in [error.detail for error in problem.errors]:
            parts.insert(0, problem.detail or problem.title)
        return "; ".join(parts)
    return f"status {response.status}"
