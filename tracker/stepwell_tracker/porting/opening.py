"""Which source an address means."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from stepwell_tracker.porting.local_files import LocalFiles
from stepwell_tracker.porting.mlflow_sql import DEFAULT_WORKSPACE, Options, SqlSource
from stepwell_tracker.porting.source import Source, SourceError

_SQLITE: Final = re.compile(r"sqlite:///([^?]+)(\?.*)?")
_POSTGRES: Final = re.compile(r"postgres(ql)?(\+\w+)?://.+")
_HTTP: Final = re.compile(r"https?://.+")
_MAGIC: Final = b"SQLite format 3\0"
_PROXIED_FOLDER: Final = "mlartifacts"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a source is to be read.  ``artifacts_root`` is where MLflow's server keeps files."""

    workspace: str = DEFAULT_WORKSPACE
    artifacts_root: Path | None = None
    any_version: bool = False
    restore: bool = False


def open_source(address: str, wanted: Wanted) -> Source:
    """Raises SourceError for what is no source, or cannot be read."""
    if _HTTP.fullmatch(address):
        from stepwell_tracker.porting.mlflow_rest import RestSource

        files = _options(Path(), wanted).files
        return RestSource(address, wanted.workspace, files, restore=wanted.restore)
    if _POSTGRES.fullmatch(address):
        from stepwell_tracker.porting.mlflow_postgres import PostgresDatabase, shown

        return SqlSource(shown(address), PostgresDatabase(address), _options(Path(), wanted))
    if match := _SQLITE.fullmatch(address):
        return _sqlite(Path(unquote(match[1])), wanted)
    if "://" in address and not address.startswith("file://"):
        raise SourceError(
            f"{address.partition('://')[0]}:// is no source: give sqlite:///FILE, postgresql://...,"
            " http://..., or the folder mlruns"
        )
    path = Path(unquote(address.removeprefix("file://")))
    if path.is_file() and _begins(path) == _MAGIC:
        return _sqlite(path, wanted)
    from stepwell_tracker.porting.mlflow_files import FileSource

    return FileSource(path, _options(path.parent, wanted))


def _sqlite(path: Path, wanted: Wanted) -> Source:
    from stepwell_tracker.porting.mlflow_sqlite import SqliteDatabase

    return SqlSource(str(path), SqliteDatabase(path), _options(path.parent, wanted))


def _options(base: Path, wanted: Wanted) -> Options:
    """MLflow's server keeps files in ``mlartifacts`` where it was started: beside its database."""
    proxied = wanted.artifacts_root or base / _PROXIED_FOLDER
    files = LocalFiles(base.absolute(), proxied.absolute())
    return replace(
        Options(files),
        workspace=wanted.workspace,
        any_version=wanted.any_version,
        restore=wanted.restore,
    )


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
