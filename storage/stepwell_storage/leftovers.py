"""Artifacts whose run or model does not exist, for verify."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from stepwell_storage.database import Reader, in_list
from stepwell_storage.names import pages
from stepwell_storage.statements import sql

_OWNERS: Final = {
    "runs": (sql.runs_by_ids, sql.unfinished_among),
    "models": (sql.models_by_any_id,),
}

Owners = dict[str, list[str]]


def owners(folder: Path) -> Owners:
    """The ids of runs and models that have a folder of artifacts.

    To be asked before the snapshot in which they are looked up is opened: beside a running server
    one that is younger than the snapshot would seem to have no owner.
    """
    found: Owners = {}
    for kind in _OWNERS:
        place = folder / "artifacts" / kind
        found[kind] = sorted(one.name for one in place.iterdir()) if place.is_dir() else []
    return found


async def ownerless(reader: Reader, folder: Path, found: Owners) -> AsyncIterator[str]:
    """A sentence for each folder of artifacts that belongs to nothing."""
    for kind, statements in _OWNERS.items():
        for page in pages(found[kind]):
            known: set[str] = set()
            for statement in statements:
                rows = await reader.fetch(in_list(statement, len(page)), page)
                known.update(row[0] for row in rows)
            for name in page:
                place = folder / "artifacts" / kind / name
                if name not in known and place.exists():  # it may have been purged meanwhile
                    yield f"artifacts/{kind}/{name} belongs to no {kind[:-1]}"
