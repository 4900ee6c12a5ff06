"""``stepwell export mlflow``, without its words: a tenant as a store that MLflow opens."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stepwell_storage import exports
from stepwell_storage.backups import sync
from stepwell_storage.database import Reader
from stepwell_storage.errors import contradictions
from stepwell_tracker.porting.local_files import PROXIED
from stepwell_tracker.porting.mlflow_writer import MlflowDatabase

Step = Callable[[str, str, int], None]
"""Hears of what goes on, of what it is at, and how much of it was done since."""
FILES: Final = "mlartifacts"


@dataclass(frozen=True, slots=True)
class Target:
    """``served``: the files' addresses are for a server that hands them out from ``files``."""

    database: Path
    files: Path
    served: bool = False

    @property
    def home(self) -> str:
        return f"{PROXIED}:" if self.served else self.files.absolute().as_uri()


@dataclass(slots=True)
class Exported:
    experiments: int = 0
    runs: int = 0
    points: int = 0
    merged: int = 0
    models: int = 0
    registered: int = 0
    files: int = 0
    bytes: int = 0


async def export_mlflow(
    reader: Reader, target: Target, step: Step, artifacts: Path | None = None
) -> Exported:
    """All of a tenant, with its files where their folder is given.

    The database gets its name last.  Raises StorageError, sqlite3.Error and OSError; then nothing
    is left, and what a killed one left goes when it is called again.
    """
    done = Exported()
    files = target.files.with_name(f"{target.files.name}.partial")
    await asyncio.to_thread(shutil.rmtree, files, ignore_errors=True)
    database = await asyncio.to_thread(MlflowDatabase, target.database, target.home)
    try:
        with contradictions():
            await _rows(reader, database, done, step)
            if artifacts is not None:
                await _files(reader, artifacts, files, done, step)
        await asyncio.to_thread(database.finish, lambda: _put_in_place(files, target.files))
    finally:
        database.discard()
        await asyncio.to_thread(shutil.rmtree, files, ignore_errors=True)
    done.points, done.merged = database.points, database.merged
    return done


async def _rows(reader: Reader, database: MlflowDatabase, done: Exported, step: Step) -> None:
    for experiment in await exports.all_experiments(reader):
        database.experiment(experiment)
        done.experiments += 1
    async for page in exports.all_runs(reader):
        await _runs(reader, database, page, step)
        done.runs += len(page)
    async for model, deleted_at in exports.all_models(reader):
        database.model(model, deleted_at)
        done.models += 1
    async for registered, versions in exports.all_registered(reader):
        database.registered(registered, versions)
        done.registered += 1


def _put_in_place(files: Path, place: Path) -> None:
    if files.is_dir():
        for folder, _, _ in os.walk(files, topdown=False):
            sync(Path(folder))
        files.rename(place)


async def _runs(
    reader: Reader, database: MlflowDatabase, page: list[exports.StoredRun], step: Step
) -> None:
    names = {}
    for number, run, deleted_at in page:
        database.run(run, deleted_at)
        names[number] = run.run_id
    async for number, key, points in exports.points_of(reader, list(names)):
        await asyncio.to_thread(database.series, names[number], key, points)
        step("exporting points", names[number], len(points))


async def _files(reader: Reader, artifacts: Path, home: Path, done: Exported, step: Step) -> None:
    """The files of runs and models, copied to where the database says that they are."""
    places = {one.number: one for one in await exports.all_experiments(reader)}
    async for page in exports.all_runs(reader):
        for _, run, _ in page:
            if places[run.experiment_number].artifact_location is None:
                to = home / str(run.experiment_number) / run.run_id / "artifacts"
                await _copy(artifacts / "runs" / run.run_id, to, done, step)
    async for model, _ in exports.all_models(reader):
        if places[model.experiment_number].artifact_location is None:
            to = home / str(model.experiment_number) / "models" / model.model_id / "artifacts"
            await _copy(artifacts / "models" / model.model_id, to, done, step)


async def _copy(source: Path, to: Path, done: Exported, step: Step) -> None:
    """Copies, never links: MLflow may write into its files, and ours are never changed."""

    def copy() -> tuple[int, int]:
        files = size = 0
        for path in source.rglob("*") if source.is_dir() else ():
            if path.is_file() and not path.is_symlink():
                place = to / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
                sync(place)
                files += 1
                size += path.stat().st_size
        return files, size

    files, size = await asyncio.to_thread(copy)
    done.files += files
    done.bytes += size
    step("copying files", source.name, files)
