"""A million points from MLflow's database and back: what an import and an export take."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import fill
from benchmarks.plan import Plan
from benchmarks.processes import scratch
from benchmarks.report import Result, at_most
from benchmarks.timing import expect
from stepwell_storage.points import Points
from stepwell_storage.records import Experiment
from stepwell_tracker.porting.mapping import blank
from stepwell_tracker.porting.mlflow_writer import MlflowDatabase

_RUNS, _KEYS = 20, 5
_MANY_RUNS, _MANY_KEYS = 1_000, 10
GOAL_S = 30.0


def porting(plan: Plan) -> Iterator[Result]:
    """Few long runs and many short ones; the baseline reads the same rows and throws them away."""
    for name, runs, keys in (("few", _RUNS, _KEYS), ("many", _MANY_RUNS, _MANY_KEYS)):
        with scratch() as folder:
            database, data = folder / "mlflow.db", folder / "data"
            points = _store(database, (runs, keys), plan.import_points)
            read = _timed(_discard, database)
            move = ("import", "mlflow", "--source", database, "--data", data)
            seconds, again = _timed(_run, *move), _timed(_run, *move)
            out = _timed(_run, "export", "mlflow", folder / "out", "--data", data)
            size = sum(path.stat().st_size for path in (data / "tenants").rglob("tenant.db*"))
            yield Result(
                f"import_mlflow_{name}",
                {
                    "seconds": round(seconds, 2),
                    "points_per_s": round(points / seconds),
                    "again_seconds": round(again, 2),
                    "export_seconds": round(out, 2),
                    "bytes_per_point": round(size / points, 2),
                    "source_bytes_per_point": round(database.stat().st_size / points, 1),
                },
                {"points": points, "runs": runs, "keys": keys, "source": "SQLite"},
                baseline={"seconds": round(read, 2), "points_per_s": round(points / read)},
                ratio=seconds / read,
                goals=(at_most("seconds", GOAL_S),),
                notes=["a process of its own, its start and the comparison of both sides included"],
            )


def _store(path: Path, shape: tuple[int, int], points: int) -> int:
    """How many points it holds: as many for each run and key."""
    runs, keys = shape
    each = points // (runs * keys)
    made = MlflowDatabase(path, "mlflow-artifacts:")
    made.experiment(Experiment("", 0, "Default", "", "active", 1, 1))
    steps = np.arange(each, dtype=np.int64)
    for number in range(runs):
        run = blank(f"{number:032x}", 0)
        run.name, run.status, run.end_time = f"run {number}", "finished", 2
        run.params = {f"p{index}": str(index) for index in range(5)}
        made.run(run, None)
        for key in range(keys):
            values = fill.noisy_loss(each, number * keys + key)
            made.series(
                run.run_id, f"metric_{key}", Points.of(steps, fill.times(each, key), values)
            )
    made.finish()
    return runs * keys * each


def _discard(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        cursor = connection.execute("select run_uuid, key, step, timestamp, value from metrics")
        while cursor.fetchmany(20_000):
            pass


def _run(*arguments: object) -> None:
    command = [sys.executable, "-m", "stepwell", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"it failed: {done.stdout}{done.stderr}")


def _timed(work: Callable[..., None], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start
