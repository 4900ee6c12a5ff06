"""What lies in a spool: records <-> frames.  Pure, no I/O.  docs/sdk.md has the layout in boxes.

A frame is ``length u32 | crc32 u32 | payload``, little-endian, the checksum over the payload; the
payload is one record as a msgpack array that begins with its kind.  A new kind is a new class;
the old ones stay readable for ever.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec
from msgspec import Struct

from stepwell.wire import CreateRun, EndStatus, Stream

MAGIC: Final = b"stepwell-spool1\n"
FRAME: Final = Layout("<II")
CELL: Final = 8
BLOCK_BYTES: Final = 5_120
"""The most that zlib checksums without letting go of the interpreter."""
MAX_BLOCKS: Final = 200


class Record(Struct, array_like=True):
    """Anything that a spool keeps."""


class Head(Record, tag="head"):
    """The first record of every segment: where the rest is meant to go."""

    url: str
    tenant: str
    run_id: str
    rank: int | None = None


class Create(Record, tag="create"):
    body: CreateRun


class Resume(Record, tag="resume"):
    """Sets an ended run running again."""


class Points(Record, tag="points"):
    """Rows of one shape: step int64, timestamp int64, then one float64 for each of ``keys``."""

    keys: tuple[str, ...]
    rows: bytes

    @property
    def count(self) -> int:
        return len(self.rows) // (CELL * (len(self.keys) + 2)) * len(self.keys)


class Params(Record, tag="params"):
    values: dict[str, str]


class Tags(Record, tag="tags"):
    values: dict[str, str]


class Console(Record, tag="console"):
    """Lines that the training printed: stream, time in ms, text."""

    lines: list[tuple[Stream, int, str]]


class File(Record, tag="file"):
    """A small artifact, as it was when it was logged."""

    path: str
    data: bytes


class FileLink(Record, tag="link"):
    """A large artifact: sent only while its size and time (ns) are still these."""

    path: str
    source: str
    size: int
    modified_ns: int


class End(Record, tag="end"):
    status: EndStatus
    end_time: int


AnyRecord = Head | Create | Resume | Points | Params | Tags | Console | File | FileLink | End

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyRecord)


def count(record: AnyRecord) -> int:
    """How many things a record holds, for telling people what waits."""
    if isinstance(record, Points):
        return record.count
    if isinstance(record, Params | Tags):
        return len(record.values)
    if isinstance(record, Console):
        return len(record.lines)
    return 0 if isinstance(record, Head) else 1


def frame(record: AnyRecord) -> bytes:
    payload = _encoder.encode(record)
    return FRAME.pack(len(payload), crc32(payload)) + payload


def frame_of_rows(keys: tuple[str, ...], rows: bytes) -> list[bytes]:
    """``frame(Points(keys, rows))`` in two pieces, the rows uncopied: a caller waits for this."""
    start = b"\x93" + _encoder.encode("points") + _encoder.encode(keys)
    start += b"\xc6" + len(rows).to_bytes(4, "big")
    return [FRAME.pack(len(start) + len(rows), _crc32(rows, crc32(start))) + start, rows]


def _crc32(data: bytes, value: int) -> int:
    """The same without letting go of the interpreter, unless it takes long: where another thread
    computes, whoever lets go has it back after a switch interval, 50 times as long as this takes.
    """
    if len(data) > BLOCK_BYTES * MAX_BLOCKS:
        return crc32(data, value)
    view = memoryview(data)
    for at in range(0, len(data), BLOCK_BYTES):
        value = crc32(view[at : at + BLOCK_BYTES], value)
    return value


class Parsed(Struct):
    """``consumed`` bytes were whole frames; ``damaged`` of them failed their checksum.

    ``wanted`` is the size of the frame that comes next but is not whole, 0 if not even its head is.
    """

    records: list[AnyRecord]
    consumed: int
    damaged: int
    wanted: int = 0


def parse(data: bytes) -> Parsed:
    """The whole frames at the start of ``data``.  A damaged payload costs that record only."""
    records: list[AnyRecord] = []
    at = damaged = wanted = 0
    while at + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, at)
        start, end = at + FRAME.size, at + FRAME.size + length
        if end > len(data):
            wanted = FRAME.size + length
            break
        payload = data[start:end]
        record = _decode(payload) if crc32(payload) == checksum else None
        if record is None:
            damaged += 1
        else:
            records.append(record)
        at = end
    return Parsed(records, at, damaged, wanted)


def _decode(payload: bytes) -> AnyRecord | None:
    try:
        record: AnyRecord = _decoder.decode(payload)
    except (msgspec.DecodeError, ValueError):
        return None
    return record
