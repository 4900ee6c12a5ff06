"""Bodies and queries into Structs; whatever does not fit names its field.

JSON and MessagePack bodies go through msgspec, once.  Where msgspec's own error cannot name the
field (a mapping's value, a column's position), the slow path here finds the name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect

from stepwell import wire
from stepwell_storage.errors import BadCursor, Invalid
from stepwell_tracker.errors import BadRequest, field_error

MAX_PARAMETERS = 10_000
"""Bound of a query's parameters; ``keys`` and ``experiment_id`` may repeat."""

MAX_SEARCHED_BYTES = 1024 * 1024
"""Bound of bodies that are looked through for the field that has half a surrogate pair."""

_INTEGER = re.compile(r"-?[0-9]+")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_mappings = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Beginning(msgspec.Struct, array_like=True):
    format: int


class Decoder:
    """Bytes of one media type into one Struct.  Raises Invalid (422) and BadRequest (400)."""

    __slots__ = ("_decode", "_media", "_struct")

    def __init__(self, media: str, struct: type[msgspec.Struct]) -> None:
        codec: Any = msgspec.json if media == wire.JSON else msgspec.msgpack
        self._decode = codec.Decoder(struct).decode
        self._media = media
        self._struct = struct

    def __call__(self, body: bytes) -> Any:
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise self._named(error, body) from None
        except msgspec.DecodeError as error:
            self._refuse_halves(body)
            raise BadRequest(f"the body cannot be decoded: {error}") from None
        except UnicodeDecodeError:
            raise BadRequest("the body has text that is not UTF-8") from None
        except RecursionError:
            raise BadRequest("the body is nested too deeply") from None

    def _named(self, error: msgspec.ValidationError, body: bytes) -> Invalid:
        found = field_error(error)
        path = found.path
        if self._media == wire.JSON:
            if match := re.fullmatch(r"(\w+)\[\.\.\.\]", path):
                path = f"{match[1]}.{self._culprit(match[1], body)}"
        else:
            check_format(_format_of(body))
            path = column_path(path)
        return Invalid(path, found.detail)

    def _refuse_halves(self, body: bytes) -> None:
        """Raises Invalid for half a surrogate pair, which JSON has and msgspec does not take."""
        if self._media != wire.JSON or len(body) > MAX_SEARCHED_BYTES:
            return
        if not _SURROGATE.search(body):
            return
        try:
            places = list(_halves(json.loads(body, parse_constant=_refuse_constant), ""))
        except (ValueError, RecursionError):
            return
        for path in places[:1]:
            raise Invalid(path, "a text has no lone surrogates")

    def _culprit(self, name: str, body: bytes) -> str:
        """The key of the first entry of a mapping that does not fit."""
        try:
            entries = msgspec.json.decode(_mappings(body)[name], type=dict[str, msgspec.Raw])
        except _UNREADABLE:
            return "..."  # what follows the wrong field is not even JSON
        for key, value in entries.items():
            try:
                self._decode(msgspec.json.encode({name: {key: value}}))
            except msgspec.ValidationError as error:
                if field_error(error).path.startswith(name):
                    return key
        return "..."


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and infinities are no JSON


def _halves(value: object, path: str) -> Iterator[str]:
    """Where a text has a lone surrogate; that of a key is the mapping's own place."""
    match value:
        case str():
            if _HALF.search(value):
                yield path
        case list():
            for place, one in enumerate(value):
                yield from _halves(one, f"{path}[{place}]")
        case dict():
            for key, one in value.items():
                if _HALF.search(key):
                    yield path
                else:
                    yield from _halves(one, f"{path}.{key}".removeprefix("."))


def check_format(number: int) -> None:
    """Raises Invalid for a columnar format that this server does not know."""
    if number != wire.COLUMNS_FORMAT:
        raise Invalid(
            "format", f"this server takes columnar format {wire.COLUMNS_FORMAT}, not {number}"
        )


def _format_of(body: bytes) -> int:
    """The number that a columnar body begins with; ours where there is none to read."""
    try:
        return msgspec.msgpack.decode(body, type=_Beginning).format
    except _UNREADABLE:
        return wire.COLUMNS_FORMAT


def column_path(path: str) -> str:
    """``[1][0][2]`` of a columnar body as ``series[0].values``: arrays have positions, no names."""
    numbers = re.findall(r"\[(\d+|\.\.\.)\]", path)
    if not numbers or not numbers[0].isdigit():
        return path
    named = wire.ColumnarBatch.__struct_fields__[int(numbers[0])]
    if named != "series":
        return ".".join([named, *numbers[1:]])
    if len(numbers) > 1:
        named += f"[{numbers[1]}]"
    if len(numbers) > 2:
        named += "." + wire.ColumnarSeries.__struct_fields__[int(numbers[2])]
    return named


def _may_be(wanted: type[inspect.Type], kind: inspect.Type) -> bool:
    match kind:
        case inspect.Metadata(type=inner):
            return _may_be(wanted, inner)
        case inspect.UnionType(types=kinds):
            return any(_may_be(wanted, one) for one in kinds)
        case _:
            return isinstance(kind, wanted)


class Query:
    """A query string into a Struct, which declares the parameters.

    Fields whose type is a list may be repeated, others not; unknown parameters are ignored.
    Integers are decimal digits: msgspec's lax mode would take ``3.0``, ``1e3`` and ``null``, too.
    """

    __slots__ = ("_integers", "_lists", "_names", "_struct")

    def __init__(self, struct: type[msgspec.Struct]) -> None:
        kinds = {field.encode_name: field.type for field in inspect.type_info(struct).fields}  # type: ignore[attr-defined]
        self._struct = struct
        self._names = set(kinds)
        self._lists = {name for name, kind in kinds.items() if _may_be(inspect.ListType, kind)}
        self._integers = {name for name, kind in kinds.items() if _may_be(inspect.IntType, kind)}

    def __call__(self, query: bytes) -> Any:
        given: dict[str, Any] = {}
        for name, value in self._pairs(query):
            if name == "cursor" and not value:
                raise BadCursor
            if name in self._lists:
                given.setdefault(name, []).append(value)
            elif name in given:
                raise Invalid(name, f"the query parameter {name} is given twice")
            elif name in self._names:
                if name in self._integers and not _INTEGER.fullmatch(value):
                    raise Invalid(name, f"{name} is an integer, written in decimal digits")
                given[name] = value
        try:
            return msgspec.convert(given, self._struct, strict=False)
        except msgspec.ValidationError as error:
            found = field_error(error)
            raise Invalid(found.path, found.detail) from None

    def _pairs(self, query: bytes) -> list[tuple[str, str]]:
        if not query:
            return []
        try:
            return parse_qsl(
                query.decode(errors="replace"),
                keep_blank_values=True,
                max_num_fields=MAX_PARAMETERS,
            )
        except ValueError:
            raise BadRequest(f"the query has more than {MAX_PARAMETERS} parameters") from None
