"""Keys, parameter values, tags and names: what may be stored, and why not.

Everything here raises Invalid with the path of the field, or LimitExceeded with the limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from stepwell import wire
from stepwell_storage.errors import Invalid, LimitExceeded

_KEY = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{wire.MAX_KEY_CHARS}}}")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")

MAX_KNOWN_KEYS: Final = 131_072
_known: set[str] = set()
"""Keys that were found good; emptied when full.  A training run logs the same ones for ever."""


def check_keys(keys: Iterable[str], path_of: Callable[[str], str]) -> None:
    """Check distinct keys; ``path_of`` names the field of a bad one.

    A key has 1 to 250 characters, none of them a control character.
    """
    if _known.issuperset(keys):
        return
    for key in keys:
        if key not in _known:
            _check_key(key, path_of)
            if len(_known) >= MAX_KNOWN_KEYS:
                _known.clear()
            _known.add(key)


def _check_key(key: str, path_of: Callable[[str], str]) -> None:
    if _KEY.fullmatch(key):
        return
    if not key:
        raise Invalid(path_of(key), "a key has at least one character")
    if len(key) > wire.MAX_KEY_CHARS:
        raise LimitExceeded(
            path_of(key), f"a key has at most {wire.MAX_KEY_CHARS} characters, this one {len(key)}"
        )
    raise Invalid(path_of(key), "a key has no control characters and no lone surrogates")


def text_of(value: wire.Scalar) -> str:
    """A scalar as it is stored: true and false in JSON's spelling, numbers in Python's."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def texts(path: str, given: Mapping[str, wire.Scalar]) -> dict[str, str]:
    """Parameters or tags that may be stored."""
    check_keys(given, lambda key: f"{path}.{key}")
    return {key: checked_value(f"{path}.{key}", value) for key, value in given.items()}


def changes(given: Mapping[str, str | None], field: str = "tags") -> dict[str, str | None]:
    """Changes of tags; null removes one."""
    check_keys(given, lambda key: f"{field}.{key}")
    return {
        key: None if value is None else checked_value(f"{field}.{key}", value)
        for key, value in given.items()
    }


def checked_value(path: str, value: wire.Scalar) -> str:
    """The text of a parameter's or tag's value."""
    text = text_of(value)
    if len(text) > wire.MAX_VALUE_CHARS:
        raise LimitExceeded(
            path, f"a value has at most {wire.MAX_VALUE_CHARS} characters, this one {len(text)}"
        )
    return storable(path, text)


def storable(path: str, text: str) -> str:
    """A text that every database can hold: no NUL, no lone surrogates."""
    if _UNSTORABLE.search(text):
        raise Invalid(path, "a text has no NUL characters and no lone surrogates")
    return text
