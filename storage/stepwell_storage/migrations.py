"""The versions of a tenant's tables: a new one gets all of them, an old one step after step.

Each script is one transaction that ends with the record of its version, so whatever interrupts it
leaves the version before it, whole; the next opening goes on from there.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from stepwell_storage.errors import Unsupported

VERSION = 4
_HEADER = struct.Struct(">60xI")
"""The beginning of an SQLite file, up to its ``user_version``."""


def scripts(found: int, dialect: Mapping[str, str], place: object) -> Iterator[str]:
    """What brings tables of version ``found`` (0: none) to :data:`VERSION`, in order.

    Raises Unsupported for a newer one.
    """
    if found > VERSION:
        raise Unsupported(too_new(found, place))
    if found == 0:
        yield _script(read("schema.sql"), VERSION, dialect)
        return
    for version in range(found + 1, VERSION + 1):
        yield _script(read(f"migrations/{version}.sql"), version, dialect)


def too_new(found: int, place: object) -> str:
    """What to tell whoever has a file of a newer version."""
    return (
        f"{place} has format {found}, made by a newer Stepwell; this one knows up to {VERSION}. "
        "Use the newer version, or restore a backup."
    )


def refuse_newer(tenants: Path) -> None:
    """Raises Unsupported where all tenants were written by a newer Stepwell: it is its directory.

    One among others is refused when it is asked for, like any damage.
    """
    told = ""
    for path in tenants.glob("*/tenant.db"):
        if not path.is_file():
            continue  # a FIFO, say, which would be waited for
        with contextlib.suppress(OSError), path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) == _HEADER.size:
                found = int(_HEADER.unpack(header)[0])
                if found <= VERSION:
                    return
                told = too_new(found, path)
    if told:
        raise Unsupported(told)


def read(name: str) -> str:
    return resources.files("stepwell_storage").joinpath(name).read_text()


def _script(text: str, version: int, dialect: Mapping[str, str]) -> str:
    for word, meaning in dialect.items():
        text = text.replace(word, meaning)
    return f"begin immediate;\n{text}\npragma user_version={version};\ncommit;"
