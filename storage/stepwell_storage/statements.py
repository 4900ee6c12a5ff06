"""Named SQL: ``queries.sql`` holds every statement whole, ``sql.name`` is its text.

A statement begins with ``-- name: text of what it is for`` and ends where the next one begins.
"""

import re
from importlib import resources

_HEAD = re.compile(r"^-- (\w+):.*$", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """The statements of a file by name.  Raises ValueError where a name stands twice."""
    parts = _HEAD.split(text)[1:]
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a statement's name stands twice: {sorted(names)}")
    return {name: body.strip().rstrip(";") for name, body in zip(names, bodies, strict=True)}


class _Statements:
    def __init__(self) -> None:
        text = resources.files("stepwell_storage").joinpath("queries.sql").read_text()
        self._by_name = parse(text)

    def __getattr__(self, name: str) -> str:
        try:
            return self._by_name[name]
        except KeyError:
            raise AttributeError(f"queries.sql has no statement {name}") from None

    def __dir__(self) -> list[str]:
        return list(self._by_name)


sql = _Statements()
