"""What the server counts about its requests, and everything that it counts as Prometheus text.

Counting is a dict entry and a few additions for each request; names, help and labels are put
together only when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from stepwell import __version__
from stepwell_storage.meters import SECONDS, Distribution

if TYPE_CHECKING:
    from stepwell_storage.store import Store

MEDIA: Final = "text/plain; version=0.0.4"
_LOG_BATCH: Final = "/log-batch"
_PAGE: Final = 4_096
STATUS: Final = "stepwell.status"
BEGUN: Final = "stepwell.begun"
_clock = time.perf_counter
Labels = dict[str, str]


class Observations:
    """Requests by route, method and status, and how long their answers took to begin."""

    def __init__(self) -> None:
        self.log_batch_seconds = Distribution(SECONDS)
        self._records: dict[tuple[Any, str, int], _Record] = {}

    def add(self, resource: Any, method: str, status: int, seconds: float) -> None:
        """``resource`` is what the route led to, and has its ``path``; None without a route."""
        record = self._records.get((resource, method, status))
        if record is None:
            record = self._records[resource, method, status] = self._record(resource)
        record.count += 1
        record.seconds += seconds
        if record.distribution is not None:
            record.distribution.add(seconds)

    def _record(self, resource: Any) -> _Record:
        is_log_batch = resource is not None and resource.path.endswith(_LOG_BATCH)
        return _Record(self.log_batch_seconds if is_log_batch else None)

    def requests(self) -> Iterator[tuple[Labels, int]]:
        for (resource, method, status), record in self._records.items():
            labels = {"route": _route(resource), "method": method, "status": str(status)}
            yield labels, record.count

    def seconds(self) -> Iterator[tuple[Labels, int, float]]:
        routes: dict[str, tuple[int, float]] = {}
        for (resource, _, _), record in self._records.items():
            count, seconds = routes.get(_route(resource), (0, 0.0))
            routes[_route(resource)] = (count + record.count, seconds + record.seconds)
        for route, (count, seconds) in routes.items():
            yield {"route": route}, count, seconds


class _Record:
    __slots__ = ("count", "distribution", "seconds")

    def __init__(self, distribution: Distribution | None) -> None:
        self.count = 0
        self.seconds = 0.0
        self.distribution = distribution


class Observed:
    """ASGI middleware, the outermost: counts each request.

    The answer leaves its status in the scope, a streamed one by ``begin``: to wrap ``send`` for
    that would cost every request more than all the counting.
    """

    def __init__(self, app: ASGIApp, observations: Observations) -> None:
        self._app = app
        self._add = observations.add

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = _clock()
        try:
            await self._app(scope, receive, send)
        except Exception:
            scope.setdefault(STATUS, 500)  # its answer is made outside of all middleware
            raise
        finally:
            if STATUS in scope:
                end = scope[BEGUN] if BEGUN in scope else _clock()
                resource = scope.get("endpoint")
                method = "any" if resource is None else scope["method"]
                self._add(resource, method, scope[STATUS], end - start)


def begin(scope: Scope, status: int) -> None:
    """A streamed answer begins: it is counted by this moment, however long it lasts."""
    scope[STATUS] = status
    scope[BEGUN] = _clock()


def exposition(store: Store, observations: Observations, streams: int, free_bytes: int) -> str:
    """Everything counted, in Prometheus' text format."""
    lines = [
        *_single("info", "gauge", "1, with the server's version", 1, {"version": __version__}),
        *_requests(observations),
        *_engine(store),
        *_single("event_streams", "gauge", "open streams of live events", streams),
        *_single("disk_free_bytes", "gauge", "free in the data folder's file system", free_bytes),
        *_single("resident_memory_bytes", "gauge", "of this process", _resident_bytes()),
    ]
    return "\n".join(lines) + "\n"


def _requests(observations: Observations) -> Iterator[str]:
    yield from _head("requests_total", "counter", "answers begun, by route, method and status")
    for labels, count in observations.requests():
        yield _line("requests_total", labels, count)
    yield from _head("request_seconds", "summary", "from a request to its answer's beginning")
    for labels, count, seconds in observations.seconds():
        yield _line("request_seconds_sum", labels, seconds)
        yield _line("request_seconds_count", labels, count)
    about = "the same for log-batch: an answer means committed and synced"
    yield from _histogram("log_batch_seconds", about, observations.log_batch_seconds)


def _engine(store: Store) -> Iterator[str]:
    meters, gauge, tenants = store.meters, store.gauge, store.opened()
    backlogs = [tenant.writer.backlog for tenant in tenants]
    yield from _single("points_total", "counter", "points accepted", meters.points)
    yield from _histogram("commit_seconds", "of a group, sync included", meters.commit_seconds)
    yield from _histogram("commit_group_requests", "requests per commit group", meters.group_jobs)
    yield from _single(
        "busy_total", "counter", "writes refused since the queue was full", meters.refused_busy
    )
    yield from _single("queue_bytes", "gauge", "waiting to be committed", gauge.bytes)
    yield from _single("queue_limit_bytes", "gauge", "its bound for the server", gauge.max_bytes)
    about = "waiting for compaction in the open tenants"
    yield from _single("journal_points", "gauge", about, sum(b.points for b in backlogs))
    yield from _single("journal_bytes", "gauge", about, sum(b.bytes for b in backlogs))
    yield from _histogram("compaction_seconds", "of units of compaction", meters.unit_seconds)
    yield from _single(
        "compacted_points_total", "counter", "journal points made into chunks", meters.unit_points
    )
    yield from _single("tenants", "gauge", "tenants on disk", len(store.names()))
    yield from _single("open_tenants", "gauge", "tenants that are open", len(tenants))


def _single(
    name: str, kind: str, about: str, value: float, labels: Labels | None = None
) -> Iterator[str]:
    yield from _head(name, kind, about)
    yield _line(name, labels or {}, value)


def _histogram(name: str, about: str, found: Distribution) -> Iterator[str]:
    yield from _head(name, "histogram", about)
    below = 0
    for bound, count in zip((*found.bounds, "+Inf"), found.counts, strict=True):
        below += count
        yield _line(f"{name}_bucket", {"le": str(bound)}, below)
    yield _line(f"{name}_sum", {}, found.sum)
    yield _line(f"{name}_count", {}, below)


def _head(name: str, kind: str, about: str) -> Iterable[str]:
    return f"# HELP stepwell_{name} {about}", f"# TYPE stepwell_{name} {kind}"


def _line(name: str, labels: Labels, value: float) -> str:
    """Labels are ours alone: route templates, methods, statuses and bounds need no escaping."""
    inner = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"stepwell_{name}{{{inner}}} {value}" if inner else f"stepwell_{name} {value}"


def _route(resource: Any) -> str:
    return "none" if resource is None else str(resource.path)


def _resident_bytes() -> int:
    """0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
