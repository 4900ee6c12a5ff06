"""Rows as Parquet files and back, by arro3: of one type a column, bit for bit.

arro3 is a thirtieth of a gigabyte where the next smallest library that streams is twice as large
and the best known one five times.  Over a file that is no Parquet it panics, or aborts the process:
run as a program, this reads all files whose paths come on stdin, and names each on stdout first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from arro3.core import Array, DataType, RecordBatch
from arro3.io import read_parquet, write_parquet

from stepwell_storage.errors import Corrupt

COMPRESSION: Final = "zstd(3)"
ROW_GROUP: Final = 250_000
BATCH_ROWS: Final = 65_536
_TYPES: Final = {
    "integer": DataType.int64,
    "text": DataType.utf8,
    "blob": DataType.binary,
    "double": DataType.float64,
}
_POINT_ENCODINGS: Final[Any] = {
    "step": "delta_binary_packed",
    "timestamp": "delta_binary_packed",
    "value": "byte_stream_split",
}

Columns = Mapping[str, str]
"""Name to integer, text, blob or double."""

POINT_NUMBERS: Final[Columns] = {
    "run": "integer",
    "name": "integer",
    "step": "integer",
    "timestamp": "integer",
    "value": "double",
}


def kind_of(declared: str) -> str:
    """The kind of a column, by how it was declared."""
    return {"bigint": "integer", "integer": "integer", "blob": "blob"}.get(declared, "text")


def write_rows(path: Path, columns: Columns, rows: Sequence[Sequence[object]]) -> None:
    """A file of some rows; null is null."""
    arrays: dict[str, Any] = {
        name: Array([row[place] for row in rows], type=_TYPES[kind]())
        for place, (name, kind) in enumerate(columns.items())
    }
    _write(path, arrays)


def read_rows(path: Path, columns: Columns) -> Iterator[list[tuple[Any, ...]]]:
    """Its rows in batches, the columns in this order.  Raises Corrupt for other columns."""
    for batch in _batches(path, columns):
        yield list(zip(*(batch[name].to_pylist() for name in columns), strict=True))


def write_points(
    path: Path, texts: Mapping[str, list[str]], numbers: Mapping[str, npt.NDArray[Any]]
) -> None:
    """A file of points: columns of text and columns of numbers, all of one length."""
    arrays: dict[str, Any] = {
        name: Array(column, type=DataType.utf8()) for name, column in texts.items()
    }
    arrays |= {name: Array.from_numpy(column) for name, column in numbers.items()}
    plain = [*_POINT_ENCODINGS]
    _write(
        path,
        arrays,
        column_encoding=_POINT_ENCODINGS,
        column_dictionary_enabled=dict.fromkeys(plain, False),
    )


def _write(path: Path, arrays: dict[str, Any], **options: Any) -> None:
    """By way of memory: over a disk that is full the library panics."""
    whole = BytesIO()
    rows = RecordBatch.from_pydict(arrays)
    write_parquet(rows, whole, compression=COMPRESSION, max_row_group_size=ROW_GROUP, **options)
    path.write_bytes(whole.getbuffer())


def read_points(path: Path, columns: Columns) -> Iterator[list[npt.NDArray[Any]]]:
    """Its columns of numbers in batches, copied out of the library's memory.  Raises Corrupt."""
    for batch in _batches(path, columns):
        if any(batch[name].null_count for name in columns):
            raise Corrupt("has points without a number", file=path)
        yield [np.array(batch[name].to_numpy()) for name in columns]


def _batches(path: Path, columns: Columns) -> Iterator[RecordBatch]:
    reader = read_parquet(path, batch_size=BATCH_ROWS)
    for name, kind in columns.items():
        if name not in reader.schema.names or reader.schema.field(name).type != _TYPES[kind]():
            raise Corrupt(f"has no column {name} of type {_TYPES[kind]()}", file=path)
    yield from reader


def _probe() -> None:
    for path in sys.stdin.buffer.read().decode(errors="surrogateescape").split("\0"):
        sys.stdout.buffer.write(b"\0" + path.encode(errors="surrogateescape"))
        sys.stdout.flush()
        for _ in read_parquet(Path(path), batch_size=BATCH_ROWS) if path else ():
            pass


if __name__ == "__main__":
    _probe()
