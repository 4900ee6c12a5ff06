"""``stepwell export mlflow``: a tenant's data as a store that MLflow itself opens."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell import wire
from stepwell_tracker.cli import DONE, WRONG_USE, fail, parser
from stepwell_tracker.cli_progress import Progress
from stepwell_tracker.cli_text import clean, size

if TYPE_CHECKING:
    from stepwell_tracker.porting.mlflow_export import Exported, Target

EXAMPLE = "stepwell export mlflow mlflow-store"
DATABASE = "mlflow.db"


def main(arguments: list[str]) -> int:
    """0 when everything was written."""
    options = _parser().parse_args(arguments)
    from stepwell_storage.errors import StorageError

    target = _target(options)
    for path in (target.database, target.files):
        if path.exists():
            fail(f"{path} is there already; choose another place", WRONG_USE)
    try:
        with _folder(target.database.parent):
            done = asyncio.run(_export(options, target))
    except (StorageError, sqlite3.Error, OSError) as error:
        fail(f"nothing was exported: {clean(str(error))}")
    _report(target, done)
    return DONE


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make a folder for a block, and those above it; a block that fails takes them along."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # somebody else has put something there
            for folder in missing:
                folder.rmdir()
        raise


async def _export(options: argparse.Namespace, target: Target) -> Exported:
    from stepwell_storage.errors import Invalid, NotFound
    from stepwell_storage.exports import opened
    from stepwell_tracker.porting.mlflow_export import export_mlflow

    with Progress("exporting points") as progress:

        def step(what: str, at: str, count: int) -> None:
            if progress.label != what:
                progress.begin(what)
            progress.advance(at, count)

        try:
            async with opened(options.data, options.tenant) as (reader, folder):
                artifacts = folder / "artifacts" if options.artifacts else None
                return await export_mlflow(reader, target, step, artifacts)
        except (NotFound, Invalid) as error:
            progress.clear()
            fail(str(error), WRONG_USE)


def _report(target: Target, done: Exported) -> None:
    print(
        f"{target.database}: {done.experiments} experiments, {done.runs} runs,"
        f" {done.points} points, {done.models} logged and {done.registered} registered models,"
        f" {done.files} files ({size(done.bytes)})"
    )
    if done.merged:
        print(f"{done.merged} points became one with others: MLflow has no infinities, and one 0")
    store = f"--backend-store-uri sqlite:///{target.database.absolute()}"
    files = f" --artifacts-destination {target.files.absolute()}" if target.served else ""
    print(f"open it with: mlflow server {store}{files}")


def _target(options: argparse.Namespace) -> Target:
    from stepwell_tracker.porting.mlflow_export import FILES, Target

    where: str = options.dest.removeprefix("sqlite:///")
    path = Path(where)
    if where != options.dest or path.suffix in (".db", ".sqlite"):
        return Target(path, path.with_name(FILES), options.served)
    return Target(path / DATABASE, path / FILES, options.served)


def _parser() -> argparse.ArgumentParser:
    options = parser(
        "export mlflow",
        "Write everything of a tenant that MLflow knows of as an SQLite database of MLflow's and\n"
        "a folder of files beside it.  Works beside a running server, too.",
        EXAMPLE,
    )
    options.add_argument(
        "dest", metavar="DEST", help="a folder, made as needed, or the database: FILE.db"
    )
    options.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("stepwell-data"), help="(%(default)s)"
    )
    options.add_argument(
        "--tenant",
        metavar="NAME",
        default=os.environ.get("STEPWELL_TENANT") or wire.DEFAULT_TENANT,
        help="whose data (STEPWELL_TENANT; %(default)s)",
    )
    options.add_argument(
        "--served",
        action="store_true",
        help="files are to be had through MLflow's server, not by their place on this machine",
    )
    options.add_argument(
        "--no-artifacts", dest="artifacts", action="store_false", help="leave the files out"
    )
    return options
