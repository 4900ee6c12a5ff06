"""Requests encoded beforehand: numbers of fixed width are patched into a template, so a request of
1,000 distinct points costs the generator some microseconds and not an encoding.

No two points are equal: each request has steps and timestamps of its own, and values from a pool
of float32 noise (as a training's loss is), written as Python writes a float32 that became a float.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.load import Source
from stepwell import wire

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_POOL = 1 << 16
_STRIDE = 7_919
"""Prime, so that rolling through the pool repeats no stretch soon."""
_FIRST_STEP = 100_000_000
_FIRST_MS = 1_707_723_600_000
_MS_PER_STEP = 100


@dataclass(frozen=True)
class Shape:
    """``keys`` series and ``steps`` points of each in one request, interleaved step by step.

    ``steps`` is a power of ten, since only the digits above it are patched.
    """

    keys: int
    steps: int
    first_key: int = 0

    @property
    def points(self) -> int:
        return self.keys * self.steps


def shape_of(points: int) -> Shape:
    """Ten metrics and as many steps as it takes: what a training's sender gathers."""
    keys = min(points, 10)
    return Shape(keys, points // keys)


def post(path: str, body: bytes, content_type: str = wire.JSON, headers: str = "") -> bytes:
    return head("POST", path, len(body), content_type, headers) + body


def get(path: str, accept: str = wire.JSON, headers: str = "") -> bytes:
    lines = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n{headers}\r\n"
    return lines.encode()


def head(method: str, path: str, size: int, content_type: str, headers: str = "") -> bytes:
    """The head of a request.  ``headers`` are whole lines, each ending in CRLF."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {size}\r\n{headers}\r\n"
    ).encode()


def log_path(run_id: str) -> str:
    return f"/api/v1/experiments/runs/{run_id}/log-batch"


def noise(seed: int, count: int = _POOL) -> Floats:
    """float32 values in [0.5, 1) as doubles: 16 decimals say each of them exactly."""
    random = np.random.default_rng(seed)
    values = 0.7 + 0.05 * random.standard_normal(count)
    return np.clip(values, 0.5, 0.999).astype(np.float32).astype(np.float64)


def key_name(index: int) -> str:
    return f"train/metric_{index:05d}"


def json_batches(path: str, shape: Shape, seed: int, *, opening: bytes = b'{"metrics":[') -> Source:
    """``{"metrics":[{"key","value","step","timestamp"}..]}`` with every field given."""
    rows, start = _json_rows(shape), opening
    start = head("POST", path, len(start) + len(rows) + 1, wire.JSON) + start
    buffer = bytearray(start + rows[:-1] + b"]},")  # one byte too long: the last row's comma
    width = len(rows) // shape.points
    table = np.ndarray((shape.points, width), np.uint8, buffer, len(start), (width, 1))
    value_at = rows.index(b'"value":') + 8
    values = table[:, value_at : value_at + 18]
    texts = np.array([b"%.16f" % value for value in noise(seed)], "S18")
    pool = texts.view(np.uint8).reshape(_POOL, 18)
    set_step = _leading_digits(table, rows.index(b'"step":') + 7, 9, shape.steps)
    set_time = _leading_digits(
        table, rows.index(b'"timestamp":') + 12, 13, shape.steps * _MS_PER_STEP
    )
    request, number = memoryview(buffer)[:-1], 0

    def following() -> memoryview:
        nonlocal number
        at = number * _STRIDE % (_POOL - shape.points)
        values[:] = pool[at : at + shape.points]
        set_step(_FIRST_STEP + number * shape.steps)
        set_time(_FIRST_MS + number * shape.steps * _MS_PER_STEP)
        number += 1
        return request

    return following


def _json_rows(shape: Shape) -> bytes:
    """The points as JSON objects of equal length, each with a comma behind it."""
    rows = []
    jitter = np.random.default_rng(0).integers(0, _MS_PER_STEP, shape.steps)
    for step in range(shape.steps):
        at = _FIRST_MS + _MS_PER_STEP * step + int(jitter[step])
        for key in range(shape.first_key, shape.first_key + shape.keys):
            rows.append(
                f'{{"key":"{key_name(key)}","value":{0.5:.16f},'
                f'"step":{_FIRST_STEP + step},"timestamp":{at}}},'
            )
    return "".join(rows).encode()


def _leading_digits(table: Bytes, at: int, width: int, unit: int) -> Callable[[int], None]:
    """Sets the digits of one number above ``unit``, a power of ten, in every row alike."""
    kept = width - (len(str(unit)) - 1)
    column = table[:, at : at + kept]

    def patch(number: int) -> None:
        column[:] = np.frombuffer(b"%d" % (number // unit), np.uint8)

    return patch


def columnar_batches(path: str, shape: Shape, seed: int) -> Source:
    """The columnar form: int64 steps, int64 times and float64 values of each key."""
    column = bytes(8 * shape.steps)
    series = [
        wire.ColumnarSeries(key_name(shape.first_key + key), column, column, column)
        for key in range(shape.keys)
    ]
    body = msgspec.msgpack.encode(wire.ColumnarBatch(wire.COLUMNS_FORMAT, series))
    buffer = bytearray(post(path, body, wire.COLUMNS))
    steps, times, values = _columns(buffer, shape)
    steps[:] = _FIRST_STEP + np.arange(shape.steps)
    jitter = np.random.default_rng(0).integers(0, _MS_PER_STEP, shape.steps)
    times[:] = _FIRST_MS + np.arange(shape.steps) * _MS_PER_STEP + jitter
    pool, number = noise(seed), 0

    def following() -> bytearray:
        nonlocal number
        at = number * _STRIDE % (_POOL - shape.points)
        values[:] = pool[at : at + shape.points].reshape(shape.keys, shape.steps)
        if number:
            np.add(steps, shape.steps, steps)
            np.add(times, shape.steps * _MS_PER_STEP, times)
        number += 1
        return buffer

    return following


def _columns(buffer: bytearray, shape: Shape) -> tuple[Ints, Ints, Floats]:
    """Views of a columnar request, each of shape (keys, steps): the keys stand at equal strides."""
    name, second = (key_name(shape.first_key + key).encode() for key in (0, 1))
    first = buffer.index(name) + len(name)
    stride = buffer.find(second, first) + len(name) - first if shape.keys > 1 else 0
    size = 8 * shape.steps
    prefix = 2 if size < 1 << 8 else 3 if size < 1 << 16 else 5  # msgpack bin 8, 16, 32
    at = [first + prefix + place * (size + prefix) for place in range(3)]
    layout, strides = (shape.keys, shape.steps), (stride, 8)
    return (
        np.ndarray(layout, np.int64, buffer, at[0], strides),
        np.ndarray(layout, np.int64, buffer, at[1], strides),
        np.ndarray(layout, np.float64, buffer, at[2], strides),
    )


def in_turn(sources: Sequence[Source]) -> Source:
    """One client that takes its requests from each in turn."""
    turns = cycle(sources)
    return lambda: next(turns)()


def creations(seed: int) -> Source:
    """Runs with a name, a user, a tag and five parameters each."""
    body = (
        b'{"experiment_name":"bench","name":"run-%02d-%07d","user_id":"bench@example.com",'
        b'"tags":{"host":"node-%02d"},"params":{"learning_rate":"0.01","batch_size":"64",'
        b'"optimizer":"adamw","layers":"12","seed":"%07d"}}'
    )
    size = len(body % (seed, 0, seed, 0))
    start = head("POST", "/api/v1/experiments/runs", size, wire.JSON)
    number = 0

    def following() -> bytes:
        nonlocal number
        number += 1
        return start + body % (seed, number, seed, number)

    return following
