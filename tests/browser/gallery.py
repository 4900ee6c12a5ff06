"""A small sweep that looks like one: what the pictures in docs/ show."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from tests.browser.seeding import Client

RUNS = 60
STEPS = 160
EVERY_MS = 4_000
OPTIMIZERS = ("adamw", "lion", "sgd")
EXPERIMENT = "birds-resnet"
NOTES = "Warm-up of 500 steps, then cosine. The floor of val/loss moved only when depth did."

Floats = NDArray[np.float64]


def hang(client: Client) -> str:
    """Log the sweep, newest run last; the id of that run, which still goes on."""
    ended = int(time.time() * 1_000)
    rng = np.random.default_rng(7)
    run_id = ""
    for number in range(RUNS):
        start = ended - (RUNS - number) * STEPS * EVERY_MS
        going = number == RUNS - 1
        run_id = _one(client, number, start, rng, going=going)
        if not going:
            status = "failed" if number % 23 == 11 else "finished"
            client.call("POST", run_id, f"/end?status={status}&end_time={start + STEPS * EVERY_MS}")
    return run_id


REGISTRY = "/api/2.0/mlflow"


def register(client: Client, name: str, run_ids: list[str]) -> None:
    """A registered model with a version from each run; the second is the champion."""
    create = f"{REGISTRY}/registered-models/create"
    tags = [{"key": "task", "value": "classification"}]
    body = {"name": name, "description": "Weights by name", "tags": tags}
    client.post(create, json=body).raise_for_status()
    for number, run_id in enumerate(run_ids, 1):
        run = client.get(f"{REGISTRY}/runs/get", params={"run_id": run_id}).json()["run"]
        version = {
            "name": name, "run_id": run_id, "source": run["info"]["artifact_uri"] + "/model",
            "description": "beats the old one by 2 %" if number == 2 else "",
            "tags": [{"key": "reviewed by", "value": "mara"}] if number == 2 else [],
        }  # fmt: skip
        client.post(f"{REGISTRY}/model-versions/create", json=version).raise_for_status()
    if len(run_ids) > 1:
        alias = {"name": name, "alias": "champion", "version": "2"}
        client.post(f"{REGISTRY}/registered-models/alias", json=alias).raise_for_status()


def _one(client: Client, number: int, start: int, rng: np.random.Generator, *, going: bool) -> str:
    optimizer = OPTIMIZERS[number // 4 % 3]
    lr = float(f"{10 ** rng.uniform(-3.6, -1.4):.2g}")
    depth, augment = int(rng.choice([18, 34, 50])), bool(number % 2)
    run_id = client.run(
        f"{optimizer}-{depth}-{number:02d}", experiment_name=EXPERIMENT, start_time=start,
        user_id="mara", description=NOTES if going else "",
        tags={"team": "vision", "stage": "sweep" if number < 40 else "refine"},
        params={"optimizer": optimizer, "lr": str(lr), "depth": str(depth), "augment": str(augment),
                "seed": str(number % 4), "batch_size": "128"},
    )  # fmt: skip
    steps = STEPS * 3 // 4 if going else STEPS
    miss = 0.3 * abs(np.log10(lr) + 2.4) + 0.06 * OPTIMIZERS.index(optimizer) - depth / 400
    times = start + np.arange(steps) * EVERY_MS
    for key, values in _series(steps, miss, lr, augment, rng).items():
        client.points(run_id, key, values, 0, times)
    lines = [
        {"stream": "stdout", "timestamp": int(at), "text": f"epoch {n // 16:2d}  step {n:4d}  ok"}
        for n, at in enumerate(times)
        if n % 4 == 0
    ]
    client.call("POST", run_id, "/console", json={"lines": lines})
    return run_id


def _series(
    steps: int, miss: float, lr: float, augment: bool, rng: np.random.Generator
) -> dict[str, Floats]:
    at = np.arange(steps) / STEPS
    fall = np.exp(-at * 6)
    floor = 0.42 + miss
    noise = rng.normal(0, 1, (6, steps))
    drift = np.cumsum(noise[5]) / 60
    overfit = (0.02 if augment else 0.22) * np.maximum(0, at - 0.55)
    return {
        "train/loss": floor - 0.18 * at + 2.2 * fall + 0.05 * noise[0],
        "train/grad_norm": 1 + 6 * fall + np.abs(noise[1]) * (0.3 + fall),
        "val/loss": floor + 2.1 * fall + overfit + 0.015 * noise[2],
        "val/accuracy": np.clip(0.96 - 0.22 * floor - 0.8 * fall - overfit, 0, 1)
        + 0.004 * noise[3],
        "lr": lr * np.minimum(1, at * 12) * (1 + np.cos(np.pi * at)) / 2,
        "throughput": 1_480 + 25 * noise[4] + 60 * drift,
        "system/gpu/0/util": np.clip(93 + 3 * noise[4], 0, 100),
        "system/gpu/0/memory": 30.2 + 0.4 * np.minimum(1, at * 30) + 0.01 * noise[1],
        "system/cpu": np.clip(41 + 6 * drift + 2 * noise[3], 0, 100),
        "system/memory": 22 + 3 * at + 0.05 * noise[2],
    }
