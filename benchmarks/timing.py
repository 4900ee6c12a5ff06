"""Repeated single calls: their median, 99th percentile and worst."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable

from benchmarks.load import Tally
from benchmarks.processes import Server
from benchmarks.report import Figures


def repeat(call: Callable[[], object], times: int, server: Server) -> Figures:
    """Latencies in ms of ``times`` calls, after one more that counts for nothing; beside them what
    hardly moves when others use the machine: the least, and the server's CPU time for a call."""
    call()
    costs, before = array("d"), server.cpu_seconds()
    for _ in range(times):
        start = time.perf_counter()
        call()
        costs.append(time.perf_counter() - start)
    spent = server.cpu_seconds() - before
    return Tally(latencies=costs).latency_ms() | {
        "least_ms": round(min(costs) * 1e3, 3),
        "server_cpu_ms": round(spent / times * 1e3, 3),
    }


class Wrong(Exception):
    """An answer that is fast but not the right one counts for nothing."""


def expect(true: bool, what: str) -> None:
    if not true:
        raise Wrong(what)
