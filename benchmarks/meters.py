"""What the server says of itself in ``/metrics``: how much still waits for compaction."""

from __future__ import annotations

import time

from benchmarks.api import Caller
from benchmarks.processes import Server


def meter(port: int, name: str) -> float:
    """The value of ``stepwell_<name>``.  Raises KeyError where there is no such line."""
    with Caller(port) as caller:
        text = caller.get("/metrics").decode()
    for line in text.splitlines():
        key, _, value = line.rpartition(" ")
        if key == f"stepwell_{name}":
            return float(value)
    raise KeyError(name)


def compacted(server: Server, seconds: float = 240.0) -> bool:
    """Waits until no point waits in the journal and the server is calm: a run is compacted some
    seconds after its last point.  False when time ran out."""
    deadline = time.monotonic() + seconds
    while meter(server.port, "journal_points") > 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.25)
    return server.settle(max(5.0, deadline - time.monotonic()))
