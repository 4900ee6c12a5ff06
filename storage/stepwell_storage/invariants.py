"""What must hold between the rows of a tenant, as data: ``invariants.sql``, for verify."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib import resources
from typing import Final, NamedTuple

from stepwell_storage.database import Reader
from stepwell_storage.errors import StorageError

_HEAD: Final = re.compile(r"^-- (\w+): (.+)$", re.MULTILINE)


class Invariant(NamedTuple):
    """``statement`` finds what breaks it; ``text`` says so, with places for its columns."""

    name: str
    text: str
    statement: str


def parse(text: str) -> list[Invariant]:
    parts = _HEAD.split(text)[1:]
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return [Invariant(name, text, body.strip().rstrip(";")) for name, text, body in triples]


ALL: Final = parse(resources.files("stepwell_storage").joinpath("invariants.sql").read_text())


async def broken(reader: Reader) -> AsyncIterator[str]:
    """A sentence for each finding; also for a table that cannot be read."""
    for invariant in ALL:
        try:
            for row in await reader.fetch(invariant.statement):
                yield invariant.text.format(*row)
        except StorageError as error:
            yield f"{invariant.name.replace('_', ' ')} cannot be checked: {error}"
