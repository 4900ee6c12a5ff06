"""Runs as plain Python objects, logged into a real tenant and searched in its real file."""

import asyncio
import math
import random
import sqlite3
import struct
from array import array
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stepwell_storage import search
from stepwell_storage.records import Batch, NewRun, RunChange, RunPage, RunQuery
from stepwell_storage.store import Options, Store
from stepwell_storage.tenant import Tenant

T = TypeVar("T")

METRICS = ["loss", "val/acc", "a b", 'we"ird`key', "über-größe", "x:1", "rare"]
PARAMS = ["lr", "model", "layers.0", "a b", "o'brien"]
TAGS = ["team", "mlflow.user", "日本", "a b"]
VALUES = [
    0.0, -0.0, 0.1, 0.3, 1.0, -1.0, 2.0**53, 2.0**53 + 2, math.nan, math.inf, -math.inf, 5e-324,
]  # fmt: skip
TEXTS = [
    "", "a", "A", "ab", "a%", "a_", "a\\", "é", "É", "it's", 'say "hi"', "x\ny", "日本語",
    "xgboost", "XGBoost", "0.1", "1e-1", " 10 ", "10", "9", "-0", "nan", "inf", "1_0", "0x10",
    "9007199254740993", "'; drop table run; --",
]  # fmt: skip
TIMES = [-(2**62), -1, 0, 1, 999, 1_000, 1_707_723_600_000, 2**62]
EXPERIMENTS = ["Default", "fraud", "it's", "a%"]
STATUSES = ["running", "finished", "failed", "killed", "scheduled"]


@dataclass
class Logged:
    """One run as it was logged.  ``metrics`` holds the values of steps 0, 1, 2, ..."""

    run_id: str
    name: str
    description: str
    experiment: str
    status: str
    start_time: int
    end_time: int | None = None
    user_id: str | None = None
    parent_run_id: str | None = None
    lifecycle: str = "active"
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    experiment_id: str = ""
    heartbeat_at: int = 0


def random_runs(seed: int, count: int) -> list[Logged]:
    """Runs that collide in everything: few keys, few values, ties, gaps and extremes."""
    rng = random.Random(seed)
    runs = []
    for number in range(count):
        status = rng.choice(STATUSES)
        ended = status in ("finished", "failed", "killed")
        runs.append(
            Logged(
                run_id=f"{rng.getrandbits(64):016x}{number:016x}",
                name=rng.choice(TEXTS),
                description=rng.choice(TEXTS),
                experiment=rng.choice(EXPERIMENTS),
                status=status,
                start_time=rng.choice(TIMES),
                end_time=rng.choice(TIMES) if ended else None,
                user_id=rng.choice([None, *TEXTS]),
                parent_run_id=rng.choice([None, f"{1:032x}", f"{2:032x}"]),
                lifecycle="deleted" if rng.random() < 0.2 else "active",
                params=_some(rng, PARAMS, TEXTS),
                tags=_some(rng, TAGS, TEXTS),
                metrics={
                    key: [rng.choice(VALUES) for _ in range(rng.randrange(1, 4))]
                    for key in METRICS
                    if rng.random() < (0.05 if key == "rare" else 0.7)
                },
            )
        )
    return runs


def _some(rng: random.Random, keys: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    return {key: rng.choice(values) for key in keys if rng.random() < 0.7}


async def log_into(tenant: Tenant, runs: Sequence[Logged]) -> None:
    for run in runs:
        new = NewRun(
            run.run_id,
            run.name,
            run.start_time,
            experiment_name=run.experiment,
            description=run.description,
            user_id=run.user_id,
            parent_run_id=run.parent_run_id,
            status="running" if run.end_time is not None else run.status,
            tags=run.tags,
            params=run.params,
        )
        await tenant.create_run(new)
        if run.metrics:
            await tenant.log(run.run_id, _batch(run))
        if run.end_time is not None:
            await tenant.change_run(run.run_id, RunChange(status=run.status, end_time=run.end_time))
        if run.lifecycle == "deleted":
            await tenant.change_run(run.run_id, RunChange(lifecycle="deleted"))
    for run in runs:
        stored = await tenant.run(run.run_id)
        run.experiment_id, run.heartbeat_at = stored.experiment_id, stored.heartbeat_at


def _batch(run: Logged) -> Batch:
    counts = [len(values) for values in run.metrics.values()]
    steps = [step for count in counts for step in range(count)]
    values = [value for of_key in run.metrics.values() for value in of_key]
    return Batch(
        keys=list(run.metrics),
        counts=counts,
        steps=array("q", steps).tobytes(),
        timestamps=array("q", [1_000 + step for step in steps]).tobytes(),
        values=struct.pack(f"<{len(values)}d", *values),
    )


def saved(folder: Path, runs: Sequence[Logged]) -> Path:
    """The database file of a tenant into which ``runs`` were logged."""

    async def log() -> None:
        store = await Store.open(folder, Options(compact=False))
        async with store.lease("t", create=True) as tenant:
            await log_into(tenant, runs)
        await store.close()

    asyncio.run(log())
    return folder / "tenants" / "t" / "tenant.db"


class FileReader:
    """Reads a tenant's file as the server's readers do, but in the caller's thread, so that a
    hypothesis test needs no event loop.  Remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        self.connection.execute("pragma case_sensitive_like=on").fetchall()
        self.asked: list[tuple[str, Sequence[Any]]] = []

    async def fetch(self, sql: str, binds: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self.asked.append((sql, binds))
        return self.connection.execute(sql, binds).fetchall()

    def plans(self) -> list[str]:
        """What SQLite does for the statements asked so far, a line for each step."""
        return [
            row[3]
            for sql, binds in self.asked
            for row in self.connection.execute(f"explain query plan {sql}", binds)
        ]

    def find(self, **query: Any) -> RunPage:
        return finished(search.find(self, RunQuery(**query)))

    def ids(self, **query: Any) -> list[str]:
        """The ids of every run found, in order."""
        return [run.run_id for run in self.find(limit=10_000, **query).runs]


class RunSet:
    """Runs, and the file that they were logged into.  Prints short: hypothesis prints it often."""

    def __init__(self, folder: Path, runs: list[Logged]) -> None:
        self.runs = runs
        self.reader = FileReader(saved(folder, runs))

    def __iter__(self) -> Iterator[Any]:
        return iter((self.runs, self.reader))


def finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("the coroutine waits for something")
