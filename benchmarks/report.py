"""One benchmark's result as one line of JSON: figures, baseline, goal, versions, machine."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.processes import scratch

Figures = dict[str, float]
_LIBRARIES = (
    *("stepwell", "msgspec", "starlette", "uvicorn", "uvloop", "httptools", "aiosqlite"),
    *("numpy", "pcodec", "zstandard"),
)


@dataclass(frozen=True)
class Goal:
    """A bound that DESIGN section 8 sets on one figure, or on ``ratio``."""

    figure: str
    limit: float
    at_least: bool = False

    def text(self) -> str:
        return f"{self.figure} {'>=' if self.at_least else '<='} {self.limit:g}"

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def at_least(figure: str, limit: float) -> Goal:
    return Goal(figure, limit, at_least=True)


def at_most(figure: str, limit: float) -> Goal:
    return Goal(figure, limit)


@dataclass
class Result:
    """``ratio`` is ours over the baseline's, of the medians of alternating rounds."""

    name: str
    figures: Figures
    settings: dict[str, float | str]
    baseline: Figures | None = None
    ratio: float | None = None
    goals: tuple[Goal, ...] = ()
    notes: list[str] = field(default_factory=list)

    def met(self) -> bool | None:
        """None where the design sets no goal."""
        if not self.goals:
            return None
        known = {**self.figures, "ratio": self.ratio}
        values = [(goal, known.get(goal.figure)) for goal in self.goals]
        return all(value is not None and goal.holds(value) for goal, value in values)

    def line(self, quick: bool) -> str:
        """``met`` of a quick run is an indication: its rounds are too short to judge by."""
        body = {
            "name": self.name,
            "figures": self.figures,
            "baseline": self.baseline,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "goal": "; ".join(goal.text() for goal in self.goals) or None,
            "met": self.met(),
            "quick": quick,
            "notes": self.notes,
            "settings": self.settings,
            "versions": versions(),
            "machine": machine(),
        }
        return msgspec.json.encode(body).decode()


@cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@cache
def machine() -> dict[str, str | float]:
    """CPU model, cores, memory, kernel, and the cost of a 4 KiB write with fsync on this disk."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 0,
        "memory_gb": round(pages * size / 2**30, 1),
        "system": platform.platform(),
        "load_1m": os.getloadavg()[0],
        "fsync_ms": _fsync_ms(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _fsync_ms(tries: int = 20) -> float:
    """The median cost of appending 4 KiB to a file and syncing it: what any durable write pays."""
    costs = []
    with scratch() as folder, (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(tries):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            costs.append(time.perf_counter() - start)
    return round(median(costs) * 1e3, 3)
