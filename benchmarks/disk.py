"""Bytes on disk a point, by file size, after compaction and a clean stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import fill
from benchmarks.api import Caller
from benchmarks.bodies import Floats
from benchmarks.meters import compacted
from benchmarks.plan import Plan
from benchmarks.processes import scratch, stepwell
from benchmarks.report import Result, at_most

_SERIES = 4


def disk(plan: Plan) -> Iterator[Result]:
    """A data directory of its own for each kind of series; a fresh one's size is subtracted from
    nothing: the whole file counts."""
    for name, noisy, limit in (("disk_noisy", True, 4.5), ("disk_smooth", False, 1.5)):
        with scratch() as folder:
            data = folder / "data"
            points = plan.disk_points // _SERIES
            with stepwell(data) as server, Caller(server.port) as caller:
                run_id = caller.create_run(name=name)
                for seed in range(_SERIES):
                    values: Floats = fill.noisy_loss(points, seed) if noisy else fill.smooth(points)
                    at = np.arange(points, dtype=np.int64), fill.times(points, seed)
                    fill.columns(caller, run_id, f"series_{seed}", at, values)
                done = compacted(server)
                running = calm_sizes(data, plan.calm_seconds)
            stopped = file_sizes(data)
            count = points * _SERIES
            yield Result(
                name,
                {
                    "bytes_per_point": round(sum(stopped.values()) / count, 3),
                    "running_db_bytes_per_point": round(running[".db"] / count, 3),
                    "running_wal_bytes": running[".db-wal"],
                    "compacted": float(done),
                },
                {"points": count, "series": _SERIES, "timestamps": "100 ms, up to 20 ms late"},
                goals=(at_most("bytes_per_point", limit),),
            )


def calm_sizes(data: Path, calm_seconds: float) -> dict[str, int]:
    """The sizes once they have not changed for a while: freed pages are given back when idle."""
    deadline, since, sizes = time.monotonic() + 90, time.monotonic(), file_sizes(data)
    while time.monotonic() < min(deadline, since + calm_seconds):
        time.sleep(0.5)
        if (now := file_sizes(data)) != sizes:
            since, sizes = time.monotonic(), now
    return sizes


def file_sizes(data: Path) -> dict[str, int]:
    """The bytes of database and write-ahead log of the default tenant."""
    sizes = {".db": 0, ".db-wal": 0}
    for path in (data / "tenants" / "default").glob("tenant.db*"):
        sizes[path.suffix] = sizes.get(path.suffix, 0) + path.stat().st_size
    return sizes
