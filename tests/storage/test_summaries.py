import math
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from stepwell_storage.errors import Corrupt
from stepwell_storage.points import Points, merge, ordered
from stepwell_storage.stretches import Stretches
from stepwell_storage.summaries import (
    BLOCK,
    MAX_POINTS,
    Summary,
    decode,
    decode_all,
    encode,
    encode_each,
    summarise,
    summarise_each,
)
from tests.storage.point_samples import (
    Point,
    columns,
    integers,
    listed,
    long_ones,
    scattered,
    training,
)

chunks = st.one_of(scattered, long_ones()).map(lambda points: merge([points])).filter(len)


def expected(points: Points) -> list[tuple[int, int, Point, Point, Point | None, Point | None]]:
    """Each block by brute force: count, non-finite values, first, last, lowest, highest."""
    rows = list(zip(listed(points), points.values.tolist(), strict=True))
    blocks = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        real = [point for point, value in block if not math.isnan(value)]
        odd = sum(not math.isfinite(value) for _, value in block)
        lowest = min(real, key=lambda point: point[2], default=None)
        highest = max(real, key=lambda point: point[2], default=None)
        blocks.append((len(block), odd, block[0][0], block[-1][0], lowest, highest))
    return blocks


def found(summary: Summary) -> list[tuple[int, int, Point, Point, Point | None, Point | None]]:
    return [
        (count, odd, first, last, *[None if ends[2] == ordered(math.nan) else ends for ends in two])
        for count, odd, first, last, *two in zip(
            summary.counts.tolist(),
            summary.nonfinite.tolist(),
            listed(summary.first),
            listed(summary.last),
            listed(summary.lowest),
            listed(summary.highest),
            strict=True,
        )
    ]


def reseal(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


@given(chunks)
def test_summary_equals_brute_force(points: Points):
    summary = summarise(points)
    assert found(summary) == expected(points)
    assert summary.count == len(points)
    assert summary.sizes.tolist() == [len(summary)]


@given(chunks)
def test_summary_comes_back_bit_for_bit(points: Points):
    assert decode(encode(summarise(points))) == summarise(points)


@settings(max_examples=50)
@given(st.lists(chunks, min_size=1, max_size=8))
def test_many_summaries_encode_as_each_alone(parts: list[Points]):
    together = summarise_each(Points.concat(parts), Stretches.of([len(part) for part in parts]))
    assert encode_each(together) == [encode(summarise(part)) for part in parts]
    assert found(together) == [block for part in parts for block in expected(part)]


@pytest.mark.parametrize("count", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, MAX_POINTS])
def test_a_partial_last_block_is_exact(count: int):
    points = training(count, "noisy")
    summary = decode(encode(summarise(points)))
    assert found(summary) == expected(points)


def test_a_block_of_nothing_but_nan_has_no_lowest_and_no_highest():
    values = np.concatenate([np.full(BLOCK, math.nan), np.zeros(BLOCK), [math.nan]])
    points = Points.of(range(len(values)), range(len(values)), values)
    summary = decode(encode(summarise(points)))
    assert np.isnan(summary.lowest.values).tolist() == [True, False, True]
    assert np.isnan(summary.highest.values).tolist() == [True, False, True]
    assert summary.lowest[0:1] == summary.highest[0:1] == points[0:1]
    assert summary.nonfinite.tolist() == [BLOCK, 0, 1]


def test_infinities_are_extremes_and_nan_is_not():
    points = Points.of(range(5), range(5), [math.nan, 1.0, math.inf, -math.inf, math.nan])
    summary = summarise(points)
    assert summary.lowest == points[3:4]
    assert summary.highest == points[2:3]
    assert summary.nonfinite.tolist() == [4]


def test_the_earliest_of_equal_extremes_is_kept():
    points = Points.of(range(6), range(6), [1.0, 0.0, -0.0, -0.0, 1.0, 0.0])
    summary = summarise(points)
    assert summary.lowest == points[2:3]
    assert summary.highest == points[0:1]


