"""A run of ten million points deleted for good beside one that logs: bytes back, memory, delays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import bodies, fill
from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.disk import calm_sizes, file_sizes
from benchmarks.meters import compacted
from benchmarks.plan import Plan
from benchmarks.processes import Server, scratch, stepwell
from benchmarks.report import Result, at_least, at_most
from stepwell import wire

_SERIES = 10
_KEPT_POINTS = 100_000
_BOUND_SECONDS = 120.0
_SHARE = 0.95
_RUNS = "/api/v1/experiments/runs"
_STEP = Shape(3, 1)
_PAUSE_SECONDS = 0.02


def deletion(plan: Plan) -> Iterator[Result]:
    """The server is started anew before it, so that its memory is that of an idle one."""
    with scratch() as folder:
        data = folder / "data"
        with stepwell(data) as server, Caller(server.port) as caller:
            kept = _run(caller, "kept", _KEPT_POINTS)
            compacted(server)
            before = _bytes(data)
            run_id = _run(caller, "long", plan.deletion_points)
            compacted(server)
        full = _bytes(data)
        with stepwell(data) as server:
            server.settle()
            watch = _Watch(server, data, full, before)
            with _logging(server.port, kept) as others, Caller(server.port) as caller:
                start = time.monotonic()
                path = f"{_RUNS}/{run_id}?purge=true"
                caller.send(bodies.head("DELETE", path, 0, wire.JSON))
                answered = time.monotonic() - start
                watch.until_back(start)
            calm_sizes(
                data, max(plan.calm_seconds, 5.0)
            )  # the log of the writes meanwhile goes as well
            last = watch.share(_bytes(data))
    yield Result(
        "deletion",
        {
            "seconds_to_95_percent": round(watch.seconds, 2),
            "share_returned": round(last, 4),
            "log_mb_meanwhile": round(watch.log / 1e6, 1),
            "memory_idle_mb": watch.idle_mb,
            "memory_growth_mb": round(watch.peak_mb - watch.idle_mb, 1),
            "answer_ms": round(answered * 1000, 1),
            "others_p99_ms": round(float(np.percentile(others, 99)) * 1000, 1),
            "mb_before": round(full / 1e6, 1),
        },
        {"points": plan.deletion_points, "series": _SERIES, "others": "a step every 20 ms"},
        goals=(
            at_most("seconds_to_95_percent", 60),
            at_least("share_returned", _SHARE),
            at_most("memory_growth_mb", 50),
        ),
    )


@dataclass
class _Watch:
    """``full`` and ``before``: the bytes with the run, and without it.

    The write-ahead log is told aside: its size is that of everybody's latest writes, and bounded.
    """

    server: Server
    data: Path
    full: int
    before: int
    seconds: float = _BOUND_SECONDS
    log: int = 0
    idle_mb: float = field(init=False)
    peak_mb: float = field(init=False)

    def __post_init__(self) -> None:
        self.idle_mb = self.peak_mb = self.server.memory_mb()

    def share(self, size: int) -> float:
        """How much of what the run took is back, if this many bytes are left."""
        return (self.full - size) / (self.full - self.before)

    def until_back(self, start: float) -> None:
        """Notes when it was, and the most memory; then watches for a while what comes after."""
        end = start + _BOUND_SECONDS
        while (now := time.monotonic()) < end:
            self.peak_mb = max(self.peak_mb, self.server.memory_mb())
            sizes = file_sizes(self.data)
            self.log = max(self.log, sizes[".db-wal"])
            if self.seconds == _BOUND_SECONDS and self.share(sizes[".db"]) >= _SHARE:
                self.seconds = now - start
                end = now + 5
            time.sleep(0.1)


@contextmanager
def _logging(port: int, run_id: str) -> Iterator[list[float]]:
    """Somebody else's training, a thread; its acknowledgements' seconds."""
    seconds: list[float] = []
    over = threading.Event()

    def work() -> None:
        source = bodies.json_batches(bodies.log_path(run_id), _STEP, 1)
        with Caller(port) as caller:
            while not over.wait(_PAUSE_SECONDS):
                start = time.perf_counter()
                caller.send(source())
                seconds.append(time.perf_counter() - start)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seconds
    finally:
        over.set()
        thread.join()


def _run(caller: Caller, name: str, points: int) -> str:
    run_id = caller.create_run(name=name)
    each = points // _SERIES
    for seed in range(_SERIES):
        at = np.arange(each, dtype=np.int64), fill.times(each, seed)
        fill.columns(caller, run_id, f"loss_{seed}", at, fill.noisy_loss(each, seed))
    return run_id


def _bytes(data: Path) -> int:
    return sum(file_sizes(data).values())
