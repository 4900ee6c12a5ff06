from __future__ import annotations

import pytest

from stepwell_tracker.ranges import Unsatisfiable, parse


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-99", [(0, 100)]),
        ("bytes=0-100", [(0, 100)]),
        ("bytes=99-", [(99, 100)]),
        ("bytes=10-9999999999999999999", [(10, 100)]),
        ("bytes=-1", [(99, 100)]),
        ("bytes=-1000", [(0, 100)]),
        ("BYTES = 5-9", [(5, 10)]),
        ("bytes=5-9, 20-29", [(5, 10), (20, 30)]),
        ("bytes=20-29,5-9", [(20, 30), (5, 10)]),
        ("bytes=0-9,10-19", [(0, 20)]),
        ("bytes=5-20,0-9,50-,-60", [(0, 21), (40, 100)]),
        ("bytes=0-9,200-300", [(0, 10)]),
        ("bytes=0-9,,\t", [(0, 10)]),
        ("bytes=-0,0-0", [(0, 1)]),
    ],
)
def test_a_range_means_other_bytes(header, spans):
    assert parse(header, 100) == spans


@pytest.mark.parametrize(
    "header",
    [
        "", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=1", "bytes=5-4",
        "items=0-1",
        "bytes=0-1-2", "bytes=--1", "bytes=1-2;3-4", "bytes=0x1-2", "bytes=+1-2", "bytes=٣-٤",
        "bytes=0-1,5-4", "bytes=" + "1" * 30 + "-", "bytes=" + ",".join(["0-0"] * 101),
    ],
)  # fmt: skip
def test_a_malformed_range_is_an_error_or_a_part(header):
    assert parse(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=500-,100-"])
def test_a_range_outside_the_file_is_answered_with_bytes(header):
    with pytest.raises(Unsatisfiable):
        parse(header, 100)


def test_every_pair_of_spans_is_covered_once():
    for first in range(8):
        for last in range(first, 9):
            for other in range(8):
                spans = parse(f"bytes={first}-{last},{other}-", 8)
                assert spans is not None
                covered = [byte for start, stop in spans for byte in range(start, stop)]
                assert len(covered) == len(set(covered))
                assert set(covered) == set(range(first, min(last + 1, 8))) | set(range(other, 8))
    for asked in ("bytes=0-", "bytes=-5"):
        with pytest.raises(Unsatisfiable):
            parse(asked, 0)
