"""The Range header (RFC 9110, section 14): which bytes of a file an answer carries.  Pure."""

from __future__ import annotations

import re
from typing import Final

Span = tuple[int, int]
"""First byte, and the one after the last."""

MAX_RANGES: Final = 100
_SPEC: Final = re.compile(r"(\d{0,19})-(\d{0,19})", re.ASCII)


class Unsatisfiable(Exception):
    """None of the ranges asked for has a byte in the file."""


def parse(header: str, size: int) -> list[Span] | None:
    """The spans of a Range header, not overlapping; None where it is to be ignored.

    Ignored, as the RFC has it, are other units, malformed headers, and more than ``MAX_RANGES``.
    Overlapping and adjacent spans become one.  Raises Unsatisfiable.
    """
    unit, _, rest = header.partition("=")
    specs = [spec.strip(" \t") for spec in rest.split(",")]
    if unit.strip().lower() != "bytes" or len(specs) > MAX_RANGES:
        return None
    spans = []
    for spec in filter(None, specs):
        match = _SPEC.fullmatch(spec)
        if match is None or spec == "-":
            return None
        first, last = match.groups()
        if not first:
            start, stop = max(0, size - int(last)), size
        else:
            start, stop = int(first), int(last) + 1 if last else size
            if last and stop <= start:
                return None
        if start < min(stop, size):
            spans.append((start, min(stop, size)))
    if not any(specs):
        return None
    if not spans:
        raise Unsatisfiable
    return _merged(spans)


def _merged(spans: list[Span]) -> list[Span]:
    """In the order asked, unless some touch: then in the order of the file."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged if len(merged) < len(spans) else spans
