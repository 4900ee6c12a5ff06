"""What is summed up of many journal rows is what their points say, one by one."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from stepwell_storage import statistics
from stepwell_storage.places import place
from stepwell_storage.points import ordered
from stepwell_storage.statistics import Entry, summarize

NAN = ordered(float("nan"))
Point = tuple[int, int, int]
Row = tuple[int, list[int], list[int], list[Point]]


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """(run, keys, counts, points): mostly wide steps with the same keys, in order or not."""
    sets = draw(st.sampled_from([[range(4)], [range(4), range(4, 9)], [range(4), range(2, 7)]]))
    found: list[Row] = []
    for number in range(draw(st.integers(1, 12))):
        keys = list(draw(st.sampled_from(sets)))
        step = draw(st.sampled_from([number, number, number, 0, 3]))
        per_key = draw(st.sampled_from([1, 1, 1, 2]))
        points = [
            (step + i, draw(st.integers(0, 2)), ordered(draw(st.sampled_from(VALUES))))
            for _ in keys
            for i in range(per_key)
        ]
        found.append((draw(st.integers(1, 2)), keys, [per_key] * len(keys), points))
    return found


VALUES = [0.0, -0.0, 1.5, float("nan"), float("inf"), -3.0]


def entries(given_rows: list[Row]) -> list[Entry]:
    made = []
    for number, (run, keys, counts, points) in enumerate(given_rows, 1):
        steps, times, values = (np.array(column, "<i8") for column in zip(*points, strict=True))
        doubles = (values ^ ((values >> 63) & 0x7FFF_FFFF_FFFF_FFFF)).tobytes()
        made.append(Entry(number, run, keys, counts, steps.tobytes(), times.tobytes(), doubles))
    return made


def expected(given_rows: list[Row]) -> list[tuple[int | None, ...]]:
    """By plain Python: late where a segment does not begin after the one before it ends."""
    segments: dict[tuple[int, int], list[tuple[int, list[Point]]]] = defaultdict(list)
    for number, (run, keys, counts, points) in enumerate(given_rows, 1):
        rest = iter(points)
        for key, count in zip(keys, counts, strict=True):
            segments[key, run].append((number, [next(rest) for _ in range(count)]))
    found: list[tuple[int | None, ...]] = []
    for (key, run), parts in sorted(segments.items()):
        points = [point for _, part in parts for point in part]
        newest = parts[-1][0]
        ascends = all(after[0] > before[-1] for (_, before), (_, after) in
                      zip(parts, parts[1:], strict=False))  # fmt: skip
        numbers = [(value, step) for step, _, value in points if value != NAN]
        low = min(numbers, default=(None, None))
        high = max(numbers, key=lambda pair: (pair[0], -pair[1]), default=(None, None))
        late = 0 if ascends else newest
        found.append((place(key, run), key, run, len(points), late,
                      *min(points), *max(points), *low, *high))  # fmt: skip
    return found


@pytest.mark.parametrize("wide", [1, 64])
@settings(max_examples=300)
@given(rows())
def test_sums_are_those_of_the_points(wide: int, given_rows: list[Row]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_WIDE", wide)
        assert summarize(entries(given_rows)).rows() == expected(given_rows)
