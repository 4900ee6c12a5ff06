"""The files that the examples log: tables, model cards, and a picture with nothing but zlib."""

from __future__ import annotations

import csv
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCALE = 6
"""Pixels of the picture for each weight, across and down."""


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_card(path: Path, title: str, facts: Mapping[str, object]) -> Path:
    """A model card in Markdown."""
    lines = [f"# {title}", "", "| what | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    path.write_text("\n".join([*lines, "", "Trained by Stepwell's examples on real data.", ""]))
    return path


def write_mosaic(path: Path, tiles: Any) -> Path:
    """Arrays of one shape, float[n, h, w], as a grey PNG: each tile from black to white."""
    count, height, width = tiles.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    low = tiles.min(axis=(1, 2), keepdims=True)
    high = tiles.max(axis=(1, 2), keepdims=True)
    grey = (255 * (tiles - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    canvas = np.zeros((down * (height + 1), across * (width + 1)), np.uint8)
    for index, tile in enumerate(grey):
        top, left = index // across * (height + 1), index % across * (width + 1)
        canvas[top : top + height, left : left + width] = tile
    path.write_bytes(_png(canvas.repeat(SCALE, axis=0).repeat(SCALE, axis=1)))
    return path


def _png(grey: Any) -> bytes:
    """8-bit grey PNG of uint8[h, w]."""
    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
