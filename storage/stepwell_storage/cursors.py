"""Opaque cursors: where the next page of a listing begins.

A cursor is ``base64url(crc32 || msgpack([value, ...]))`` without padding, so it matches
``[A-Za-z0-9_-]+``.  The checksum covers the kind of listing too, which need not be written then.
It guards against accidents only: a forged cursor may name any place, but the types of its values
are checked here, so that no value reaches SQL that a listing of that kind could not have made.
"""

import binascii
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

import msgspec

from stepwell_storage.errors import BadCursor

Value = int | str | bytes
SHAPES: Final[dict[str, tuple[type, ...]]] = {
    "console": (int,),
    "experiments": (int,),
    "history": (int, int, int),
    "series": (str,),
}
"""The types of a kind's values.  A kind that is not here checks its values itself."""

_CHECKSUM_BYTES: Final = 4
_MAX_CHARS: Final = 65_536


def encode(kind: str, *values: Value) -> str:
    """The cursor of a place.  Integers are int64."""
    payload = msgspec.msgpack.encode(values)
    return _text(_checksum(kind, payload) + payload)


def decode(kind: str, text: str) -> tuple[Any, ...]:
    """The values that ``encode`` was given.  Raises BadCursor for any other text."""
    if len(text) > _MAX_CHARS:
        raise BadCursor
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise BadCursor from None
    checksum, payload = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
    # The decoder skips foreign characters and spare bits; only the exact text is a cursor.
    if _text(raw) != text or checksum != _checksum(kind, payload):
        raise BadCursor
    try:
        values = msgspec.msgpack.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadCursor from None
    if not isinstance(values, list) or not all(map(_is_value, values)):
        raise BadCursor
    shape = SHAPES.get(kind)
    if shape is not None and tuple(map(type, values)) != shape:
        raise BadCursor
    return tuple(values)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _checksum(kind: str, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(kind.encode())).to_bytes(_CHECKSUM_BYTES)


def _is_value(value: object) -> bool:
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) in (str, bytes)
