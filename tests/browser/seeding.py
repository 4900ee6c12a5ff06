"""Data for the browser's tests, sent over HTTP to a real server."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence

import httpx
import msgspec
import numpy as np

from stepwell import wire

RUNS = "/api/v1/experiments/runs"
START = 1_790_000_000_000
KEYS = (
    "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr",
    *(f"layers/{n}/norm" for n in range(11)),
    "system/cpu", "system/memory", "system/gpu/0/util", "system/gpu/0/memory",
)  # fmt: skip
OPTIMIZERS = ("adam", "lion", "sgd")
STEPS = 12
AT_ONCE = 24


def columns(series: dict[str, tuple[Sequence[int], Sequence[int], Sequence[float]]]) -> bytes:
    """A columnar body: for each key its steps, timestamps and values."""
    return msgspec.msgpack.encode([
        wire.COLUMNS_FORMAT,
        [
            [key, *(np.asarray(c, kind).tobytes() for c, kind in zip(parts, KINDS, strict=True))]
            for key, parts in series.items()
        ],
    ])  # fmt: skip


KINDS = ("<i8", "<i8", "<f8")
COLUMNAR = {"Content-Type": wire.COLUMNS}


def sweep(count: int, url: str, tenant: str) -> None:
    """``count`` finished runs of 20 metrics in four experiments, ten minutes apart."""
    asyncio.run(_sweep(count, url, tenant))


async def _sweep(count: int, url: str, tenant: str) -> None:
    headers = {wire.TENANT_HEADER: tenant}
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=60) as http:
        waiting = iter(range(count))

        async def worker() -> None:
            for number in waiting:
                await _one(http, number)

        await _one(http, next(waiting))  # the tenant is made by one
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def _one(http: httpx.AsyncClient, number: int) -> None:
    rng = random.Random(number)
    lr = round(10 ** rng.uniform(-4, -1), 6)
    start = START + number * 600_000
    optimizer = OPTIMIZERS[number % 3]
    body = {
        "experiment_name": f"sweep-{number % 4}",
        "name": f"{optimizer}-{number:05d}",
        "description": "the odd one out" if number == 77 else "",
        "params": {
            "lr": lr, "optimizer": optimizer, "depth": 2 * (1 + number % 4), "seed": number % 5,
            "batch_size": 64,
        },
        "tags": {"team": "vision" if number % 2 else "risk"},
        "user_id": "alice",
        "start_time": start,
    }  # fmt: skip
    run_id = (await http.post(RUNS, json=body)).raise_for_status().json()["run_id"]
    quality = 0.15 * abs(math.log10(lr) + 2.5) + 0.05 * (number % 3)
    series = {key: _series(key, quality, lr, start, rng) for key in KEYS}
    sent = await http.post(f"{RUNS}/{run_id}/log-batch", content=columns(series), headers=COLUMNAR)
    sent.raise_for_status()
    status = "failed" if number % 50 == 7 else "finished"
    end: dict[str, str | int] = {"status": status, "end_time": start + 60_000}
    (await http.post(f"{RUNS}/{run_id}/end", params=end)).raise_for_status()


def _series(
    key: str, quality: float, lr: float, start: int, rng: random.Random
) -> tuple[Sequence[int], Sequence[int], Sequence[float]]:
    steps = range(STEPS)
    times = [start + step * 5_000 for step in steps]
    if "loss" in key:
        return steps, times, [2 * math.exp(-s / 4) + quality + rng.gauss(0, 0.02) for s in steps]
    if "accuracy" in key:
        return steps, times, [1 - math.exp(-s / 4) - quality / 3 for s in steps]
    if key == "lr":
        return steps, times, [lr] * STEPS
    return steps, times, [rng.random() for _ in steps]


def long_run(http: httpx.Client, name: str, points: int, spike_at: int) -> str:
    """A run of one long series, ``loss``, with a single spike of 99.  Its id."""
    rng = np.random.default_rng(spike_at)
    values = 2 * np.exp(-np.arange(points) / (points / 5)) + rng.normal(0, 0.05, points)
    values[spike_at] = 99
    body = {"experiment_name": "long", "name": name, "start_time": START}
    run_id = http.post(RUNS, json=body).raise_for_status().json()["run_id"]
    for at in range(0, points, 250_000):
        steps = np.arange(at, min(points, at + 250_000))
        part = columns({"loss": (steps, START + steps * 10, values[at : at + len(steps)])})  # type: ignore[dict-item]
        http.post(f"{RUNS}/{run_id}/log-batch", content=part, headers=COLUMNAR).raise_for_status()
    return str(run_id)
