import math
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from stepwell_storage.codec import (
    MAX_POINTS,
    NARROW,
    NARROW_BELOW,
    PACKED,
    decode,
    decode_summaries,
    decode_summary,
    encode,
    summarise,
)
from stepwell_storage.errors import Corrupt
from stepwell_storage.points import Points, merge
from tests.storage.point_samples import INT64_MAX, INT64_MIN, long_ones, scattered, training

chunks = st.one_of(scattered, long_ones()).map(lambda points: merge([points])).filter(len)


def reseal(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


@settings(max_examples=200)
@given(chunks)
def test_every_bit_comes_back(points: Points):
    chunk = encode(points)
    assert decode(chunk.data) == points
    assert decode_summary(chunk.summary) == summarise(points)
    assert (chunk.count, chunk.first, chunk.last) == (
        len(points),
        points.position(0),
        points.position(-1),
    )


@pytest.mark.parametrize(
    "count",
    [1, 2, 3, NARROW_BELOW - 1, NARROW_BELOW, 255, 256, 257, 8_192, MAX_POINTS],
)
@pytest.mark.parametrize("kind", ["noisy float32", "smooth", "constant"])
def test_every_size_comes_back(count: int, kind: str):
    points = training(count, kind)
    assert decode(encode(points).data) == points


@pytest.mark.parametrize("count", [2, 3, 20, 40, NARROW_BELOW, 1_000])
@pytest.mark.parametrize(
    "column",
    [[INT64_MIN, INT64_MAX], [INT64_MAX, INT64_MIN], [INT64_MIN, 0, INT64_MAX, -1], [0, INT64_MIN]],
)
def test_differences_that_wrap_around_come_back(count: int, column: list[int]):
    times = np.resize(np.array(column), count)
    points = Points.of(range(count), times, np.zeros(count))
    assert decode(encode(points).data) == points
    points = merge([Points.of(times, range(count), np.zeros(count))])
    assert decode(encode(points).data) == points


@pytest.mark.parametrize("count", [3, 10, 500])
def test_uncanonical_nans_are_stored_as_the_one_nan(count: int):
    values = np.full(count, 0xFFF8_0000_0000_0001, np.uint64).view(np.float64)
    points = Points(np.arange(count), np.arange(count), values)
    chunk = encode(points)
    expected = Points.of(np.arange(count), np.arange(count), np.full(count, math.nan))
    assert decode(chunk.data) == expected
    assert decode_summary(chunk.summary) == summarise(expected)


def test_float32_is_told_from_what_only_looks_like_it():
    for odd in (0.1, 1e300, 5e-324, 1 + 2**-40, math.nan, -0.0):
        for count in (5, 500):
            values = np.ones(count)
            values[1] = odd
            points = Points.of(range(count), range(count), values)
            assert decode(encode(points).data) == points


def test_what_is_no_series_is_refused():
    with pytest.raises(ValueError, match="1 to 65536 points, not 0"):
        encode(Points.empty())
    with pytest.raises(ValueError, match="not 65537"):
        encode(training(MAX_POINTS + 1, "constant"))
    for steps in ([2, 1], [1, 1]):
        with pytest.raises(ValueError, match="ordered and unique"):
            encode(Points.of(steps, [0, 0], [0.0, 0.0]))


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        pytest.param("noisy float32", 4.1, id="noisy float32 loss, target 4.5"),
        pytest.param("smooth float32", 1.1, id="smooth series, target 1.5"),
        pytest.param("decimal", 2.7, id="accuracy of four decimals"),
        pytest.param("constant", 0.75, id="constant"),
        pytest.param("smooth", 1.85, id="smooth doubles"),
        pytest.param("noisy", 7.7, id="noisy doubles"),
    ],
)
def test_bytes_a_point_with_summary_and_header(kind: str, most: float):
    chunk = encode(training(8_192, kind))
    assert (len(chunk.data) + len(chunk.summary)) / 8_192 <= most


def test_regular_steps_and_times_cost_almost_nothing():
    points = Points.of(np.arange(8_192) * 10, 5 + np.arange(8_192) * 1_000, np.full(8_192, 0.1))
    assert len(encode(points).data) < 80


@pytest.mark.parametrize(("count", "most"), [(1, 75), (3, 130), (10, 160), (63, 7 * 63)])
def test_small_chunks_stay_small(count: int, most: int):
    chunk = encode(training(count, "noisy float32"))
    assert len(chunk.data) + len(chunk.summary) <= most


