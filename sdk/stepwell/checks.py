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
        raise WrongUse(f"a key is a text, not {_kind(given)}")
    if not 1 <= len(given) <= MAX_KEY_CHARS:
        raise WrongUse(f"a key has 1 to {MAX_KEY_CHARS} characters: {_short(given)}")
    if not given.isprintable() and any(ord(char) < 32 or 127 <= ord(char) < 160 for char in given):
        raise WrongUse(f"a key has no control characters: {_short(given)}")
    return _encodable(str(given))


def number(name: str, given: Any) -> float:
    """Anything with ``__float__``, converted now: later it may have changed."""
    if hasattr(type(given), "__float__"):
        try:
            return float(given)
        except Exception as error:
            raise WrongUse(f"metric {_short(name)}: {_short(error)}") from error
    raise WrongUse(f"metric {_short(name)}: {_kind(given)} is no number")


def step(given: Any) -> int:
    """An integer within int64; NumPy's count, floats do not."""
    return _int64("step", given)


def millis(given: Any) -> int:
    """Milliseconds since the epoch, of an integer or of a datetime that has a zone."""
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise WrongUse("a datetime without a zone is ambiguous; pass one with tzinfo")
        return round(given.timestamp() * 1000)
    return _int64("timestamp (integer milliseconds)", given)


def text(what: str, given: object, limit: int = MAX_VALUE_CHARS) -> str:
    """``str()`` of a parameter or tag."""
    try:
        value = str(given)
    except Exception as error:
        raise WrongUse(f"{what}: {_short(error)}") from error
    if len(value) > limit:
        raise WrongUse(f"{what}: {len(value):,} characters, {limit:,} are the limit")
    if "\0" in value:
        raise WrongUse(f"{what}: a text has no NUL")
    return _encodable(value)


def mapping(what: str, given: Any) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise WrongUse(f"{what} are a mapping, not {_kind(given)}")
    return given


def _int64(what: str, given: Any) -> int:
    try:
        value = index(given)
    except TypeError:
        raise WrongUse(f"{what}: {_kind(given)} is no integer") from None
    if not _LOWEST <= value <= _HIGHEST:
        raise WrongUse(f"{what}: {value} is beyond int64")
    return value


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WrongUse(f"no valid Unicode: {_short(value)}") from None
    return value


def _kind(given: object) -> str:
    return type(given).__name__


def _short(given: object) -> str:
    shown = ascii(given) if isinstance(given, str) else f"{given}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
