"""A server on a real socket that keeps what arrives in dictionaries, and misbehaves when told to.

It speaks as much of the API as a client that logs needs.  Every fault is one that networks and
servers really have; ``faults`` says which, for how many requests, and for which of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from stepwell import wire
from stepwell.ids import new_run_id

Point = tuple[int, int, bytes]
"""Step, timestamp and the eight bytes of the value: points are equal bit for bit."""


class StoredRun:
    """What one run received.  ``points`` is a set, as the real server's identity of points is."""

    def __init__(self, created: wire.CreateRun) -> None:
        self.created = created
        self.status = "running"
        self.end_time: int | None = None
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.points: dict[str, set[Point]] = {}
        self.artifacts: dict[str, bytes] = {}
        self.console: list[wire.ConsoleLine] = []
        self.received = 0
        self.heartbeats = 0
        self.ranks: set[int | None] = set()
        self.deleted = False
        self.stop_requested = False

    def values(self, key: str) -> list[tuple[int, float]]:
        """(step, value) in order."""
        rows = sorted(self.points.get(key, ()))
        return [(step, struct.unpack("<d", value)[0]) for step, _, value in rows]


class Fault:
    """Something that happens to requests; ``times`` None is until it is taken away."""

    def __init__(
        self,
        kind: str,
        *,
        times: int | None = None,
        path: str = "",
        status: int = 503,
        headers: dict[str, str] | None = None,
        seconds: float = 0.0,
    ) -> None:
        self.kind = kind
        self.left = times
        self.path = path
        self.status = status
        self.headers = headers or {}
        self.seconds = seconds
        self.met = 0


class Seen(msgspec.Struct):
    """One request as it came, faults or not."""

    method: str
    path: str
    headers: dict[str, str]
    at: float


class FaultServer:
    """``with FaultServer() as server``; ``refuse`` may name the reason to refuse an item for."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.refuse: Callable[[str, str, Any], tuple[int, str] | None] = lambda *_: None
        self.lock = threading.RLock()
        server = self

        class Handler(_Handler):
            owner = server

        self._http = _Server(("127.0.0.1", port), Handler)
        self.port = int(self._http.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> FaultServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on the port refuses connections, and those that are open are closed."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.close_connections()
        self._http.server_close()

    def only_run(self) -> StoredRun:
        assert len(self.runs) == 1, list(self.runs)
        return next(iter(self.runs.values()))

    def requests(self, ending: str = "") -> list[Seen]:
        return [seen for seen in self.seen if seen.path.split("?")[0].endswith(ending)]

    def fault_for(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.path in path and (fault.left is None or fault.left > 0):
                    fault.met += 1
                    if fault.left is not None:
                        fault.left -= 1
                    return fault
        return None


class Problem(Exception):
    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients vanish here on purpose."""


