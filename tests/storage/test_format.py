"""A second reader, written from docs/format.md alone, reads what the first one's writers write."""

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from stepwell_storage import codec, compaction, payloads
from stepwell_storage.points import Points, merge
from tests.storage.point_samples import listed, long_ones, scattered

GOLDEN = Path(__file__).parents[1] / "golden"
FORMAT = Path(__file__).parents[2] / "docs" / "format.md"
UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Plain:
    """Reads from a sealed body, number by number."""

    def __init__(self, sealed: bytes) -> None:
        self.body, crc = sealed[:-4], sealed[-4:]
        assert struct.unpack("<I", crc) == (zlib.crc32(self.body),)
        self.place = 0

    def take(self, code: str, count: int = 1) -> list[Any]:
        form = f"<{count}{code}"
        self.place += struct.calcsize(form)
        return list(struct.unpack_from(form, self.body, self.place - struct.calcsize(form)))

    def unsigned(self, count: int, width: int) -> list[int]:
        return self.take(UNSIGNED[width], count) if width else [0] * count

    def column(self, form: int, count: int, code: str, period: int = 0) -> list[Any]:
        if form >= 128:
            return self.column(form - 128, period, code) * (count // period)
        if form == 0:
            return self.take(code, count)
        if form == 1:
            return self.take(code) * count
        if form == 2:
            assert code == "d"
            return self.take("f", count)
        assert form in (16, 17, 18, 20)
        first, least = self.take("q", 2)
        return self.sums(first, [least + rest for rest in self.unsigned(count - 1, form - 16)])

    def sums(self, first: int, differences: list[int]) -> list[int]:
        entries = [first]
        for difference in differences:
            entries.append(wrapped(entries[-1] + difference))
        return entries

    def firsts(self, blocks: int, width: int) -> list[int]:
        first = self.take("q")[0]
        if blocks == 1:
            return [first]
        least = self.take("q")[0]
        return self.sums(first, [least + rest for rest in self.unsigned(blocks - 1, width)])

    def offsets(self, firsts: list[int], width: int) -> list[list[int]]:
        blocks = len(firsts)
        flat = self.unsigned(3 * blocks, width)
        return [
            [wrapped(first + offset) for first, offset in zip(firsts, part, strict=True)]
            for part in (flat[:blocks], flat[blocks : 2 * blocks], flat[2 * blocks :])
        ]

    def end(self) -> None:
        assert self.place == len(self.body)


def wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def points_of(steps: list[int], times: list[int], values: list[float]) -> list[Any]:
    return listed(Points.of(steps, times, values))


def read_journal(payload: bytes) -> tuple[list[int], list[int], list[Any]]:
    plain = Plain(payload)
    assert plain.take("B") == [1]
    key_width, count_width, *forms = plain.take("B", 5)
    series, points = plain.take("I", 2)
    keys = plain.unsigned(series, key_width)
    counts = plain.unsigned(series, count_width) if count_width else [points // series] * series
    period = points // series
    steps = plain.column(forms[0], points, "q", period)
    times = plain.column(forms[1], points, "q", period)
    values = plain.column(forms[2], points, "d")
    plain.end()
    return keys, counts, points_of(steps, times, values)


def read_narrow_chunk(data: bytes) -> list[Any]:
    plain = Plain(data)
    assert plain.take("B") == [2]
    forms = plain.take("B", 3)
    count = plain.take("I")[0]
    steps = plain.column(forms[0], count, "q")
    times = plain.column(forms[1], count, "q")
    values = plain.column(forms[2], count, "d")
    plain.end()
    return points_of(steps, times, values)


def read_summary(summary: bytes) -> tuple[int, list[int], list[list[Any]]]:
    """Points, non-finite counts, and the four points of each block."""
    plain = Plain(summary)
    assert plain.take("B") == [1]
    form, a, b, c, d, e = plain.take("B", 6)
    points = plain.take("I")[0]
    blocks = math.ceil(points / 256)
    first_steps = plain.firsts(blocks, a)
    first_times = plain.firsts(blocks, b)
    steps = [first_steps, *plain.offsets(first_steps, c)]
    times = [first_times, *plain.offsets(first_times, d)]
    nonfinite = plain.unsigned(blocks, e)
    if form == 1:
        values = plain.take("d") * 4 * blocks
    else:
        values = plain.take("d" if form == 0 else "f", 4 * blocks)
    plain.end()
    four = [values[place * blocks : (place + 1) * blocks] for place in range(4)]
    return (
        points,
        nonfinite,
        [points_of(*columns) for columns in zip(steps, times, four, strict=True)],
    )


def check_summary(summary: bytes) -> None:
    count, nonfinite, (first, last, lowest, highest) = read_summary(summary)
    found = codec.decode_summary(summary)
    assert found.count == count
    assert found.nonfinite.tolist() == nonfinite
    assert [listed(found.first), listed(found.last)] == [first, last]
    assert [listed(found.lowest), listed(found.highest)] == [lowest, highest]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("v1_*.journal")), ids=lambda path: path.stem)
def test_a_golden_journal_payload_is_as_documented(path: Path):
    payload = path.read_bytes()
    found = payloads.decode(payload)
    points = listed(Points(found.steps, found.timestamps, found.values))
    assert read_journal(payload) == (found.keys.tolist(), found.counts.tolist(), points)


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("v1_narrow*.chunk")), ids=lambda path: path.stem
)
def test_a_golden_narrow_chunk_is_as_documented(path: Path):
    assert read_narrow_chunk(path.read_bytes()) == listed(codec.decode(path.read_bytes()))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("v1_*.summary")), ids=lambda path: path.stem)
def test_a_golden_summary_is_as_documented(path: Path):
    check_summary(path.read_bytes())


@settings(max_examples=100)
@given(st.one_of(scattered, long_ones()).map(lambda points: merge([points])).filter(len))
def test_any_chunk_is_as_documented(points: Points):
    chunk = codec.encode(points)
    check_summary(chunk.summary)
    if chunk.data[0] == codec.NARROW:
        assert read_narrow_chunk(chunk.data) == listed(points)


@settings(max_examples=100)
@given(st.one_of(scattered, long_ones(300)).filter(len), st.integers(1, 4))
def test_any_journal_payload_is_as_documented(points: Points, series: int):
    keys, counts = list(range(series)), [len(points)] * series
    columns = (points.steps, points.timestamps, points.values)
    payload = payloads.encode(keys, counts, *[column.tobytes() * series for column in columns])
    assert read_journal(payload) == (keys, counts, listed(points) * series)


def test_the_document_names_every_number_that_is_written():
    text = FORMAT.read_text(encoding="utf-8")
    assert (
        f"| {codec.PACKED} | packed | {codec.NARROW_BELOW} to {codec.MAX_POINTS:,} points" in text
    )
    assert (
        f"| {codec.NARROW} | narrow | 1 to {codec.NARROW_BELOW - 1} points;"
        f" 1 to {compaction.MANY_NARROW_BELOW - 1:,} where more than {compaction.MANY_SERIES}"
    ) in text
    assert f"*blocks* of {codec.BLOCK}" in text
    assert f"1 to {payloads.MAX_POINTS:,}" in text
