"""Points to test with: nasty ones from Hypothesis, and typical ones from a seed."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from stepwell_storage.points import Points, ordered

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
EXTREMES = [INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX]
Point = tuple[int, int, int]
Values = npt.NDArray[Any]

integers = st.one_of(
    st.integers(0, 12), st.sampled_from(EXTREMES), st.integers(INT64_MIN, INT64_MAX)
)
bits = st.one_of(
    st.floats().map(lambda value: struct.unpack("<Q", struct.pack("<d", value))[0]),
    st.floats(width=32).map(lambda value: struct.unpack("<Q", struct.pack("<d", value))[0]),
    st.integers(0, 2**64 - 1),
    st.sampled_from(
        [
            0,  # 0.0
            1 << 63,  # -0.0
            1,  # the smallest subnormal
            0x7FEF_FFFF_FFFF_FFFF,  # the greatest finite
            0x7FF0_0000_0000_0000,  # +Inf
            0xFFF0_0000_0000_0000,  # -Inf
            0x7FF8_0000_0000_0000,  # the one NaN
            0xFFF8_0000_0000_0000,  # NaN, negative
            0x7FF0_0000_0000_0001,  # NaN, signalling
            0x7FF8_DEAD_BEEF_0001,  # NaN with a payload
        ]
    ),
)


def columns(logged: list[tuple[int, int, int]]) -> Points:
    """From (step, timestamp, bits of the value), in that order, NaNs canonical."""
    values = np.array([bits for _, _, bits in logged], np.uint64).view(np.float64)
    return Points.of([step for step, _, _ in logged], [time for _, time, _ in logged], values)


scattered = st.lists(st.tuples(integers, integers, bits), max_size=40).map(columns)
crowded = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([0, 1 << 63, 0x7FF8 << 48])),
    max_size=40,
).map(columns)


@st.composite
def long_ones(draw: st.DrawFn, most: int = 1_500) -> Points:
    """Many points of one kind a column: what pcodec is handed."""
    count = draw(st.integers(1, most))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    whole = random.integers(INT64_MIN, INT64_MAX, count, endpoint=True)
    steps = draw(st.sampled_from([np.arange(count), np.sort(random.integers(0, 50, count)), whole]))
    times = draw(
        st.sampled_from(
            [
                np.full(count, 7),
                1_707_723_600_000 + np.cumsum(random.integers(0, 300, count)),
                whole,
            ]
        )
    )
    raw = random.integers(0, 2**64, count, np.uint64, endpoint=False).view(np.float64)
    noise = random.normal(0, 1, count)
    values: Values = draw(
        st.sampled_from(
            [raw, noise, noise.astype(np.float32), np.round(noise, 3), np.full(count, -0.0)]
        )
    )
    if draw(st.booleans()):
        values = np.where(random.random(count) < 0.1, raw, values)
    return Points.of(steps, times, values)


def model(*parts: Points) -> list[Point]:
    """The points as a plain-Python set says they are: ordered, each once."""
    return sorted({point for part in parts for point in listed(part)})


def listed(points: Points) -> list[Point]:
    """(step, timestamp, ordered value) of each, as it stands."""
    return [
        (step, time, ordered(value))
        for step, time, value in zip(
            points.steps.tolist(), points.timestamps.tolist(), points.values.tolist(), strict=True
        )
    ]


def training(count: int, kind: str, seed: int = 7) -> Points:
    """A metric as trainings log it: steps from 0, a timestamp each 80 to 120 ms."""
    random = np.random.default_rng(seed)
    index = np.arange(count)
    curve = 2 * np.exp(-index / 3_000) + 0.1
    kinds: dict[str, Values] = {
        "noisy float32": (curve + random.normal(0, 0.05, count)).astype(np.float32),
        "smooth float32": curve.astype(np.float32),
        "noisy": curve + random.normal(0, 0.05, count),
        "smooth": curve,
        "decimal": np.round(random.random(count), 4),
        "constant": np.full(count, 0.1),
    }
    times = 1_707_723_600_000 + np.cumsum(random.integers(80, 120, count))
    return Points.of(index, times, kinds[kind])
