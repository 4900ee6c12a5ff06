"""Start to ready, memory idle, and a minute flat out with memory and files watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks import bodies
from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.meters import compacted, meter
from benchmarks.plan import Plan
from benchmarks.processes import Server, scratch, stepwell
from benchmarks.report import Figures, Result, at_most
from benchmarks.rounds import alone, measure, summary

_SHAPE = Shape(10, 100)
_CLIENTS = 16
_IDLE_SECONDS = 2.0


def start(plan: Plan) -> Iterator[Result]:
    ready, memory, shared, stops = [], [], [], []
    for _ in range(plan.starts):
        with scratch() as folder, stepwell(folder / "data") as server:
            time.sleep(_IDLE_SECONDS)
            ready.append(server.ready_s)
            memory.append(server.memory_mb())
            shared.append(server.memory_mb("Pss"))
            stops.append(round(server.stop(), 3))
    settings: dict[str, float | str] = {"starts": plan.starts, "data": "empty"}
    times = {"ready_s": median(ready), "slowest_s": max(ready), "stop_s": median(stops)}
    yield Result("start_empty", times, settings, goals=(at_most("ready_s", 1.0),))
    idle = {"rss_mb": median(memory), "pss_mb": median(shared)}
    yield Result("memory_idle", idle, settings, goals=(at_most("rss_mb", 120.0),))


def sustained(plan: Plan) -> Iterator[Result]:
    """Both formats flat out for a minute: throughput at its start and end, memory, file sizes."""
    for form, make in (("json", bodies.json_batches), ("columnar", bodies.columnar_batches)):
        with alone() as (server, data):
            with Caller(server.port) as caller:
                runs = [caller.create_run(name=f"{form}-{seed}") for seed in range(_CLIENTS)]
            sources = [make(bodies.log_path(run), _SHAPE, n) for n, run in enumerate(runs)]
            parts = 6
            with _Watch(server, data) as watch:
                rounds = [
                    measure(server, sources, plan.sustained_seconds / parts) for _ in range(parts)
                ]
            begun = time.monotonic()
            compacted(server)
            figures = summary(rounds, _SHAPE.points) | watch.figures()
            first, last = rounds[0].tally.per_second, rounds[-1].tally.per_second
            figures["last_over_first_part"] = round(last / first, 3)
            figures["compacted_after_s"] = round(time.monotonic() - begun, 1)
            yield Result(
                f"sustained_{form}",
                figures,
                {"clients": _CLIENTS, "points": 1_000, "seconds": plan.sustained_seconds},
                goals=(at_most("rss_max_mb", 500.0),),
            )


class _Watch:
    """Samples memory and file sizes twice a second while its block runs."""

    def __init__(self, server: Server, data: Path) -> None:
        self._measures: dict[str, Callable[[], float]] = {
            "rss": server.memory_mb,
            "journal": lambda: round(meter(server.port, "journal_bytes") / 2**20, 2),
            "db": lambda: _megabytes(data, "tenant.db"),
            "wal": lambda: _megabytes(data, "tenant.db-wal"),
        }
        self._seen: dict[str, list[float]] = {name: [] for name in self._measures}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.5):
            for name, measure_now in self._measures.items():
                self._seen[name].append(measure_now())

    def figures(self) -> Figures:
        """The greatest of each, and its medians in the second and the last quarter: the same
        where nothing piles up."""
        found: Figures = {}
        for name, seen in self._seen.items():
            quarter = max(1, len(seen) // 4)
            found[f"{name}_max_mb"] = max(seen)
            found[f"{name}_second_quarter_mb"] = median(seen[quarter : 2 * quarter] or seen)
            found[f"{name}_last_quarter_mb"] = median(seen[-quarter:])
        return found


def _megabytes(data: Path, name: str) -> float:
    path = data / "tenants" / "default" / name
    return round(path.stat().st_size / 2**20, 2) if path.exists() else 0.0
