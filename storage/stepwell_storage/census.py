"""What each tenant of a data directory holds; read beside a running server, or without one.

The counts are the tables' own, so beside a server they are those of a moment ago.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from stepwell_storage.errors import StorageError
from stepwell_storage.paths import is_tenant_name
from stepwell_storage.sqlite import read_only
from stepwell_storage.statements import sql


@dataclass(frozen=True, slots=True)
class Holding:
    """One tenant.  ``bytes`` are those of its files; ``problem`` says why the rest is unknown."""

    tenant: str
    experiments: int
    runs: int
    points: int
    database_bytes: int
    artifact_bytes: int
    problem: str | None = None


async def census(data: Path) -> AsyncIterator[Holding]:
    """The tenants in order of their names.  A damaged one is reported, not skipped."""
    for folder in await asyncio.to_thread(folders, data / "tenants"):
        database, artifacts = await asyncio.to_thread(_sizes, folder)
        counts, problem = (0, 0, 0), None
        try:
            async with read_only(folder / "tenant.db") as reader:
                counts = (await reader.fetch(sql.census))[0]
        except StorageError as error:
            problem = str(error)
        yield Holding(folder.name, *counts, database, artifacts, problem)


def folders(tenants: Path) -> list[Path]:
    """Those of the tenants, by name; none where there is no such folder."""
    if not tenants.is_dir():
        return []
    return sorted(one for one in tenants.iterdir() if is_tenant_name(one.name) and one.is_dir())


def _sizes(folder: Path) -> tuple[int, int]:
    """The bytes of the database's files and of everything else below the folder."""
    database = other = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size = os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - millions of files
            except OSError:
                continue  # removed meanwhile
            if name.startswith("tenant.db") and place == str(folder):
                database += size
            else:
                other += size
    return database, other
