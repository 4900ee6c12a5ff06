"""Frames: cut at every byte, flipped at every byte, nothing wrong is ever believed."""

import sys
import threading
import time
from pathlib import Path
from typing import get_args
from zlib import crc32

import pytest
from hypothesis import given, strategies as st

from stepwell import records as module
from stepwell.records import (
    FRAME,
    MAGIC,
    AnyRecord,
    Console,
    Create,
    End,
    File,
    FileLink,
    Head,
    Params,
    Parsed,
    Points,
    Record,
    Resume,
    Tags,
    count,
    frame,
    frame_of_rows,
    parse,
)
from stepwell.wire import CreateRun

SAMPLES: list[AnyRecord] = [
    Head("http://127.0.0.1:7837", "acme-corp", "0" * 32, 3),
    Create(CreateRun(experiment_name="exp", run_id="0" * 32, start_time=1)),
    Resume(),
    Points(("loss", "ü"), bytes(range(32)) * 5),
    Params({"lr": "0.01"}),
    Tags({"a": "b", "c": ""}),
    Console([("stdout", 1_707_723_600_000, "epoch 1"), ("stderr", 1_707_723_600_001, "ü")]),
    File("dir/a.txt", b"\x00\xff"),
    FileLink("model.bin", "/data/model.bin", 10**12, 1_700_000_000_000_000_000),
    End("killed", 1_707_723_600_000),
]
WHOLE = b"".join(map(frame, SAMPLES))


def test_every_kind_of_record_comes_back():
    assert parse(WHOLE).records == SAMPLES
    assert {type(sample) for sample in SAMPLES} == set(get_args(AnyRecord))
    assert set(get_args(AnyRecord)) == set(Record.__subclasses__())


def test_a_spool_that_the_first_client_wrote_is_read_for_ever():
    """A kind that is added later has its own file beside this one."""
    golden = Path(__file__).parents[1] / "golden" / "v1_client.spool"
    data = golden.read_bytes()
    assert data.startswith(MAGIC)
    assert parse(data[len(MAGIC) :]) == Parsed(SAMPLES, len(data) - len(MAGIC), 0)


def test_cut_at_every_byte_what_is_before_the_cut_is_kept():
    ends = [0]
    for sample in SAMPLES:
        ends.append(ends[-1] + len(frame(sample)))
    for cut in range(len(WHOLE)):
        parsed = parse(WHOLE[:cut])
        whole = max(place for place, end in enumerate(ends) if end <= cut)
        assert parsed.records == SAMPLES[:whole]
        assert (parsed.consumed, parsed.damaged) == (ends[whole], 0)
        if cut - ends[whole] >= FRAME.size:
            assert parsed.wanted == ends[whole + 1] - ends[whole]


def test_flipped_at_every_byte_no_record_is_wrong():
    for place in range(len(WHOLE)):
        data = bytearray(WHOLE)
        data[place] ^= 0x40
        for record in parse(bytes(data)).records:
            assert record in SAMPLES


def test_a_damaged_payload_costs_that_record_only():
    data = bytearray(WHOLE)
    data[FRAME.size + 3] ^= 1
    parsed = parse(bytes(data))
    assert (parsed.records, parsed.damaged) == (SAMPLES[1:], 1)


@given(
    st.lists(st.text(max_size=300), min_size=1, max_size=40).map(tuple),
    st.binary(max_size=70_000),
)
def test_rows_in_pieces_are_the_same_record(keys: tuple[str, ...], rows: bytes):
    pieces = frame_of_rows(keys, rows)
    assert pieces[-1] is rows
    parsed = parse(b"".join(pieces))
    assert parsed.records == [Points(keys, rows)]
    assert parsed.consumed == sum(map(len, pieces))


@given(st.binary(max_size=200))
def test_noise_is_never_believed(noise: bytes):
    assert parse(noise).records == []


@pytest.mark.parametrize(
    ("record", "items"),
    [
        (SAMPLES[0], 0),
        (SAMPLES[3], 10),
        (SAMPLES[4], 1),
        (SAMPLES[5], 2),
        (SAMPLES[6], 2),
        (SAMPLES[9], 1),
    ],
)
def test_how_many_things_a_record_holds(record: AnyRecord, items: int):
    assert count(record) == items


def test_a_kind_of_record_once_written_keeps_its_name_and_place():
    """A spool of an older client must be readable for ever: this list may only grow."""
    fields = {kind.__struct_config__.tag: kind.__struct_fields__ for kind in get_args(AnyRecord)}
    assert fields == {
        "head": ("url", "tenant", "run_id", "rank"),
        "create": ("body",),
        "resume": (),
        "points": ("keys", "rows"),
        "params": ("values",),
        "tags": ("values",),
        "console": ("lines",),
        "file": ("path", "data"),
        "link": ("path", "source", "size", "modified_ns"),
        "end": ("status", "end_time"),
    }
    assert module.MAGIC == b"stepwell-spool1\n"
    assert frame(Tags({"a": "b"})) == bytes.fromhex("0b000000") + frame(Tags({"a": "b"}))[4:8] + (
        b"\x92\xa4tags\x81\xa1a\xa1b"
    )


def test_rows_are_framed_without_letting_go_of_the_interpreter():
    """A logging call does this: another thread that computes would have it for 5 ms or more."""
    turns = 0
    over = threading.Event()

    def compute() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            time.sleep(0)

    rows = bytes(range(250)) * 4 * 160  # as many as memory may hold of three metrics a step
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)  # nobody is made to let go
    other = threading.Thread(target=compute)
    try:
        other.start()
        time.sleep(0.01)
        before = turns
        framed = [frame_of_rows(("a", "b", "c"), rows) for _ in range(100)]
        during = turns - before
    finally:
        over.set()
        sys.setswitchinterval(interval)
        other.join()
    assert during == 0
    assert before > 0
    assert parse(b"".join(framed[0])).records == [Points(("a", "b", "c"), rows)]


@pytest.mark.parametrize("size", [0, 5_119, 5_120, 5_121, 1_100_000])
def test_rows_of_any_length_have_the_checksum_of_all_of_them(size: int):
    head, rows = frame_of_rows(("a",), bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    start = head[FRAME.size :]
    assert FRAME.unpack_from(head) == (len(start) + size, crc32(rows, crc32(start)))
