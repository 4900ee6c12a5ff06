"""Names and lengths as MLflow bounds them.  Storage holds more; what is too long is cut or refused
here, as the reference does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from stepwell_tracker.mlflow.errors import INVALID, Refused, invalid_value, missing_value
from stepwell_tracker.mlflow.fields import Fields

MAX_KEY_CHARS: Final = 250
MAX_PARAM_CHARS: Final = 6_000
MAX_TAG_CHARS: Final = 8_000
MAX_EXPERIMENT_TAG_CHARS: Final = 20_000
MAX_REGISTRY_TAG_CHARS: Final = 100_000
MAX_NAME_CHARS: Final = 500
MAX_MODEL_NAME_CHARS: Final = 256

_KEY: Final = re.compile(r"[\w\-. :/]{1,250}")
_BAD_PATH: Final = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")
_MAX_KNOWN: Final = 32_768
_known: set[str] = set()
"""Keys that were found good; emptied when full."""


def check_keys(keys: Iterable[str], path: str) -> None:
    """Keys of metrics, parameters or run tags; ``path`` names the list in a refusal."""
    if _known.issuperset(keys):
        return
    for key in keys:
        if key in _known:
            continue
        _check(key, path)
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known.add(key)


def _check(key: str, path: str) -> None:
    if len(key) > MAX_KEY_CHARS:
        raise invalid_value(path, key, f"a name has at most {MAX_KEY_CHARS} characters")
    if not _KEY.fullmatch(key):
        raise invalid_value(
            path,
            key,
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.),"
            " spaces ( ), colons(:) and slashes (/).",
        )
    if _BAD_PATH.search(key):
        raise invalid_value(path, key, "Names must be normal relative paths, such as a/b.")


def params(given: Mapping[str, str], path: str) -> dict[str, str]:
    """Parameters that may be stored; a longer value is cut."""
    check_keys(given, path)
    return {key: value[:MAX_PARAM_CHARS] for key, value in given.items()}


def tags(given: Mapping[str, str], path: str) -> dict[str, str]:
    """Tags of a run that may be stored; a longer value is cut."""
    check_keys(given, path)
    return {key: value[:MAX_TAG_CHARS] for key, value in given.items()}


def experiment_tags(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    return _bounded(given, MAX_EXPERIMENT_TAG_CHARS)


def registry_tags(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Tags of registered models and their versions."""
    return _bounded(given, MAX_REGISTRY_TAG_CHARS)


def _bounded(given: Iterable[tuple[str, str]], most: int) -> dict[str, str]:
    """The last of equal keys wins; a longer value is refused."""
    found: dict[str, str] = {}
    for key, value in given:
        _check(key, "key")
        if len(value) > most:
            raise invalid_value("value", value, f"it exceeds the length limit of {most} characters")
        found[key] = value
    return found


def registered_model_name(body: Fields, field: str = "name") -> str:
    name = body.text(field)
    if not name.strip():
        raise missing_value(field)
    if "/" in name or ":" in name or name in (".", ".."):
        raise Refused(
            INVALID, f"Invalid model name '{name[:300]}'. Names cannot contain '/' or ':'."
        )
    if len(name) > MAX_MODEL_NAME_CHARS:
        raise invalid_value(field, name, f"a name has at most {MAX_MODEL_NAME_CHARS} characters")
    return name


def experiment_name(body: Fields, field: str) -> str:
    name = body.text(field)
    if len(name) > MAX_NAME_CHARS:
        why = f"'{field}' exceeds the maximum length of {MAX_NAME_CHARS} characters"
        raise Refused(INVALID, f"Invalid value for parameter '{field}' supplied: {why}")
    return name
