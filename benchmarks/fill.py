"""Fills a server through its API: long series, and thousands of runs to search in."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import msgspec
import numpy as np

from benchmarks import bodies
from benchmarks.api import Caller
from benchmarks.bodies import Floats, Ints
from benchmarks.load import Broken, drive
from stepwell import ids, wire
from stepwell_tracker import schema

_POINTS_PER_REQUEST = 10_000
_CLIENTS = 16
_METRICS = (
    *("train_loss", "val_loss", "train_accuracy", "val_accuracy", "f1", "auc"),
    *("precision", "recall", "throughput", "gradient_norm"),
)
_MODELS = ("resnet50", "vit-base", "xgboost", "mlp")
_OPTIMIZERS = ("adamw", "sgd", "lion")
_BOUND_SECONDS = 600.0
START_MS = 1_707_723_600_000


def times(count: int, seed: int) -> Ints:
    """A step every 100 ms, each up to 20 ms late: the clock of a real training loop."""
    late = np.random.default_rng(seed).integers(0, 20, count)
    return START_MS + 100 * np.arange(count, dtype=np.int64) + late


def noisy_loss(count: int, seed: int) -> Floats:
    """A falling loss with noise, float32 as a framework computes it."""
    noise = np.random.default_rng(seed).standard_normal(count)
    falling = 0.1 + 2.2 * np.exp(-5 * np.arange(count) / count)
    return (falling * (1 + 0.08 * noise)).astype(np.float32).astype(np.float64)


def smooth(count: int) -> Floats:
    """A learning rate: linear warm-up, then a linear decay, float64."""
    step, warm = np.arange(count, dtype=np.float64), count // 20
    return np.where(step < warm, 3e-4 * step / warm, 3e-4 * (count - step) / (count - warm))


def columns(caller: Caller, run_id: str, key: str, at: tuple[Ints, Ints], values: Floats) -> None:
    """Logs one series; ``at`` are its steps and timestamps."""
    for first in range(0, len(values), _POINTS_PER_REQUEST):
        part = slice(first, first + _POINTS_PER_REQUEST)
        series = wire.ColumnarSeries(
            key, at[0][part].tobytes(), at[1][part].tobytes(), values[part].tobytes()
        )
        batch = wire.ColumnarBatch(wire.COLUMNS_FORMAT, [series])
        caller.post(bodies.log_path(run_id), batch, wire.COLUMNS)


def loss_series(port: int, count: int, points: int) -> tuple[str, list[str]]:
    """A run with ``count`` noisy series of ``points`` each: its id and their keys."""
    keys = [f"loss_{index:03d}" for index in range(count)]
    with Caller(port) as caller:
        run_id = caller.create_run(name="long")
        for seed, key in enumerate(keys):
            steps = np.arange(points, dtype=np.int64)
            columns(caller, run_id, key, (steps, times(points, seed)), noisy_loss(points, seed))
    return run_id, keys


def runs(port: int, count: int, tenant: str) -> None:
    """Runs with ten parameters, ten metrics and two tags each."""
    header = f"{wire.TENANT_HEADER}: {tenant}\r\n"
    identities = [ids.new_run_id(tenant, START_MS + index) for index in range(count)]
    for make in (_creations, _last_metrics):
        parts = [
            make(identities, range(first, count, _CLIENTS), header) for first in range(_CLIENTS)
        ]
        done = drive(port, [part.__next__ for part in parts], _BOUND_SECONDS)
        if done.errors:
            raise Broken(f"filling failed: {dict(done.errors)}")


def labels(index: int) -> tuple[dict[str, str], dict[str, float]]:
    """The ten parameters and the ten last metrics of a run."""
    random = Random(index)
    params = {
        "learning_rate": f"{10 ** random.uniform(-5, -1):.6f}",
        "batch_size": str(2 ** random.randrange(4, 10)),
        "model": random.choice(_MODELS),
        "optimizer": random.choice(_OPTIMIZERS),
        "dropout": f"{random.uniform(0, 0.5):.3f}",
        "layers": str(random.randrange(2, 48)),
        "weight_decay": f"{10 ** random.uniform(-6, -2):.7f}",
        "epochs": str(random.randrange(1, 200)),
        "seed": str(index),
        "dataset": f"dataset-{index % 5}",
    }
    return params, {key: random.random() for key in _METRICS}


def _creations(identities: list[str], mine: range, header: str) -> Iterator[bytes]:
    for index in mine:
        body = wire.CreateRun(
            experiment_name=f"experiment-{index % 20}",
            name=f"run-{index}",
            run_id=identities[index],
            user_id=f"user-{index % 7}@example.com",
            start_time=START_MS + 60_000 * index,
            tags={"host": f"node-{index % 16}", "commit": f"{index:040x}"},
            params=dict(labels(index)[0]),
        )
        yield bodies.post("/api/v1/experiments/runs", msgspec.json.encode(body), wire.JSON, header)


def _last_metrics(identities: list[str], mine: range, header: str) -> Iterator[bytes]:
    for index in mine:
        values = labels(index)[1].items()
        batch = schema.LogBatch([schema.Metric(key, v, 100, START_MS + index) for key, v in values])
        body = msgspec.json.encode(batch)
        yield bodies.post(bodies.log_path(identities[index]), body, wire.JSON, header)
