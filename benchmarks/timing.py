"""Repeated single calls: their median, 99th percentile and worst."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable

from benchmarks.load import Tally
from benchmarks.report import Figures


def repeat(call: Callable[[], object], times: int) -> Figures:
    """Latencies in ms of ``times`` calls, after one more that counts for nothing."""
    call()
    costs = array("d")
    for _ in range(times):
        start = time.perf_counter()
        call()
        costs.append(time.perf_counter() - start)
    return Tally(latencies=costs).latency_ms()


class Wrong(Exception):
    """An answer that is fast but not the right one counts for nothing."""


def expect(true: bool, what: str) -> None:
    if not true:
        raise Wrong(what)
