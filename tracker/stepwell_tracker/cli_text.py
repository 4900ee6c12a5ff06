"""Text for terminals: tables, numbers, times and sparklines."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from datetime import datetime

from stepwell.wire import Value, from_value
from stepwell_tracker.schema import Point

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = "_.,-=+*#"
NONE = "-"


def clean(text: str) -> str:
    """The text without control characters: names come from anyone, and a terminal obeys them."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def number(value: Value | None) -> str:
    """At most six significant digits."""
    return NONE if value is None else f"{from_value(value):.6g}"


def moment(ms: int) -> str:
    """Local time, to the second."""
    try:
        return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def size(count: int | None) -> str:
    """Bytes, in units of 1,024."""
    if count is None:
        return NONE
    amount, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Columns under a header.  ``right`` marks with ``>`` the columns that are set to the right."""
    cells = [list(header), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    marks = right.ljust(len(header), "<")
    lines = (
        "  ".join(
            f"{cell:{mark}{width}}" for cell, mark, width in zip(row, marks, widths, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def sparkline(points: Sequence[Point], width: int) -> str:
    """The series as a line of blocks: each column the mean of the finite values of its steps."""
    if not points:
        return ""
    blocks = _blocks()
    first, last = points[0].step, points[-1].step
    width = max(1, min(width, last - first + 1))
    columns: list[list[float]] = [[] for _ in range(width)]
    for point in points:
        value = from_value(point.value)
        if math.isfinite(value):
            columns[(point.step - first) * width // (last - first + 1)].append(value)
    means = [sum(column) / len(column) if column else None for column in columns]
    present = [mean for mean in means if mean is not None and math.isfinite(mean)]
    if not present:
        return ""
    low, high = min(present), max(present)
    return "".join(_block(mean, low, high, blocks) for mean in means)


def _block(mean: float | None, low: float, high: float, blocks: str) -> str:
    if mean is None or not math.isfinite(mean):
        return " "
    if high <= low or not math.isfinite(high - low):
        return blocks[0]
    return blocks[min(len(blocks) - 1, int((mean - low) / (high - low) * len(blocks)))]


def _blocks() -> str:
    """The blocks, or ASCII where the terminal's encoding lacks them."""
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN_BLOCKS
    return BLOCKS
