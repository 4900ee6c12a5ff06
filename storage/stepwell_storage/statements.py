"""Named SQL: the ``.sql`` files hold every statement whole, ``sql.name`` is its text.

A statement begins with ``-- name: text of what it is for`` and ends where the next one begins.
"""

import re
from importlib import resources

FILES = ("queries.sql", "purges.sql", "queries_port.sql")
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
        folder = resources.files("stepwell_storage")
        texts = [folder.joinpath(name).read_text() for name in FILES]
        self._by_name = parse("\n".join(texts))

    def __getattr__(self, name: str) -> str:
        try:
            return self._by_name[name]
        except KeyError:
            raise AttributeError(f"there is no statement {name}") from None

    def __dir__(self) -> list[str]:
        return list(self._by_name)


sql = _Statements()
