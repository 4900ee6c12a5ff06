import math
import struct
import zlib
from array import array
from functools import partial
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from stepwell_storage.errors import Corrupt
from stepwell_storage.payloads import (
    MAX_POINTS,
    ByKey,
    Row,
    decode,
    decode_each,
    encode,
    encode_all,
    extract,
)
from stepwell_storage.points import NAN_BITS, Points
from tests.storage.point_samples import (
    INT64_MAX,
    INT64_MIN,
    long_ones,
    scattered,
    training,
)

logged = st.lists(
    st.tuples(
        st.one_of(st.integers(1, 5), st.integers(1, 2**40)),
        st.one_of(scattered, long_ones(200)).filter(len),
    ),
    min_size=1,
    max_size=6,
)


def payload_of(series: list[tuple[int, Points]]) -> bytes:
    return encode(
        [key for key, _ in series],
        [len(points) for _, points in series],
        b"".join(points.steps.tobytes() for _, points in series),
        b"".join(points.timestamps.tobytes() for _, points in series),
        b"".join(points.values.tobytes() for _, points in series),
    )


def reseal(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


@given(logged)
def test_every_bit_comes_back(series: list[tuple[int, Points]]):
    payload = payload_of(series)
    found = decode(payload)
    assert found.keys.tolist() == [key for key, _ in series]
    assert found.counts.tolist() == [len(points) for _, points in series]
    everything = Points.concat([points for _, points in series])
    assert Points(found.steps, found.timestamps, found.values) == everything


@settings(max_examples=50)
@given(logged)
def test_one_key_is_extracted_wherever_it_stands(series: list[tuple[int, Points]]):
    payload = payload_of(series)
    for key, _ in series:
        mine = Points.concat([points for other, points in series if other == key])
        assert extract(payload, key) == mine
    assert extract(payload, 2**41) is None


def test_two_keys_whose_bytes_together_look_like_a_third():
    one, two = 0x0100, 0x0002  # little-endian: 00 01 02 00
    payload = payload_of([(one, Points.of([1], [1], [1.0])), (two, Points.of([2], [2], [2.0]))])
    assert 0x0201.to_bytes(2, "little") in payload
    assert extract(payload, 0x0201) is None
    assert extract(payload, 0x10100) is None  # its low bytes are those of a key that is there
    assert extract(payload, two) == Points.of([2], [2], [2.0])


@settings(max_examples=50)
@given(st.lists(logged, min_size=1, max_size=6), st.sets(st.integers(0, 9)))
def test_the_wanted_series_of_many_rows_are_whole_and_no_others(
    rows: list[list[tuple[int, Points]]], more: set[int]
):
    there = sorted({key for row in rows for key, _ in row})
    wanted = [*there[::2], *(2**41 + key for key in more)]
    found = ByKey.of([payload_of(row) for row in rows], wanted)
    assert found.keys.tolist() == there[::2]
    for key in there[::2]:
        mine = [points for row in rows for other, points in row if other == key]
        assert found.points_of(key) == Points.concat(mine)
    assert len(ByKey.of([payload_of(row) for row in rows], []).keys) == 0


def rows_of_many_shapes() -> list[Row]:
    """Single steps, long and short series, shared and own steps, doubles, unequal counts;
    some shapes often, others once."""
    rows: list[Row] = []
    for seed in range(30):
        kind = ("noisy float32", "noisy")[seed % 2]
        for series, count in ((1, 1), (3, 1), (1, 40), (10, 100), (7, 5)):
            one = training(count, kind, seed)
            steps, times = one.steps.tobytes() * series, one.timestamps.tobytes() * series
            values = (
                one.values.tobytes() * series
                if seed % 3
                else training(count * series, kind, seed).values.tobytes()
            )
            rows.append((list(range(1, series + 1)), [count] * series, steps, times, values))
    whole = training(12, "noisy float32")
    columns = (whole.steps.tobytes(), whole.timestamps.tobytes(), whole.values.tobytes())
    return [*rows, ([1, 300], [5, 7], *columns), ([70_000], [12], *columns)]


def test_many_rows_are_written_as_each_alone():
    rows = rows_of_many_shapes()
    assert encode_all(rows) == [encode(*row) for row in rows]
    assert encode_all([]) == []


def test_many_rows_are_read_as_each_alone_and_damage_is_told_of_its_row():
    payloads = [encode(*row) for row in rows_of_many_shapes()]
    damaged = range(0, len(payloads), 11)
    for index in damaged:
        body = bytearray(payloads[index])
        body[index % len(body)] ^= 1 + index % 255
        payloads[index] = bytes(body)
    payloads += [b"", payloads[1][:5], payloads[1][:-1]]
    for index, (payload, found) in enumerate(zip(payloads, decode_each(payloads), strict=True)):
        if index in damaged or index >= len(payloads) - 3:
            assert isinstance(found, Corrupt)
            with pytest.raises(Corrupt):
                decode(payload)
            continue
        assert not isinstance(found, Corrupt)
        alone = decode(payload)
        assert found.keys.tolist() == alone.keys.tolist()
        assert found.counts.tolist() == alone.counts.tolist()
        assert Points(found.steps, found.timestamps, found.values) == Points(
            alone.steps, alone.timestamps, alone.values
        )


def test_series_that_share_steps_and_times_store_them_once():
    one = training(100, "noisy float32")
    series = [(key, Points(one.steps, one.timestamps, one.values * key)) for key in range(1, 11)]
    payload = payload_of(series)
    for key, points in series:
        assert extract(payload, key) == points
    assert len(payload) < 1_000 * 8 + 200


@pytest.mark.parametrize("count", [1, 2, 4, 5, 32, 33, 64, 65, 1_000])
@pytest.mark.parametrize(
    ("first", "second"),
    [(INT64_MIN, INT64_MAX), (INT64_MAX, INT64_MIN), (INT64_MIN, 0), (0, INT64_MIN), (-1, 1)],
)
def test_differences_that_wrap_around_come_back(count: int, first: int, second: int):
    column = np.resize(np.array([first, second, second - 1 if second > 0 else second]), count)
    points = Points.of(column, column[::-1], np.zeros(count))
    assert extract(payload_of([(1, points)]), 1) == points


@pytest.mark.parametrize("count", [20, 100])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_differences_at_the_edge_of_a_width_come_back(count: int, bits: int, beyond: int):
    differences = np.full(count, -3)
    differences[count // 2] = (1 << bits) - 3 + beyond
    column = np.cumsum(differences)
    points = Points.of(column, -column, np.zeros(count))
    assert extract(payload_of([(1, points)]), 1) == points


def test_a_column_that_repeats_but_not_with_the_series_comes_back():
    column = np.tile([0, 1], 3)
    points = Points.of(column, column, np.arange(6.0))
    payload = payload_of([(1, points[:2]), (2, points[2:])])
    assert extract(payload, 1) == points[:2]
    assert extract(payload, 2) == points[2:]


@pytest.mark.parametrize("count", [1, 3, 5, 64, 65, 2_000])
def test_nans_become_one_and_the_callers_bytes_stay(count: int):
    patterns = np.resize(
        np.array([0xFFF8_0000_0000_0001, 0x7FF0_0000_0000_0001, 1 << 63, 0, 0x7FF0 << 48], "u8"),
        count,
    )
    values, steps = patterns.tobytes(), np.arange(count).tobytes()
    found = decode(encode([1], [count], steps, steps, values))
    expected = np.where(np.isnan(patterns.view("f8")), np.uint64(NAN_BITS), patterns)
    assert found.values.view("u8").tolist() == expected.tolist()
    assert values == patterns.tobytes()


def test_infinities_of_both_signs_are_not_taken_for_nan():
    for count in (2, 100):
        values = np.resize([math.inf, -math.inf], count)
        points = Points.of(range(count), range(count), values)
        assert extract(payload_of([(1, points)]), 1) == points


def test_numbers_that_only_look_like_float32_are_not_narrowed():
    for count in (3, 100):
        for odd in (0.1, 1e300, 5e-324, 1 + 2**-40):
            values = np.ones(count)
            values[1] = odd
            points = Points.of(range(count), range(count), values)
            assert extract(payload_of([(1, points)]), 1) == points


@pytest.mark.parametrize(
    ("keys", "count", "most"),
    [
        pytest.param(1, 1, 40, id="one point"),
        pytest.param(3, 1, 64, id="one step of three metrics"),
        pytest.param(1, 3, 100, id="three steps of one metric"),
        pytest.param(1, 1_000, 5_100, id="a thousand float32 points"),
        pytest.param(1_000, 1, 6_100, id="a thousand keys, one step"),
        pytest.param(10, 100, 4_300, id="ten keys, a hundred steps"),
    ],
)
def test_a_payload_is_small(keys: int, count: int, most: int):
    one = training(count, "noisy float32")
    random = np.random.default_rng(1)
    noise = random.normal(0, 1, (keys, count)).astype(np.float32)
    series = [(key + 1, Points.of(one.steps, one.timestamps, noise[key])) for key in range(keys)]
    assert len(payload_of(series)) <= most


@pytest.mark.parametrize(
    ("keys", "counts", "steps", "timestamps", "values"),
    [
        pytest.param([], [], b"", b"", b"", id="nothing"),
        pytest.param([1], [0], b"", b"", b"", id="an empty series"),
        pytest.param([1, 2], [2, 0], bytes(16), bytes(16), bytes(16), id="one empty series"),
        pytest.param([1, 2], [3, -1], bytes(16), bytes(16), bytes(16), id="a negative count"),
        pytest.param([1], [2], bytes(16), bytes(8), bytes(16), id="a short column"),
        pytest.param([1], [2, 2], bytes(32), bytes(32), bytes(32), id="a count too many"),
        pytest.param([-1], [1], bytes(8), bytes(8), bytes(8), id="a negative key"),
        pytest.param([2**64], [1], bytes(8), bytes(8), bytes(8), id="a key beyond 8 bytes"),
        pytest.param([1], [MAX_POINTS + 1], *[bytes(8 * MAX_POINTS + 8)] * 3, id="too many"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    keys: list[int], counts: list[int], steps: bytes, timestamps: bytes, values: bytes
):
    with pytest.raises(ValueError, match=r"disagree|holds|integers"):
        encode(keys, counts, steps, timestamps, values)


def small_payloads() -> list[bytes]:
    few, many = training(3, "noisy"), training(70, "noisy float32")
    return [
        payload_of([(1, training(1, "noisy"))]),
        payload_of([(1, few), (300, few)]),
        payload_of([(7, many), (8, many), (70_000, few)]),
    ]


def test_a_cut_at_any_byte_is_corrupt():
    for payload in small_payloads():
        for length in range(len(payload)):
            for read in (decode, partial(extract, key=99)):
                with pytest.raises(Corrupt):
                    read(payload[:length])


def test_a_flip_of_any_byte_is_corrupt():
    for payload in small_payloads():
        for place in range(len(payload)):
            for flip in (0x01, 0x80, 0xFF):
                damaged = bytearray(payload)
                damaged[place] ^= flip
                for read in (decode, partial(extract, key=99)):
                    with pytest.raises(Corrupt):
                        read(bytes(damaged))


def test_bytes_behind_the_end_are_corrupt():
    payload = small_payloads()[0]
    with pytest.raises(Corrupt):
        decode(payload + b"\0")
    with pytest.raises(Corrupt):
        decode(reseal(payload[:-4] + b"\0"))


@settings(max_examples=150)
@given(
    logged,
    st.lists(st.tuples(st.integers(0, 20) | st.integers(0), st.integers(0, 255)), min_size=1),
)
def test_damage_under_a_right_checksum_is_corrupt_or_points(
    series: list[tuple[int, Points]], changes: list[tuple[int, int]]
):
    body = bytearray(payload_of(series)[:-4])
    for place, byte in changes:
        body[place % len(body)] = byte
    try:
        found = decode(reseal(bytes(body)))
    except Corrupt:
        return
    lengths = {len(found.steps), len(found.timestamps), len(found.values), int(found.counts.sum())}
    assert len(lengths) == 1


@pytest.mark.parametrize("count", [0, MAX_POINTS + 1, 2**32 - 1])
def test_a_damaged_count_allocates_nothing(count: int):
    payload = encode([1], [5], *[array("q", [1] * 5).tobytes()] * 3)
    with pytest.raises(Corrupt, match="points"):
        decode(reseal(payload[:10] + struct.pack("<I", count) + payload[14:-4]))


def test_a_format_of_a_newer_version_says_so():
    payload = small_payloads()[0]
    with pytest.raises(Corrupt, match="format 2 is not known"):
        decode(reseal(b"\x02" + payload[1:-4]))


def test_decoded_columns_are_the_callers_to_change():
    found = decode(small_payloads()[1])
    found.values[0] = 1.0
    found.steps[0] = 1
    found.timestamps[0] = 1


def test_unequal_counts_slice_the_right_points():
    points = training(60, "noisy")
    cuts = [0, *accumulate([1, 9, 50])]
    series = [
        (key, points[low:high]) for key, low, high in zip([5, 6, 7], cuts, cuts[1:], strict=False)
    ]
    payload = payload_of(series)
    for key, part in series:
        assert extract(payload, key) == part
