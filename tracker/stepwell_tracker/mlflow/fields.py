"""The fields of a request, from a JSON body or a query, read leniently as MLflow's protocol is.

Absent, null and (of texts that are required) empty mean "not set".  Integers may be decimal
strings, doubles too, and enums names or numbers.  Whatever does not fit is refused in MLflow's
words, with the path of the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from stepwell_tracker.decoding import MAX_PARAMETERS
from stepwell_tracker.errors import BadRequest
from stepwell_tracker.mlflow.errors import INVALID, Refused, invalid_value, missing_value

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_NUMBER: Final = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|Infinity|NaN)", re.ASCII
)
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")
_INT64: Final = range(-(2**63), 2**63)


class Fields:
    """``path`` stands before the names in refusals: ``metrics[0].`` for example."""

    __slots__ = ("_given", "_path")

    def __init__(self, given: Mapping[str, Any], path: str = "") -> None:
        self._given = given
        self._path = path

    @classmethod
    def of_body(cls, body: bytes) -> Fields:
        """Raises Refused where it is no JSON object."""
        if not body.strip():
            return cls({})
        try:
            given = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused("BAD_REQUEST", f"The body is not JSON: {error}") from None
        if not isinstance(given, dict):
            raise Refused("BAD_REQUEST", "The body is not a JSON object.")
        return cls(given)

    @classmethod
    def of_query(cls, query: bytes) -> Fields:
        """A name that is repeated is a list."""
        found: dict[str, Any] = {}
        try:
            pairs = parse_qsl(
                query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS
            )
        except ValueError:
            raise BadRequest(f"the query has more than {MAX_PARAMETERS} parameters") from None
        for name, value in pairs:
            if name in found:
                old = found[name]
                found[name] = [*old, value] if isinstance(old, list) else [old, value]
            else:
                found[name] = value
        return cls(found)

    def has(self, name: str) -> bool:
        return self._given.get(name) is not None

    def given(self, name: str) -> Any:
        """As it was sent; None where it is not set."""
        return self._given.get(name)

    def text(self, name: str) -> str:
        """Raises Refused where it is absent, null or empty."""
        found = self.optional_text(name)
        if not found:
            raise missing_value(self._path + name)
        return found

    def optional_text(self, name: str) -> str | None:
        found = self._given.get(name)
        if found is None:
            return None
        if not isinstance(found, str):
            raise invalid_value(self._path + name, found)
        if _UNSTORABLE.search(found):
            raise invalid_value(
                self._path + name,
                found.replace("\0", "").encode(errors="replace").decode(),
                "it has characters that cannot be stored",
            )
        return found

    def integer(self, name: str) -> int:
        found = self.optional_integer(name)
        if found is None:
            raise missing_value(self._path + name)
        return found

    def optional_integer(self, name: str) -> int | None:
        found = self._given.get(name)
        if found is None:
            return None
        number = found
        if (
            isinstance(found, str)
            and _INTEGER.fullmatch(found)
            or isinstance(found, float)
            and found.is_integer()
        ):
            number = int(found)
        if type(number) is not int or number not in _INT64:
            raise invalid_value(self._path + name, found)
        return number

    def number(self, name: str) -> float:
        """A double; the strings NaN, Infinity and -Infinity too."""
        found = self._given.get(name)
        if found is None:
            raise missing_value(self._path + name)
        if isinstance(found, bool):
            return float(found)
        if isinstance(found, int | float):
            try:
                return float(found)
            except OverflowError:
                raise invalid_value(self._path + name, str(found)) from None
        if isinstance(found, str) and _NUMBER.fullmatch(found):
            return float(found)
        raise invalid_value(self._path + name, found)

    def flag(self, name: str) -> bool:
        found = self._given.get(name)
        if found is None or isinstance(found, bool):
            return bool(found)
        if isinstance(found, str) and found.lower() in ("true", "false"):
            return found.lower() == "true"
        raise invalid_value(self._path + name, found)

    def choice(self, name: str, choices: Mapping[str | int, str]) -> str | None:
        """What a name or number means; None where it is not set."""
        found = self._given.get(name)
        if found is None:
            return None
        key = (
            int(found) if isinstance(found, str) and found.isascii() and found.isdigit() else found
        )
        if not isinstance(key, str | int) or isinstance(key, bool) or key not in choices:
            raise invalid_value(self._path + name, found)
        return choices[key]

    def texts(self, name: str) -> list[str]:
        found = self._list(name)
        for value in found:
            if not isinstance(value, str) or _UNSTORABLE.search(value):
                raise invalid_value(self._path + name, self._given[name])
        return found

    def objects(self, name: str) -> list[Fields]:
        found = self._list(name)
        for i, value in enumerate(found):
            if not isinstance(value, dict):
                raise invalid_value(f"{self._path}{name}[{i}]", value)
        return [Fields(value, f"{self._path}{name}[{i}].") for i, value in enumerate(found)]

    def object(self, name: str) -> Fields:
        found = self._given.get(name)
        if found is None:
            raise missing_value(self._path + name)
        if not isinstance(found, dict):
            raise invalid_value(self._path + name, found)
        return Fields(found, f"{self._path}{name}.")

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """A list of keys and values; a value that is not set is empty."""
        return [(one.text("key"), one.optional_text("value") or "") for one in self.objects(name)]

    def refuse(self, name: str, why: str = "") -> Refused:
        return invalid_value(self._path + name, self._given.get(name), why)

    def limit(self, name: str, default: int, most: int) -> int:
        """``max_results``, from 1 to ``most``."""
        found = self.optional_integer(name)
        if found is None:
            return default
        if not 1 <= found <= most:
            raise Refused(
                INVALID,
                f"Invalid value {found} for parameter '{name}' supplied:"
                f" it is at least 1 and at most {most}.",
            )
        return found

    def _list(self, name: str) -> list[Any]:
        found = self._given.get(name)
        if found is None:
            return []
        if isinstance(found, str):  # a query that names it once
            return [found]
        if not isinstance(found, list):
            raise invalid_value(self._path + name, found)
        return found
