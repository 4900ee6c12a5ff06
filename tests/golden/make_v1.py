"""Made the files v1_* of this folder, once, with the writers of format version 1.

    python tests/golden/make_v1.py

They are what old data looks like for ever: this script refuses to write a file that exists, and
tests/storage/test_golden.py holds every file against SHA256SUMS.  For a new format or encoding add
a script and files of the next version; keep these.
"""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stepwell_storage import codec, payloads
from stepwell_storage.points import Points, merge

HERE = Path(__file__).parent
START = 1_707_723_600_000
Array = npt.NDArray[Any]


def chunks() -> dict[str, Points]:
    random = np.random.default_rng(20_240_212)
    index = np.arange(600)
    times = START + np.cumsum(random.integers(80, 120, 600))
    curve = 2 * np.exp(-index / 300) + 0.1
    noisy = curve + random.normal(0, 0.05, 600)
    odd = noisy.copy()
    odd[::7] = math.nan
    odd[3::50] = math.inf
    odd[4::50] = -math.inf
    odd[5::50] = -0.0
    odd[256:512] = math.nan
    extremes = [-(2**63), -1, 0, 1, 2**63 - 1]
    return {
        "packed_float32": Points.of(index, times, noisy.astype(np.float32)),
        "packed_float64": Points.of(index, times, noisy),
        "packed_smooth": Points.of(index, times, curve),
        "packed_decimal": Points.of(index * 10, times, np.round(random.random(600), 4)),
        "packed_constant": Points.of(index, START + index * 1_000, np.full(600, 0.1)),
        "packed_nonfinite": Points.of(index, times, odd),
        "packed_crowded": merge(
            [Points.of(np.sort(random.integers(0, 99, 600)), times[::-1], noisy)]
        ),
        "packed_extremes": merge(
            [Points.of(np.repeat(extremes, 20), np.tile(extremes, 20), noisy[:100])]
        ),
        "narrow_one": Points.of([0], [START], [0.25]),
        "narrow_few": Points.of([0, 1, 5], [START, START + 90, START + 3], [0.1, -0.0, 5e-324]),
        "narrow_float32": Points.of(index[:40], times[:40], noisy[:40].astype(np.float32)),
        "narrow_float64": Points.of(index[:63], times[:63], noisy[:63]),
        "narrow_constant": Points.of(index[:10], [START] * 10, [1.0] * 10),
        "narrow_nonfinite": Points.of(range(4), [7] * 4, [math.nan, math.inf, -math.inf, 1.0]),
        "narrow_extremes": merge([Points.of(extremes, extremes[::-1], noisy[:5])]),
    }


def journals() -> dict[str, tuple[list[int], list[int], Points]]:
    random = np.random.default_rng(20_240_213)
    times = START + np.cumsum(random.integers(80, 120, 300))
    noise = random.normal(0, 1, 300)
    single = noise.astype(np.float32)
    odd = np.where(noise > 1, math.nan, noise)
    extremes = np.array([-(2**63), -1, 0, 1, 2**63 - 1])
    return {
        "one": ([7], [1], Points.of([0], [START], [0.25])),
        "step": ([1, 2, 300], [1, 1, 1], Points.of([9] * 3, [START] * 3, [0.1, -0.0, 3.0])),
        "long": ([70_000], [300], Points.of(np.arange(300), times, noise)),
        "shared": (
            [1, 2, 3],
            [100] * 3,
            Points.of(np.tile(np.arange(100), 3), np.tile(times[:100], 3), single),
        ),
        "unequal": (
            [5, 2**40, 5],
            [2, 297, 1],
            Points.of(random.permutation(300), times[::-1], odd),
        ),
        "constant": ([1], [40], Points.of(np.arange(40), [START] * 40, [1.5] * 40)),
        "extremes": ([1], [5], Points.of(extremes, extremes[::-1], noise[:5])),
    }


def write(name: str, content: bytes) -> None:
    with (HERE / name).open("xb") as file:
        file.write(content)
    with (HERE / "SHA256SUMS").open("a", encoding="ascii") as sums:
        sums.write(f"{hashlib.sha256(content).hexdigest()}  {name}\n")


def write_arrays(name: str, **arrays: Array) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    write(name, file.getvalue())


def main() -> None:
    for name, points in chunks().items():
        chunk = codec.encode(points)
        write(f"v1_{name}.chunk", chunk.data)
        write(f"v1_{name}.summary", chunk.summary)
        blocks = codec.summarise(points)
        write_arrays(
            f"v1_{name}.npz",
            steps=points.steps,
            timestamps=points.timestamps,
            values=points.values,
            block_counts=blocks.counts,
            block_nonfinite=blocks.nonfinite,
            block_steps=blocks.steps,
            block_timestamps=blocks.timestamps,
            block_values=blocks.values,
        )
    for name, (keys, counts, points) in journals().items():
        columns = (points.steps, points.timestamps, points.values)
        payload = payloads.encode(keys, counts, *[column.tobytes() for column in columns])
        write(f"v1_{name}.journal", payload)
        write_arrays(
            f"v1_{name}.journal.npz",
            keys=np.array(keys),
            counts=np.array(counts),
            steps=points.steps,
            timestamps=points.timestamps,
            values=points.values,
        )


if __name__ == "__main__":
    main()
