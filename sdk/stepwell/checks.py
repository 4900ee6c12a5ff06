"""What a caller may pass: each function returns the checked form or raises WrongUse."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from operator import index
from typing import Any

from stepwell.errors import WrongUse
from stepwell.wire import MAX_KEY_CHARS, MAX_VALUE_CHARS

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def key(given: object) -> str:
    """1 to 250 characters, no control characters, valid Unicode."""
    if not isinstance(given, str):
        raise WrongUse(f"a key is a text, not {_kind(given)}", "key")
    if not 1 <= len(given) <= MAX_KEY_CHARS:
        raise WrongUse(f"a key has 1 to {MAX_KEY_CHARS} characters: {_short(given)}", "key")
    if not given.isprintable() and any(ord(char) < 32 or 127 <= ord(char) < 160 for char in given):
        raise WrongUse(f"a key has no control characters: {_short(given)}", "key")
    return _encodable(str(given), "key")


def number(name: str, given: Any) -> float:
    """Anything with ``__float__``, converted now: later it may have changed."""
    if hasattr(type(given), "__float__"):
        try:
            return float(given)
        except Exception as error:
            raise WrongUse(f"metric {_short(name)}: {_short(error)}", "metric") from error
    raise WrongUse(f"metric {_short(name)}: {_kind(given)} is no number", "metric")


def step(given: Any) -> int:
    """An integer within int64; NumPy's count, floats do not."""
    return _int64("step", given)


def millis(given: Any) -> int:
    """Milliseconds since the epoch, of an integer or of a datetime that has a zone."""
    if isinstance(given, datetime):
        if given.tzinfo is None:
            text = "a datetime without a zone is ambiguous; pass one with tzinfo"
            raise WrongUse(text, "timestamp")
        return round(given.timestamp() * 1000)
    return _int64("timestamp", given, " of milliseconds")


def text(kind: str, given: object, *, name: str = "", limit: int = MAX_VALUE_CHARS) -> str:
    """``str()`` of a parameter, a tag or whatever else ``kind`` is, of that ``name``."""
    what = f"{kind} {name!r}" if name else kind
    try:
        value = str(given)
    except Exception as error:
        raise WrongUse(f"{what}: {_short(error)}", kind) from error
    if len(value) > limit:
        raise WrongUse(f"{what}: {len(value):,} characters, {limit:,} are the limit", kind)
    if "\0" in value:
        raise WrongUse(f"{what}: a text has no NUL", kind)
    return _encodable(value, kind)


def mapping(kind: str, given: Any) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise WrongUse(f"{kind}s are a mapping, not {_kind(given)}", f"{kind}s")
    return given


def _int64(kind: str, given: Any, of: str = "") -> int:
    try:
        value = index(given)
    except TypeError:
        raise WrongUse(f"{kind}: {_kind(given)} is no integer{of}", kind) from None
    if not _LOWEST <= value <= _HIGHEST:
        raise WrongUse(f"{kind}: {value} is beyond int64", kind)
    return value


def _encodable(value: str, kind: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WrongUse(f"no valid Unicode: {_short(value)}", kind) from None
    return value


def _kind(given: object) -> str:
    return type(given).__name__


def _short(given: object) -> str:
    shown = ascii(given) if isinstance(given, str) else f"{given}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