@settings(max_examples=50)
@given(st.lists(chunks, max_size=8))
def test_many_summaries_decode_as_each_alone(parts: list[Points]):
    together = decode_all([encode(summarise(part)) for part in parts])
    assert together.sizes.tolist() == [-(-len(part) // BLOCK) for part in parts]
    assert found(together) == [block for part in parts for block in expected(part)]


def test_many_summaries_of_one_shape_decode_as_each_alone():
    parts = [training(1_000, "noisy float32", seed) for seed in range(20)]
    together = decode_all([encode(summarise(part)) for part in parts])
    assert found(together) == [block for part in parts for block in expected(part)]


@pytest.mark.parametrize("reverse", [False, True])
def test_offsets_that_wrap_around_come_back(reverse: bool):
    ends = [-(2**63), 2**63 - 1, 0]
    points = columns([(step, time, 0) for step in ends for time in ends] * 200)
    points = merge([Points.of(np.arange(len(points)), points.steps, points.values), points])
    if reverse:
        points = Points(points.steps, points.timestamps[::-1], points.values)
    assert decode(encode(summarise(points))) == summarise(points)
    assert decode(encode(summarise(points[:5]))) == summarise(points[:5])


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("count", [3, 600])
def test_offsets_at_the_edge_of_a_width_come_back(bits: int, beyond: int, count: int):
    steps = np.arange(count) + ((1 << bits) + beyond - count + 1) * (np.arange(count) == count - 1)
    points = Points.of(np.maximum.accumulate(steps), steps, np.arange(count))
    assert decode(encode(summarise(points))) == summarise(points)


@pytest.mark.parametrize(
    ("kind", "most"), [("noisy float32", 0.115), ("smooth float32", 0.115), ("noisy", 0.18)]
)
def test_a_summary_is_small(kind: str, most: float):
    assert len(encode(summarise(training(8_192, kind)))) <= most * 8_192
    assert len(encode(summarise(training(1, kind)))) <= 40
    assert len(encode(summarise(training(10, kind)))) <= 75


def some() -> list[bytes]:
    return [
        encode(summarise(points))
        for points in (
            training(1, "noisy"),
            training(10, "noisy float32"),
            training(1_000, "noisy"),
            Points.of(range(300), range(300), [math.nan, 1.0, math.inf] * 100),
        )
    ]


def test_a_cut_at_any_byte_is_corrupt():
    for summary in some():
        for length in range(len(summary)):
            with pytest.raises(Corrupt):
                decode(summary[:length])


def test_a_flip_of_any_byte_is_corrupt():
    for summary in some():
        for place in range(len(summary)):
            for flip in (0x01, 0x80, 0xFF):
                damaged = bytearray(summary)
                damaged[place] ^= flip
                with pytest.raises(Corrupt):
                    decode(bytes(damaged))


def test_the_damaged_one_of_many_is_named():
    whole = some() * 3
    for index in range(len(whole)):
        body = whole[index][:-4]
        for damage in (
            b"",
            whole[index][:-1],
            reseal(body + b"\0"),
            reseal(body[:1] + b"\x09" + body[2:]),
            reseal(b"\x09" + body[1:]),
        ):
            with pytest.raises(Corrupt) as caught:
                decode_all([*whole[:index], damage, *whole[index + 1 :]])
            assert caught.value.place == {"index": index}


@settings(max_examples=300)
@given(
    chunks,
    st.lists(st.tuples(st.integers(0, 45) | st.integers(0), st.integers(0, 255)), min_size=1),
)
def test_damage_under_a_right_checksum_is_corrupt_or_a_summary(
    points: Points, changes: list[tuple[int, int]]
):
    body = bytearray(encode(summarise(points))[:-4])
    for place, byte in changes:
        body[place % len(body)] = byte
    try:
        summary = decode(reseal(bytes(body)))
    except Corrupt:
        return
    assert len(summary) == -(-summary.count // BLOCK)


@pytest.mark.parametrize("count", [0, MAX_POINTS + 1, 2**32 - 1])
def test_a_damaged_count_allocates_nothing(count: int):
    body = some()[0][:-4]
    with pytest.raises(Corrupt, match="points"):
        decode(reseal(body[:7] + struct.pack("<I", count) + body[11:]))


def test_a_format_of_a_newer_version_says_so():
    with pytest.raises(Corrupt, match="format 2 is not known"):
        decode(reseal(b"\x02" + some()[0][1:-4]))


def test_no_summaries_are_no_blocks():
    assert len(decode_all([])) == 0


@given(st.lists(st.tuples(integers, integers), min_size=1, max_size=3))
def test_constant_values_take_eight_bytes(places: list[tuple[int, int]]):
    points = merge([columns([(step, time, 0x3FB9_9999_9999_999A) for step, time in places])])
    assert decode(encode(summarise(points))) == summarise(points)
    assert len(encode(summarise(points))) <= 11 + 16 + 48 + 8 + 4
