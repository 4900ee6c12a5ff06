"""Many stretches in one pass are what each would be alone."""

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings, strategies as st

from stepwell_storage.codec import (
    MAX_POINTS,
    NARROW_BELOW,
    decode,
    decode_each,
    decode_summary,
    encode,
    encode_each,
    summarise,
)
from stepwell_storage.columns import pack_floats, pack_floats_each, pack_ints, pack_ints_each
from stepwell_storage.errors import Corrupt
from stepwell_storage.points import INT64, Points, merge
from stepwell_storage.stretches import Stretches, merge_each, out_of_order
from tests.storage.point_samples import crowded, integers, long_ones, scattered, training

logged = st.one_of(scattered, crowded, long_ones(300)).filter(len)
series = st.lists(logged, min_size=1, max_size=8)


def joined(parts: list[Points]) -> tuple[Points, Stretches]:
    return Points.concat(parts), Stretches.of([len(part) for part in parts])


@settings(max_examples=100, deadline=None)
@given(series)
def test_each_is_merged_as_it_would_be_alone(parts: list[Points]):
    points, stretches = merge_each(*joined(parts))
    for part, start, count in zip(parts, stretches.starts, stretches.counts, strict=True):
        assert points[start : start + count] == merge([part])
    assert not len(out_of_order(points, stretches))


@settings(max_examples=100, deadline=None)
@given(series, st.sampled_from([8, NARROW_BELOW, 1_024]))
def test_each_chunk_is_what_it_would_be_alone(parts: list[Points], narrow_below: int):
    parts = [merge([part]) for part in parts]
    sealed = encode_each(*joined(parts), narrow_below=narrow_below)
    assert [decode(data) for data, _ in sealed] == parts
    assert [decode_summary(summary) for _, summary in sealed] == [summarise(part) for part in parts]
    if narrow_below == NARROW_BELOW:
        alone = [encode(part) for part in parts]
        assert sealed == [(chunk.data, chunk.summary) for chunk in alone]


@settings(max_examples=100, deadline=None)
@given(series, st.integers(1, 6))
def test_chunks_read_together_are_those_read_alone(parts: list[Points], times: int):
    parts = [merge([part]) for part in parts] * times  # many of one shape, and others between them
    points, counts = decode_each([encode(part).data for part in parts])
    assert counts.tolist() == [len(part) for part in parts]
    assert points == Points.concat(parts)


@settings(max_examples=200, deadline=None)
@given(
    logged,
    st.lists(st.tuples(st.integers(0, 80) | st.integers(0), st.integers(0, 255)), max_size=4),
    st.integers(0, 5),
)
def test_a_damaged_chunk_among_others_of_its_shape_is_named(
    part: Points, changes: list[tuple[int, int]], place: int
):
    data = [encode(merge([part])).data] * 6
    damaged = bytearray(data[place])
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    data[place] = bytes(damaged)
    alone, together = outcome(lambda: decode(data[place])), outcome(lambda: decode_each(data)[0])
    if isinstance(alone, Points):
        parts = [alone if number == place else merge([part]) for number in range(6)]
        assert together == Points.concat(parts)
    else:
        assert together == (alone[0], {"index": place})


def outcome(read: Callable[[], Points]) -> Points | tuple[str, dict[str, object]]:
    try:
        return read()
    except Corrupt as error:
        return error.reason, error.place


@settings(deadline=None)
@given(st.lists(st.lists(integers, min_size=1, max_size=40), min_size=1, max_size=6))
def test_each_column_of_integers_holds_what_it_would_alone(columns: list[list[int]]):
    whole = np.array([entry for column in columns for entry in column], INT64)
    packed = pack_ints_each(whole, Stretches.of([len(column) for column in columns]))
    for column, form, part in zip(columns, packed.forms, packed.parts, strict=True):
        alone, expected = pack_ints(np.array(column, INT64).tobytes(), len(column))
        if form == alone:
            assert part == expected
        else:  # a difference that wraps, which a glance at few entries takes for too great
            assert len(part) < len(expected)


@settings(deadline=None)
@given(st.lists(logged, min_size=1, max_size=6))
def test_each_column_of_values_holds_what_it_would_alone(parts: list[Points]):
    points, stretches = joined(parts)
    packed = pack_floats_each(points.values, stretches)
    alone = [pack_floats(part.values.tobytes()) for part in parts]
    assert list(zip(packed.forms, packed.parts, strict=True)) == alone


def test_a_thousand_chunks_of_one_shape_and_the_longest_beside_them():
    parts = [training(20, "noisy float32", seed) for seed in range(1_000)]
    parts.append(training(MAX_POINTS, "noisy float32"))
    sealed = encode_each(*joined(parts))
    points, counts = decode_each([data for data, _ in sealed])
    assert points == Points.concat(parts)
    assert counts.tolist() == [len(part) for part in parts]
