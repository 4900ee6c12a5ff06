"""``stepwell export parquet``, ``stepwell import parquet``: a tenant for other programs."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell.wire import DEFAULT_TENANT
from stepwell_tracker.cli import DATA_TAKEN, DONE, FAILED, WRONG_USE, fail, parser
from stepwell_tracker.cli_progress import Progress

if TYPE_CHECKING:
    from stepwell_storage.parquet_source import Source

EXPORT_EXAMPLE = (
    "stepwell export parquet exported/acme-corp --data stepwell-data --tenant acme-corp"
)
IMPORT_EXAMPLE = "stepwell import parquet acme-corp.parquet --data imported-data"


def export(arguments: list[str]) -> int:
    """Write a tenant to a new folder."""
    options = _export_parser().parse_args(arguments)
    _require_library()
    from stepwell_storage.errors import Conflict, NotFound, StorageError, Unsupported
    from stepwell_storage.parquet_export import export as write

    with Progress("exporting") as progress:

        def step(path: str, _: int) -> None:
            progress.advance(path)

        try:
            points = write(options.data, options.tenant.lower(), options.target, step)
        except (Conflict, NotFound) as error:
            fail(str(error), WRONG_USE)
        except Unsupported as error:
            fail(str(error), DATA_TAKEN)
        except (StorageError, OSError) as error:
            fail(f"nothing was exported: {error}", FAILED)
    print(f"{options.target}: {points} points of {options.tenant.lower()}")
    return DONE


def import_(arguments: list[str]) -> int:
    """Make a tenant of an export."""
    options = _import_parser().parse_args(arguments)
    _require_library()
    from stepwell_storage.errors import Conflict, Corrupt, NotFound, StorageError, Unsupported
    from stepwell_storage.parquet_source import Source

    try:
        source = Source(options.source)
        made = asyncio.run(_import(source, options.data))
    except (Conflict, NotFound) as error:
        fail(str(error), WRONG_USE)
    except Unsupported as error:
        fail(str(error), DATA_TAKEN)
    except Corrupt as error:
        fail(f"nothing was imported: {error}", FAILED)
    except (StorageError, OSError) as error:
        fail(f"not imported: {error}; the same command goes on where it was", FAILED)
    again = "" if made else ", as before: it was imported already"
    print(f"{options.data}: {source.tenant}, {source.points} points{again}")
    return DONE


async def _import(source: Source, data: Path) -> bool:
    from stepwell_storage.parquet_import import import_parquet
    from stepwell_storage.store import take_lock

    tenants = data / "tenants"
    tenants.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = take_lock(data / "lock")
    try:
        with Progress("importing", len(source.files)) as progress:

            def step(path: str, _: int) -> None:
                progress.advance(path)

            return await import_parquet(source, tenants, source.tenant, step)
    finally:
        lock.close()


def _require_library() -> None:
    """The only extra of the server that not everybody needs."""
    if importlib.util.find_spec("arro3") is None:
        fail("Parquet needs a library: pip install 'stepwell[server,parquet]'", WRONG_USE)


def _export_parser() -> argparse.ArgumentParser:
    options = parser(
        "export parquet",
        "Write everything of a tenant, as it is at one instant, to a new folder of Parquet files\n"
        "and artifacts.  Works beside a running server.  docs/parquet.md tells the columns.",
        EXPORT_EXAMPLE,
    )
    options.add_argument("target", metavar="DEST", type=Path, help="the folder to make")
    options.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("stepwell-data"), help="(%(default)s)"
    )
    options.add_argument(
        "--tenant",
        default=os.environ.get("STEPWELL_TENANT") or DEFAULT_TENANT,
        metavar="NAME",
        help="whose (STEPWELL_TENANT; %(default)s)",
    )
    return options


def _import_parser() -> argparse.ArgumentParser:
    options = parser(
        "import parquet",
        "Make a tenant of what `stepwell export parquet` wrote: the same ids, numbers and files,\n"
        "bit for bit.  For a data directory that no server uses.  An import that was interrupted\n"
        "goes on where it was; one that is there already is left as it is.",
        IMPORT_EXAMPLE,
    )
    options.add_argument("source", metavar="SRC", type=Path, help="a folder that export made")
    options.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("stepwell-data"), help="(%(default)s)"
    )
    return options
