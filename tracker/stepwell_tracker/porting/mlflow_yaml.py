"""The small files of ``mlruns``: a YAML mapping of scalars, and folders of one text a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from stepwell_tracker.porting.mapping import optional_integer
from stepwell_tracker.porting.source import Damaged

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Meta:
    """Raises Damaged where a field is of another type than it must be."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def get(self, name: str) -> Any:
        return self._fields.get(name)

    def text(self, name: str) -> str | None:
        """YAML reads unquoted numbers as such; what stands there is meant as text."""
        value = self._fields.get(name)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int | float):
            return str(value)
        raise Damaged(f"{name} is {value!r}, and no text")

    def integer(self, name: str) -> int | None:
        return optional_integer(self._fields.get(name), name)


def read_meta(path: Path) -> Meta:
    """Raises Damaged where the file is missing or no mapping."""
    try:
        found = yaml.load(path.read_bytes(), _LOADER)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise Damaged(f"{path.name} cannot be read: {problem}") from None
    if not isinstance(found, dict):
        raise Damaged(f"{path.name} is empty or damaged")
    return Meta(found)


def folders(parent: Path) -> list[Path]:
    """By name; none where there is no such folder."""
    if not parent.is_dir():
        return []
    found = [one for one in parent.iterdir() if one.is_dir() and not one.name.startswith(".")]
    return sorted(found)


def texts(top: Path) -> dict[str, str]:
    """Key -> text, of every file below; a key with slashes is a path.  Raises Damaged."""
    found = {}
    for path in sorted(top.rglob("*")) if top.is_dir() else ():
        if path.is_file():
            try:
                found[path.relative_to(top).as_posix()] = path.read_bytes().decode()
            except UnicodeDecodeError:
                raise Damaged(f"{path.name} in {top.name} is no UTF-8") from None
    return found
