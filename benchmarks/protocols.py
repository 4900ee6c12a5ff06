"""The same work said in MLflow's protocol and in ours, for comparing servers on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode

import msgspec
import numpy as np

from benchmarks import bodies, fill
from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.load import Source
from stepwell import wire
from stepwell_tracker import schema

_MLFLOW = "/api/2.0/mlflow"
_RUNS = "/api/v1/experiments/runs"
_FILTER = "metrics.val_loss < {loss} and params.model = 'xgboost'"
_ORDER = "metrics.val_loss ASC"
_PAGE = 25_000
"""Points a page: what MLflow's own client asks for."""

Feed = Iterator[bytes]


class Talk(Protocol):
    """What the comparison asks of a server."""

    def create(self, caller: Caller) -> str: ...
    def batches(self, run_id: str, shape: Shape, seed: int) -> Source: ...
    def creations(self, seed: int) -> Source: ...
    def history(self, caller: Caller, run_id: str, key: str) -> int: ...
    def labels(self, run_id: str, index: int) -> bytes: ...
    def search(self, caller: Caller, loss: float) -> int: ...


class Mlflow:
    """MLflow's tracking protocol, as its own Python client speaks it."""

    def create(self, caller: Caller) -> str:
        reply = caller.post(f"{_MLFLOW}/runs/create", _mlflow_run("bench"))
        return str(json.loads(reply)["run"]["info"]["run_id"])

    def batches(self, run_id: str, shape: Shape, seed: int) -> Source:
        opening = b'{"run_id":"%s","metrics":[' % run_id.encode()
        return bodies.json_batches(f"{_MLFLOW}/runs/log-batch", shape, seed, opening=opening)

    def creations(self, seed: int) -> Source:
        return _numbered(f"{_MLFLOW}/runs/create", lambda name: _mlflow_run(name), seed)

    def history(self, caller: Caller, run_id: str, key: str) -> int:
        query = {"run_id": run_id, "metric_key": key, "max_results": str(_PAGE)}
        count = 0
        while True:
            path = f"{_MLFLOW}/metrics/get-history?{urlencode(query)}"
            page = json.loads(caller.get(path))
            count += len(page.get("metrics", []))
            if not page.get("next_page_token"):
                return count
            query["page_token"] = page["next_page_token"]

    def labels(self, run_id: str, index: int) -> bytes:
        params, metrics = fill.labels(index)
        body = {
            "run_id": run_id,
            "metrics": [
                {"key": key, "value": value, "step": 100, "timestamp": fill.START_MS}
                for key, value in metrics.items()
            ],
            "params": [{"key": key, "value": value} for key, value in params.items()],
        }
        return bodies.post(f"{_MLFLOW}/runs/log-batch", json.dumps(body).encode())

    def search(self, caller: Caller, loss: float) -> int:
        body = {
            "experiment_ids": ["0"],
            "filter": _FILTER.format(loss=loss),
            "order_by": [_ORDER],
            "max_results": 50,
        }
        return len(json.loads(caller.post(f"{_MLFLOW}/runs/search", body)).get("runs", []))


@dataclass(frozen=True)
class Native:
    """Our own API; ``columnar`` logs and reads by columns, else by JSON."""

    columnar: bool = False

    def create(self, caller: Caller) -> str:
        return str(json.loads(caller.post(_RUNS, {"name": "bench"}))["run_id"])

    def batches(self, run_id: str, shape: Shape, seed: int) -> Source:
        make = bodies.columnar_batches if self.columnar else bodies.json_batches
        return make(bodies.log_path(run_id), shape, seed)

    def creations(self, seed: int) -> Source:
        return _numbered(_RUNS, lambda name: {"name": name, "tags": {"host": "node"}}, seed)

    def history(self, caller: Caller, run_id: str, key: str) -> int:
        if self.columnar:
            request = schema.SeriesRequest([run_id], [key])
            reply = caller.post(f"{_RUNS}/series", request, accept=wire.COLUMNS)
            columns = msgspec.msgpack.decode(reply, type=wire.ColumnarReply).series[0]
            return len(np.frombuffer(columns.values, np.float64))
        path, cursor, count = f"{_RUNS}/{run_id}/metrics/{quote(key)}?limit={_PAGE}", "", 0
        while True:
            page = json.loads(caller.get(path + cursor))
            count += len(page["points"])
            if page["next_cursor"] is None:
                return count
            cursor = f"&cursor={page['next_cursor']}"

    def labels(self, run_id: str, index: int) -> bytes:
        params, metrics = fill.labels(index)
        batch = schema.LogBatch(
            [schema.Metric(key, value, 100, fill.START_MS) for key, value in metrics.items()],
            [schema.KeyValue(key, value) for key, value in params.items()],
        )
        return bodies.post(bodies.log_path(run_id), msgspec.json.encode(batch))

    def search(self, caller: Caller, loss: float) -> int:
        query = {"filter": _FILTER.format(loss=loss), "order_by": _ORDER, "limit": "50"}
        return len(json.loads(caller.get(f"{_RUNS}?{urlencode(query)}"))["runs"])


def _mlflow_run(name: str) -> dict[str, object]:
    tags = [{"key": "host", "value": "node"}]
    return {"experiment_id": "0", "run_name": name, "start_time": fill.START_MS, "tags": tags}


def _numbered(path: str, body: Callable[[str], dict[str, object]], seed: int) -> Source:
    """The same body under a new name each time."""
    number = 0

    def following() -> bytes:
        nonlocal number
        number += 1
        return bodies.post(path, json.dumps(body(f"run-{seed}-{number}")).encode())

    return following
