"""The tables of a tenant as SQLite understands them, for verify: their definitions may be damaged.

Compared with those of a new tenant.  Comments, white space and the order in which tables were made
are of no matter, as a migrated file differs in these.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, Final

from stepwell_storage.database import Reader
from stepwell_storage.errors import StorageError
from stepwell_storage.sqlite import Sqlite

_TABLES: Final = """select name, wr from pragma_table_list
where schema = 'main' and name not like 'sqlite%' order by name"""
_COLUMNS: Final = """select name, lower(type), "notnull", pk from pragma_table_info(?)"""
_INDEXES: Final = """select l.name, l."unique", l.origin, l.partial,
(select group_concat(x.name || x.desc || x.coll) from pragma_index_xinfo(l.name) x where x.key)
from pragma_index_list(?) l order by l.name"""
_TEXTS: Final = "select name, sql from sqlite_schema where type = 'index' and sql is not null"
_BLANK: Final = re.compile(r"\s+")

Shape = dict[str, Any]


async def changed(reader: Reader) -> AsyncIterator[str]:
    """A sentence for each table and index that is not as it is in a new file."""
    database = await Sqlite.open(None)
    try:
        async with database.snapshot() as fresh:
            wanted = await _shape(fresh)
    finally:
        await database.close()
    try:
        found = await _shape(reader)
    except StorageError as error:
        yield f"the tables cannot be looked at: {error}"
        return
    for what in sorted(wanted.keys() | found.keys()):
        if what not in found:
            yield f"{what} is missing"
        elif found[what] != wanted.get(what):
            yield f"{what} is not as it is in a new file"


async def _shape(reader: Reader) -> Shape:
    shape: Shape = {}
    for table, clustered in await reader.fetch(_TABLES):
        columns = await reader.fetch(_COLUMNS, (table,))
        indexes = await reader.fetch(_INDEXES, (table,))
        shape[f"table {table}"] = clustered, columns, indexes
    for index, text in await reader.fetch(_TEXTS):
        shape[f"index {index}"] = _BLANK.sub(" ", str(text)).strip()
    return shape
