"""``stepwell gc``: what was deleted goes for good."""

from __future__ import annotations

import argparse
import asyncio
import re
from pathlib import Path

from stepwell_tracker.cli import DATA_TAKEN, DONE, FAILED, WRONG_USE, fail, parser
from stepwell_tracker.cli_client import Client, add_options, dump
from stepwell_tracker.cli_progress import Progress
from stepwell_tracker.schema import Purged, PurgeDeleted

EXAMPLE = "stepwell gc --tenant acme-corp --older-than 30d"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def main(arguments: list[str]) -> int:
    """Purge what was deleted, through a server or in a data directory."""
    options = _parser().parse_args(arguments)
    if options.data is None:
        body = PurgeDeleted(options.older_than)
        done = {options.tenant or "": Client(options).post("/gc", body, Purged)}
    else:
        done = _offline(options.data, options.tenant, options.older_than)
    for tenant, purged in done.items():
        if options.json:
            print(dump(purged))
            continue
        where = f"{tenant}: " if tenant else ""
        print(f"{where}{purged.runs} runs, {purged.experiments} experiments, "
              f"{purged.models} models deleted for good")  # fmt: skip
    return DONE


def _offline(data: Path, tenant: str | None, older_than_s: int) -> dict[str, Purged]:
    from stepwell_storage.errors import StorageError, Unsupported

    if not (data / "tenants").is_dir():
        fail(f"{data} is no data directory", WRONG_USE)
    try:
        return asyncio.run(_purge(data, tenant, older_than_s))
    except Unsupported as error:
        fail(str(error), DATA_TAKEN)
    except StorageError as error:
        fail(str(error), FAILED)


async def _purge(data: Path, tenant: str | None, older_than_s: int) -> dict[str, Purged]:
    from stepwell_storage.clock import now_ms
    from stepwell_storage.errors import Unsupported
    from stepwell_storage.store import Options, Store

    try:
        store = await Store.open(data, Options(compact=False))
    except Unsupported as error:
        fail(f"{error}; or leave --data away to do it through the server", DATA_TAKEN)
    done = {}
    try:
        names = store.names() if tenant is None else [tenant.lower()]
        if tenant is not None and not store.exists(tenant):
            fail(f"there is no tenant {tenant} in {data}", WRONG_USE)
        with Progress("purging", len(names)) as progress:
            for name in names:
                async with store.lease(name, create=False) as held:
                    found = await held.purges.expired(now_ms() - older_than_s * 1000)
                await store.dispose(name)
                done[name] = Purged(found.runs, found.experiments, found.models)
                progress.advance(name)
    finally:
        await store.close()
    return done


def seconds(text: str) -> int:
    """``90``, ``90s``, ``15m``, ``12h`` or ``30d``, for argparse."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: 90s, 15m, 12h or 30d")
    return int(found[1]) * _UNITS[found[2] or "s"]


def _parser() -> argparse.ArgumentParser:
    options = parser(
        "gc",
        "Delete for good what was deleted and not restored: runs, experiments with their runs,\n"
        "and models, with their artifacts.  The server gives the bytes back within minutes;\n"
        "with --data, for which no server may run, they are back when the command ends.",
        EXAMPLE,
    )
    options.add_argument(
        "--older-than",
        type=seconds,
        default=0,
        metavar="AGE",
        help="only what was deleted so long ago: 90s, 15m, 12h, 30d (0s)",
    )
    options.add_argument(
        "--data", metavar="DIR", type=Path, help="in this data directory, instead of by a server"
    )
    add_options(options)
    return options
