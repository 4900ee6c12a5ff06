"""``stepwell backup`` and ``stepwell restore``: tenants as they were at one instant."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from stepwell_tracker.cli import DATA_TAKEN, DONE, FAILED, WRONG_USE, fail, parser
from stepwell_tracker.cli_progress import Progress
from stepwell_tracker.cli_text import clean, size

BACKUP_EXAMPLE = "stepwell backup --data stepwell-data --tenant acme-corp backups/acme-corp"
RESTORE_EXAMPLE = "stepwell restore acme-corp.backup --data restored-data"


def backup(arguments: list[str]) -> int:
    """Copy tenants to a new folder."""
    options = _backup_parser().parse_args(arguments)
    from stepwell_storage.backups import back_up
    from stepwell_storage.census import folders
    from stepwell_storage.errors import Conflict, NotFound, StorageError

    known = [folder.name for folder in folders(options.data / "tenants")]
    if not known:
        fail(f"{options.data} is no data directory with tenants", WRONG_USE)
    names = [name.lower() for name in options.tenant] or known
    missing: list[str] = []
    with Progress("copying") as progress:

        def step(path: str, _: int) -> None:
            progress.advance(path)

        def left_out(name: str, error: StorageError) -> None:
            progress.clear()
            print(f"stepwell: {name} is not in the backup: {clean(str(error))}", file=sys.stderr)
            missing.append(name)

        others = None if options.tenant else left_out
        try:
            total = back_up(options.data, names, options.target, step, left_out=others)
        except (Conflict, NotFound) as error:
            fail(str(error), WRONG_USE)
        except (StorageError, OSError) as error:
            fail(f"nothing was backed up: {error}", FAILED)
    kept = [name for name in names if name not in missing]
    print(f"{options.target}: {', '.join(kept)}, {size(total)}")
    return FAILED if missing else DONE


def restore(arguments: list[str]) -> int:
    """Put tenants of a backup into a data directory."""
    options = _restore_parser().parse_args(arguments)
    from stepwell_storage.errors import Conflict, Corrupt, NotFound, StorageError, Unsupported
    from stepwell_storage.restoring import restore as put_back

    wanted = [name.lower() for name in options.tenant]
    with Progress("restoring") as progress:
        work = put_back(
            options.source,
            wanted,
            options.data,
            replace=options.replace,
            damaged=options.damaged,
            step=lambda path, _: progress.advance(path),
        )
        try:
            names = asyncio.run(work)
        except Conflict as error:
            fail(f"{error}; --replace puts the backup in its place", WRONG_USE)
        except NotFound as error:
            fail(str(error), WRONG_USE)
        except Unsupported as error:
            fail(str(error), DATA_TAKEN)
        except Corrupt as error:
            advice = "" if options.damaged else "; --damaged takes what it is"
            fail(f"nothing was restored: {error}{advice}", FAILED)
        except (StorageError, OSError) as error:
            fail(f"nothing was restored: {error}", FAILED)
    print(f"{options.data}: {', '.join(names)}")
    return DONE


def _backup_parser() -> argparse.ArgumentParser:
    options = parser(
        "backup",
        "Copy tenants, artifacts included, as they are at one instant to a new folder.  Works\n"
        "beside a running server.  The folder is a data directory: `stepwell verify` checks it.",
        BACKUP_EXAMPLE,
    )
    options.add_argument("target", metavar="DEST", type=Path, help="the folder to make")
    options.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("stepwell-data"), help="(%(default)s)"
    )
    options.add_argument(
        "--tenant", action="append", default=[], metavar="NAME", help="repeatable; without it all"
    )
    return options


def _restore_parser() -> argparse.ArgumentParser:
    options = parser(
        "restore",
        "Put tenants of a backup into a data directory that no server uses.  Every file is\n"
        "compared with what was backed up, and the tenant verified, before it gets its place.",
        RESTORE_EXAMPLE,
    )
    options.add_argument("source", metavar="SRC", type=Path, help="a folder that backup made")
    options.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("stepwell-data"), help="(%(default)s)"
    )
    options.add_argument(
        "--tenant", action="append", default=[], metavar="NAME", help="repeatable; without it all"
    )
    options.add_argument(
        "--replace", action="store_true", help="a tenant of that name that is there goes away"
    )
    options.add_argument(
        "--damaged",
        action="store_true",
        help="a tenant, too, in which `stepwell verify` finds problems, as it was backed up",
    )
    return options