class _Handler(BaseHTTPRequestHandler):
    owner: FaultServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536

    def do_POST(self) -> None:
        self._serve()

    do_GET = do_PUT = do_PATCH = do_POST

    def log_message(self, *_: object) -> None: ...

    def _serve(self) -> None:
        owner = self.owner
        owner.seen.append(Seen(self.command, self.path, dict(self.headers), time.monotonic()))
        length = int(self.headers.get("Content-Length", 0))
        fault = owner.fault_for(self.path)
        kind = fault.kind if fault else ""
        if kind == "reset mid-body":
            self.rfile.read(length // 2)
            return self._reset()
        body = self.rfile.read(length)
        if kind == "reset":
            return self._reset()
        if fault is not None and kind in ("hang", "slow"):
            time.sleep(fault.seconds)
            if kind == "hang":
                return self._reset()
        if fault is not None and kind == "status":
            problem = wire.Problem("about:blank", "fault", fault.status, "told to")
            return self._answer(fault.status, problem, fault.headers)
        if kind == "html":
            return self._answer(200, b"<html>please log in</html>")
        status, reply = self._apply(body)
        if kind == "reply lost":
            return self._reset()
        if kind == "half a reply":
            whole = msgspec.json.encode(reply)
            self._answer(status, whole[: len(whole) // 2], claimed=len(whole))
            return self._reset()
        return self._answer(status, reply)

    def _apply(self, body: bytes) -> tuple[int, Any]:
        try:
            with self.owner.lock:
                status, reply = _route(self.owner, self.command, self.path, body)
        except Problem as problem:
            status = problem.status
            reply = wire.Problem("about:blank", "Refused", status, problem.detail)
        return status, reply

    def _answer(
        self,
        status: int,
        reply: Any,
        headers: dict[str, str] | None = None,
        claimed: int | None = None,
    ) -> None:
        body = reply if isinstance(reply, bytes) else msgspec.json.encode(reply)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _reset(self) -> None:
        """RST instead of FIN: what a dying machine or a middlebox does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _route(owner: FaultServer, method: str, target: str, body: bytes) -> Any:
    parts = urlsplit(target)
    path = parts.path.removeprefix("/prefix").removeprefix("/api/v1/experiments/runs")
    if method == "POST" and path == "":
        return _create(owner, msgspec.json.decode(body, type=wire.CreateRun))
    run_id, _, rest = path.strip("/").partition("/")
    run = owner.runs.get(run_id)
    if run is None:
        raise Problem(404, f"there is no run {run_id}")
    if run.deleted:
        raise Problem(409, "the run is deleted")
    if rest == "log-batch":
        return _log(owner, run, run_id, msgspec.msgpack.decode(body, type=wire.ColumnarBatch))
    if rest == "console":
        return _console(owner, run, run_id, parse_qs(parts.query), body)
    if rest == "end":
        query = parse_qs(parts.query)
        run.status, run.end_time = query["status"][0], int(query["end_time"][0])
        return 200, wire.EndReply("Run ended", run_id, run.status, 1.0)  # type: ignore[arg-type]
    if method == "PATCH":
        run.status = msgspec.json.decode(body)["status"]
        return 200, _shown(run_id, run)
    if method == "PUT":
        return _put(owner, run, unquote(rest.removeprefix("artifacts/")), body)
    raise Problem(404, f"no such path: {target}")


def _create(owner: FaultServer, created: wire.CreateRun) -> Any:
    run_id = created.run_id or new_run_id("default")
    if refusal := owner.refuse("run", created.name or "", created):
        raise Problem(*refusal)
    known = run_id in owner.runs
    run = owner.runs.setdefault(run_id, StoredRun(created))
    return 200 if known else 201, _shown(run_id, run)


def _shown(run_id: str, run: StoredRun) -> dict[str, Any]:
    shown = {"run_id": run_id, "name": run.created.name or "quiet-otter-7", "status": run.status}
    return shown | ({"stop_requested": True} if run.stop_requested else {})


def _log(owner: FaultServer, run: StoredRun, run_id: str, batch: wire.ColumnarBatch) -> Any:
    """All of it, or nothing."""
    points = [(key, point) for series in batch.series for key, point in _points(series)]
    for key, point in points:
        if refusal := owner.refuse("point", key, struct.unpack("<d", point[2])[0]):
            raise Problem(*refusal)
    for key, value in batch.params.items():
        if run.params.get(key, value) != value:
            raise Problem(409, f"parameter {key} has another value already")
        if refusal := owner.refuse("param", key, value):
            raise Problem(*refusal)
    for key, value in batch.tags.items():
        if refusal := owner.refuse("tag", key, value):
            raise Problem(*refusal)
    for key, point in points:
        run.points.setdefault(key, set()).add(point)
    run.received += len(points)
    run.params |= batch.params
    run.tags |= batch.tags
    run.ranks.add(batch.rank)
    run.heartbeats += not (points or batch.params or batch.tags)
    accepted = wire.Accepted(len(points), len(batch.params), len(batch.tags))
    return 200, wire.BatchReply(run_id, accepted, run.stop_requested)


def _points(series: wire.ColumnarSeries) -> Iterator[tuple[str, Point]]:
    steps, stamps = memoryview(series.steps).cast("q"), memoryview(series.timestamps).cast("q")
    assert len(series.values) == len(series.steps) == len(series.timestamps), series.key
    for at, (step, stamp) in enumerate(zip(steps, stamps, strict=True)):
        yield series.key, (step, stamp, series.values[at * 8 : at * 8 + 8])


def _console(
    owner: FaultServer, run: StoredRun, run_id: str, query: dict[str, list[str]], body: bytes
) -> Any:
    if not body:
        first = max(0, len(run.console) - int(query["tail"][0]))
        entries = [
            wire.ConsoleEntry(number, line.stream, line.timestamp, line.text)
            for number, line in enumerate(run.console[first:], first)
        ]
        return 200, wire.ConsolePage(run_id, entries, len(run.console))
    lines = msgspec.json.decode(body, type=wire.ConsoleLines).lines
    for line in lines:
        if refusal := owner.refuse("line", line.stream, line.text):
            raise Problem(*refusal)
    run.console += lines
    return 200, wire.ConsoleReply(run_id, len(lines))


def _put(owner: FaultServer, run: StoredRun, path: str, body: bytes) -> Any:
    if refusal := owner.refuse("artifact", path, body):
        raise Problem(*refusal)
    run.artifacts[path] = body
    return 201, wire.ArtifactReply(path, len(body), hashlib.sha256(body).hexdigest())