def some() -> list[bytes]:
    """Chunks of each encoding and each form of column."""
    scattered_times = Points.of(np.arange(5), [9, -9, 2**62, 0, 1], [0.1, math.nan, 1, 2, 3])
    late = Points.of(np.arange(100), np.arange(100)[::-1] ** 3, np.arange(100) * 0.1)
    points = [training(count, "noisy") for count in (1, 10, 40, 64)]
    points += [training(70, kind) for kind in ("noisy float32", "constant", "decimal")]
    return [encode(one).data for one in (*points, scattered_times, late)]


def test_a_cut_at_any_byte_is_corrupt():
    for data in some():
        for length in range(len(data)):
            with pytest.raises(Corrupt):
                decode(data[:length])


def test_a_flip_of_any_byte_is_corrupt():
    for data in some():
        for place in range(len(data)):
            for flip in (0x01, 0x80, 0xFF):
                damaged = bytearray(data)
                damaged[place] ^= flip
                with pytest.raises(Corrupt):
                    decode(bytes(damaged))


def test_cuts_and_flips_of_a_full_chunk_are_corrupt():
    data = encode(training(8_192, "noisy float32")).data
    for place in range(0, len(data), 97):
        with pytest.raises(Corrupt):
            decode(data[:place])
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(Corrupt):
            decode(bytes(damaged))


@settings(max_examples=200)
@given(
    chunks,
    st.lists(st.tuples(st.integers(0, 80) | st.integers(0), st.integers(0, 255)), min_size=1),
)
def test_damage_under_a_right_checksum_is_corrupt_or_points(
    points: Points, changes: list[tuple[int, int]]
):
    body = bytearray(encode(points).data[:-4])
    for place, byte in changes:
        body[place % len(body)] = byte
    try:
        found = decode(reseal(bytes(body)))
    except Corrupt:
        return
    assert len(found.steps) == len(found.timestamps) == len(found.values) <= MAX_POINTS


@pytest.mark.parametrize("count", [0, MAX_POINTS + 1, 2**32 - 1])
@pytest.mark.parametrize("points", [training(3, "constant"), training(300, "constant")])
def test_a_damaged_count_allocates_nothing(points: Points, count: int):
    body = encode(points).data[:-4]
    damaged = reseal(body[:4] + struct.pack("<I", count) + body[8:])
    tracemalloc.start()
    try:
        with pytest.raises(Corrupt, match=r"chunk: \d+ points"):
            decode(damaged)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_an_encoding_of_a_newer_version_says_so_and_damage_does_not():
    data = encode(training(10, "noisy")).data
    with pytest.raises(Corrupt, match="encoding 77 is not known"):
        decode(reseal(b"\x4d" + data[1:-4]))
    with pytest.raises(Corrupt, match="wrong checksum"):
        decode(b"\x4d" + data[1:])


def test_bytes_that_nothing_accounts_for_are_corrupt():
    data = encode(training(100, "noisy")).data
    longer = data[:16] + struct.pack("<I", struct.unpack_from("<I", data, 16)[0] + 1) + data[20:-4]
    for body in (data[:-4] + b"\0", longer + b"\0"):
        with pytest.raises(Corrupt, match="wrong length"):
            decode(reseal(body))
    with pytest.raises(Corrupt, match="cut short"):
        decode(reseal(longer))


def test_zeroed_and_erased_bytes_are_corrupt():
    for size in (0, 1, 4, 5, 24, 4_096):
        for byte in (b"\x00", b"\xff"):
            with pytest.raises(Corrupt):
                decode(byte * size)
            with pytest.raises(Corrupt):
                decode_summary(byte * size)


def test_encodings_are_chosen_by_size():
    assert encode(training(NARROW_BELOW - 1, "noisy")).data[0] == NARROW == 2
    assert encode(training(NARROW_BELOW, "noisy")).data[0] == PACKED == 1


def test_summaries_of_a_series_decode_in_one_go():
    parts = [training(count, "noisy") for count in (8_192, 8_192, 300, 1)]
    together = decode_summaries([encode(part).summary for part in parts])
    assert together.count == sum(len(part) for part in parts)
    assert together.sizes.tolist() == [32, 32, 2, 1]
