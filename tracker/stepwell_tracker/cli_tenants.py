"""``stepwell tenants``: who has how much in a data directory."""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell_tracker.cli import DATA_TAKEN, DONE, FAILED, WRONG_USE, fail, parser
from stepwell_tracker.cli_progress import Progress
from stepwell_tracker.cli_text import clean, size, table

if TYPE_CHECKING:
    from stepwell_storage.census import Holding

EXAMPLE = "stepwell tenants --data stepwell-data"


def main(arguments: list[str]) -> int:
    """Print each tenant's runs, points and bytes; 1 where one cannot be read.  Or delete one."""
    options = _parser().parse_args(arguments)
    if not options.data.is_dir():
        fail(f"{options.data} is no folder", WRONG_USE)
    if options.action == "delete":
        return _delete(options)
    if options.name is not None:
        fail(f"{options.name!r} is too much: stepwell tenants lists all of them", WRONG_USE)
    found = asyncio.run(_all(options.data))
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        print(_table(found))
        for one in found:
            if one.problem:
                print(f"{one.tenant}: {clean(one.problem)}")
    return FAILED if any(one.problem for one in found) else DONE


def _delete(options: argparse.Namespace) -> int:
    """Nobody is asked: the name stands twice, once as --yes, so that no slip deletes a tenant."""
    from stepwell_storage.errors import StorageError, Unsupported

    if options.name is None:
        fail("say which tenant: stepwell tenants delete NAME --yes NAME", WRONG_USE)
    if options.yes != options.name:
        fail(
            f"this deletes every run, point and artifact of {options.name!r} for good;"
            f" if that is meant, add: --yes {options.name}",
            WRONG_USE,
        )
    try:
        asyncio.run(_remove(options.data, options.name))
    except Unsupported as error:
        fail(str(error), DATA_TAKEN)
    except (StorageError, OSError) as error:
        fail(str(error), FAILED)
    print(f"{options.name.lower()} is deleted")
    return DONE


async def _remove(data: Path, name: str) -> None:
    from stepwell_storage.store import Options, Store

    store = await Store.open(data, Options(compact=False))
    try:
        if not store.exists(name):
            fail(f"there is no tenant {name} in {data}", WRONG_USE)
        await store.remove(name.lower())
    finally:
        await store.close()


async def _all(data: Path) -> list[Holding]:
    from stepwell_storage.census import census

    found = []
    with Progress("counting") as progress:
        async for one in census(data):
            found.append(one)
            progress.advance(one.tenant)
    return found


def _table(found: list[Holding]) -> str:
    header = ["TENANT", "EXPERIMENTS", "RUNS", "POINTS", "DATABASE", "ARTIFACTS"]
    rows = [
        [
            one.tenant,
            *(["?"] * 3 if one.problem else map(str, (one.experiments, one.runs, one.points))),
            size(one.database_bytes),
            size(one.artifact_bytes),
        ]
        for one in found
    ]
    return table(header, rows, "<>>>>>")


def _parser() -> argparse.ArgumentParser:
    options = parser(
        "tenants",
        "List the tenants of a data directory with their runs, points and bytes.  Works beside a\n"
        "running server, too.  Or delete one with everything it has, while no server runs:\n"
        "stepwell tenants delete NAME --yes NAME",
        EXAMPLE,
    )
    options.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("stepwell-data"), help="(%(default)s)"
    )
    options.add_argument(
        "action", nargs="?", choices=("list", "delete"), default="list", help="(%(default)s)"
    )
    options.add_argument("name", metavar="NAME", nargs="?", help="which one to delete")
    options.add_argument("--yes", metavar="NAME", help="the same name again: it is meant")
    options.add_argument("--json", action="store_true", help="print JSON, for scripts")
    return options
