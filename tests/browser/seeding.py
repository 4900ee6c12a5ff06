"""Data for the browser's tests: a large sweep through the engine itself, the rest over HTTP."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from stepwell import ids, wire
from stepwell_storage.records import Batch, NewRun, RunChange
from stepwell_storage.store import Store
from stepwell_storage.tenant import Tenant

RUNS = "/api/v1/experiments/runs"
COLUMNAR = {"Content-Type": wire.COLUMNS}
START = 1_780_000_000_000
APART_MS = 600_000
KEYS = (
    "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr",
    *(f"layers/{n}/norm" for n in range(11)),
    "system/cpu", "system/memory", "system/gpu/0/util", "system/gpu/0/memory",
)  # fmt: skip
OPTIMIZERS = ("adam", "lion", "sgd")
STEPS = 12
AT_ONCE = 64
ODD = 77
"""The number of the run whose notes say that it is the odd one out."""

Floats = NDArray[np.float64]


def sweep(data: Path, tenant: str, count: int) -> None:
    """``count`` ended runs of 20 metrics in four experiments, each ten minutes after the last."""
    asyncio.run(_sweep(data, tenant, count))


async def _sweep(data: Path, name: str, count: int) -> None:
    store = await Store.open(data)
    async with store.lease(name, create=True) as tenant:
        for first in range(0, count, AT_ONCE):
            numbers = range(first, min(count, first + AT_ONCE))
            await asyncio.gather(*(_one(tenant, name, number) for number in numbers))
    await store.close()


async def _one(tenant: Tenant, name: str, number: int) -> None:
    rng = np.random.default_rng(number)
    lr = round(10 ** rng.uniform(-4, -1), 6)
    start = START + number * APART_MS
    optimizer = OPTIMIZERS[number % 3]
    params = {
        "lr": str(lr), "optimizer": optimizer, "depth": str(2 * (1 + number % 4)),
        "seed": str(number % 5), "batch_size": "64",
    }  # fmt: skip
    new = NewRun(
        ids.new_run_id(name, start),
        f"{optimizer}-{number:05d}",
        start,
        experiment_name=f"sweep-{number % 4}",
        description="the odd one out" if number == ODD else "",
        user_id="alice",
        tags={"team": "vision" if number % 2 else "risk"},
        params=params,
    )
    run, _ = await tenant.create_run(new)
    quality = 0.15 * abs(math.log10(lr) + 2.5) + 0.05 * (number % 3)
    values = np.concatenate([_values(key, quality, lr, rng) for key in KEYS])
    steps = np.tile(np.arange(STEPS), len(KEYS))
    times = start + steps * 5_000
    batch = Batch(
        list(KEYS), [STEPS] * len(KEYS), steps.tobytes(), times.tobytes(), values.tobytes()
    )
    await tenant.log(run.run_id, batch)
    status = "failed" if number % 50 == 7 else "finished"
    await tenant.change_run(run.run_id, RunChange(status=status, end_time=start + 60_000))


def _values(key: str, quality: float, lr: float, rng: np.random.Generator) -> Floats:
    steps = np.arange(STEPS)
    if "loss" in key:
        return 2 * np.exp(-steps / 4) + quality + rng.normal(0, 0.02, STEPS)
    if "accuracy" in key:
        return 1 - np.exp(-steps / 4) - quality / 3
    return np.full(STEPS, lr) if key == "lr" else rng.random(STEPS)


class Client(httpx.Client):
    """Calls that must succeed, in one tenant."""

    def __init__(self, url: str, tenant: str) -> None:
        super().__init__(base_url=url, headers={wire.TENANT_HEADER: tenant}, timeout=60)

    def run(self, name: str, **more: object) -> str:
        body = {"name": name, **more}
        return str(self.post(RUNS, json=body).raise_for_status().json()["run_id"])

    def call(self, method: str, run_id: str, path: str, **more: object) -> None:
        self.request(method, f"{RUNS}/{run_id}{path}", **more).raise_for_status()  # type: ignore[arg-type]

    def points(
        self, run_id: str, key: str, values: Floats, first: int = 0, times: object = None
    ) -> None:
        """Values at steps from ``first`` on, 10 ms apart."""
        steps = np.arange(first, first + len(values), dtype="<i8")
        at = START + steps * 10 if times is None else np.asarray(times, "<i8")
        series = [[key, steps.tobytes(), at.tobytes(), values.astype("<f8").tobytes()]]
        body = msgspec.msgpack.encode([wire.COLUMNS_FORMAT, series])
        self.call("POST", run_id, "/log-batch", content=body, headers=COLUMNAR)

    def keys(self, run_id: str, keys: list[str]) -> None:
        """One point for each key, at step 0: its number among them."""
        step, time = np.zeros(1, "<i8").tobytes(), np.full(1, START, "<i8").tobytes()
        for first in range(0, len(keys), 10_000):
            series = [
                [key, step, time, np.full(1, first + n, "<f8").tobytes()]
                for n, key in enumerate(keys[first : first + 10_000])
            ]
            body = msgspec.msgpack.encode([wire.COLUMNS_FORMAT, series])
            self.call("POST", run_id, "/log-batch", content=body, headers=COLUMNAR)

    def long_run(self, name: str, points: int, spike_at: int, **more: object) -> str:
        """A run with one long series, ``loss``, which has a single spike of 99."""
        rng = np.random.default_rng(spike_at)
        values = 2 * np.exp(-np.arange(points) / (points / 5)) + rng.normal(0, 0.05, points)
        values[spike_at] = 99
        run_id = self.run(name, experiment_name="long", start_time=START, **more)
        for at in range(0, points, 250_000):
            self.points(run_id, "loss", values[at : at + 250_000], at)
        return run_id
