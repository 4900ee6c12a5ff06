import math
import struct

import numpy as np
import pytest
from hypothesis import given, strategies as st

from stepwell_storage.points import (
    NAN_BITS,
    Points,
    after,
    between,
    canonical,
    from_ordered,
    is_increasing,
    merge,
    ordered,
    to_ordered,
    unordered,
)
from stepwell_storage.records import Position
from tests.storage.point_samples import (
    EXTREMES,
    INT64_MAX,
    INT64_MIN,
    bits,
    crowded,
    integers,
    listed,
    model,
    scattered,
)

ASCENDING = [-math.inf, -1.5, -5e-324, -0.0, 0.0, 5e-324, 1.5, math.inf, math.nan]


def test_order_puts_minus_zero_before_zero_and_nan_last():
    keys = to_ordered(np.array(ASCENDING))
    assert (np.diff(keys) > 0).all()
    assert [ordered(value) for value in ASCENDING] == keys.tolist()


@given(st.lists(bits))
def test_order_loses_no_bit_but_those_of_a_nan(patterns: list[int]):
    values = np.array(patterns, np.uint64).view(np.float64)
    expected = np.where(np.isnan(values), np.uint64(NAN_BITS), np.array(patterns, np.uint64))
    keys = to_ordered(values)
    assert (from_ordered(keys).view(np.uint64) == expected).all()
    assert [ordered(value) for value in values.tolist()] == keys.tolist()
    scalars = np.array([unordered(key) for key in keys.tolist()], np.float64)
    assert (scalars.view(np.uint64) == expected).all()


@given(st.lists(st.floats(allow_nan=False)))
def test_order_agrees_with_comparison_of_floats(values: list[float]):
    keys = [ordered(value) for value in values]
    for one, key in zip(values, keys, strict=True):
        for other, other_key in zip(values, keys, strict=True):
            assert one >= other or key < other_key


def test_canonical_copies_only_where_there_is_a_nan():
    plain = np.array([1.0, math.inf])
    assert canonical(plain) is plain
    odd = np.array([0xFFF8_0000_0000_0001, 0], np.uint64).view(np.float64)
    assert canonical(odd).view(np.uint64).tolist() == [NAN_BITS, 0]
    assert odd.view(np.uint64)[0] == 0xFFF8_0000_0000_0001


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equal length"):
        Points.of([1, 2], [1], [0.0])
    with pytest.raises(ValueError, match="flat"):
        Points.of([[1]], [[1]], [[0.0]])


def test_points_are_equal_only_bit_for_bit():
    zero, minus = Points.of([1], [1], [0.0]), Points.of([1], [1], [-0.0])
    nan = Points.of([1], [1], [math.nan])
    assert zero != minus
    assert nan == Points.of([1], [1], [-math.nan])
    assert zero != Points.of([1], [2], [0.0])
    assert zero != (1, 1, 0.0)


@given(st.lists(st.one_of(scattered, crowded), max_size=4))
def test_merge_equals_a_set_whatever_the_order_and_the_repeats(parts: list[Points]):
    before = [listed(part) for part in parts]
    merged = merge(parts)
    assert listed(merged) == model(*parts)
    assert is_increasing(merged)
    assert [listed(part) for part in parts] == before


@given(scattered, st.lists(st.integers(0, 40), max_size=3))
def test_merge_of_disjoint_sorted_parts_in_any_order(points: Points, cuts: list[int]):
    whole = merge([points])
    edges = [0, *sorted(cuts), len(whole)]
    parts = [whole[low:high] for low, high in zip(edges, edges[1:], strict=False)]
    assert merge(parts[::-1]) == whole
    assert merge(parts) == whole


@given(scattered)
def test_merge_of_a_batch_that_was_sent_twice(points: Points):
    assert merge([points, points]) == merge([points])


def test_merge_leaves_sorted_points_where_they_are():
    points = Points.of([1, 1, 2], [5, 6, 0], [0.0, 0.0, 0.0])
    assert merge([Points.empty(), points]) is points


def test_merge_of_nothing():
    assert len(merge([])) == 0
    assert len(merge([Points.empty(), Points.empty()])) == 0


@given(st.one_of(scattered, crowded))
def test_is_increasing_agrees_with_python(points: Points):
    plain = listed(points)
    assert is_increasing(points) == all(a < b for a, b in zip(plain, plain[1:], strict=False))


@given(st.one_of(scattered, crowded), st.none() | integers, st.none() | integers)
def test_between_keeps_both_ends(points: Points, start: int | None, end: int | None):
    points = merge([points])
    low = INT64_MIN if start is None else start
    high = INT64_MAX if end is None else end
    expected = [point for point in listed(points) if low <= point[0] <= high]
    assert listed(between(points, start, end)) == expected


@given(st.one_of(scattered, crowded), st.data())
def test_after_resumes_exactly_behind_a_position(points: Points, data: st.DataObject):
    points = merge([points])
    near = st.sampled_from(listed(points)) if len(points) else st.nothing()
    place = Position(*data.draw(near | st.tuples(*[st.sampled_from(EXTREMES)] * 3)))
    expected = [point for point in listed(points) if point > tuple(place)]
    assert listed(after(points, place)) == expected


def test_pages_by_position_reach_the_end_when_all_steps_are_equal():
    points = merge([Points.of([0] * 10, [1, 2] * 5, np.arange(10.0))])
    seen, rest = [], points
    while len(rest):
        page = rest[:3]
        seen += listed(page)
        rest = after(points, page.position(-1))
    assert seen == listed(points)


def test_position_counts_from_both_ends():
    points = Points.of([1, 2], [3, 4], [-1.0, math.nan])
    assert points.position(0) == Position(1, 3, ordered(-1.0))
    assert points.position(-1) == Position(2, 4, ordered(math.nan))
    assert struct.pack("<d", unordered(points.position(-1).value)) == NAN_BITS.to_bytes(8, "little")
