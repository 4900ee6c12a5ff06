"""Texts whose bytes are no UTF-8, for verify: a bit has flipped there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from stepwell_storage.database import Reader
from stepwell_storage.errors import StorageError

_TABLES: Final = "select name from sqlite_schema where type = 'table' and name not like 'sqlite%'"
_COLUMNS: Final = "select name, lower(type), pk from pragma_table_info(?)"
_NOT_ASCII: Final = "*[^\x01-\x7f]*"
"""A pattern of GLOB: most texts need no look by Python."""
_PER_READ: Final = 5_000


async def unreadable(reader: Reader) -> AsyncIterator[str]:
    """A sentence for each, with its table and row."""
    try:
        for (table,) in await reader.fetch(_TABLES):
            columns = await reader.fetch(_COLUMNS, (table,))
            keys = [name for name, _, key in columns if key]
            for name in [name for name, kind, _ in columns if kind == "text"]:
                async for row in _of(reader, table, name, keys):
                    yield f"{table} {row}: its {name} is no UTF-8"
    except StorageError as error:
        yield f"texts cannot be checked: {error}"


async def _of(reader: Reader, table: str, name: str, keys: list[str]) -> AsyncIterator[str]:
    shown = ", ".join(f"cast({key} as blob)" for key in keys)
    query = (
        f"select cast({name} as blob), {shown} from {table}"  # noqa: S608  # names of the schema
        f" where {name} glob ? order by {', '.join(keys)} limit ? offset ?"
    )
    offset = 0
    while rows := await reader.fetch(query, (_NOT_ASCII, _PER_READ, offset)):
        offset += len(rows)
        for text, *key in rows:
            try:
                text.decode()
            except UnicodeDecodeError:
                yield ", ".join(part.decode(errors="replace") for part in key)
