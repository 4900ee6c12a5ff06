"""Backups: one instant of some tenants in a folder that is a data directory by itself.

``<backup>/backup.jsonl`` lists every file with its size and SHA-256; ``<backup>/tenants/...`` is as
in a data directory, so a backup can be verified, and served, as it is.

The database is copied by SQLite's backup interface from a read-only connection that holds one
snapshot: every batch that was acknowledged before it is there whole, and nothing of those after.
``VACUUM INTO`` would hold the snapshot for several times as long, as it builds every index anew;
and while a snapshot is open the server's WAL cannot be reset, so it grows by what is written
meanwhile.  Artifacts are copied after that, those of the snapshot's runs and models; each is one
whole upload.  Everything is synced before the folder gets its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, Final

from stepwell_storage.clock import now_ms
from stepwell_storage.errors import (
    Conflict,
    Corrupt,
    NotFound,
    StorageError,
    Unreadable,
    Unsupported,
)
from stepwell_storage.folders import FULL
from stepwell_storage.migrations import VERSION, too_new
from stepwell_storage.paths import is_tenant_name
from stepwell_storage.presence import refuse_unfit
from stepwell_storage.seals import seal, seal_of
from stepwell_storage.sqlite import SQLITE_ERRORS, translate

MANIFEST: Final = "backup.jsonl"
_LINES: Final = "backup.partial"
FORMAT: Final = 1
_BLOCK: Final = 1024 * 1024
_PAGES: Final = 1_024
_FOLDER: Final = 0o700
_LEFT: Final = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(partial|replaced)")

Step = Callable[[str, int], None]
"""Called with what was copied (a path) and how many bytes of it."""
LeftOut = Callable[[str, StorageError], None]
"""Called with a tenant that could not be read, and why."""

Owners = Mapping[str, Set[str]]
"""``runs`` and ``models`` to the ids of those whose artifacts are meant."""
Note = Callable[[Path, int, str], None]
"""Told of a file that was written, with its size and SHA-256."""


def ignore(path: str, size: int) -> None:
    """Nobody wants to know."""


def back_up(
    data: Path,
    names: Sequence[str],
    target: Path,
    step: Step = ignore,
    *,
    left_out: LeftOut | None = None,
) -> int:
    """Copy tenants of a data directory to ``target``, which must not exist; bytes copied.

    Works beside a running server.  Raises NotFound for an unknown tenant, Conflict where
    ``target`` stands already, Corrupt where a file cannot be read as a database, and OSError.
    With ``left_out`` a tenant that cannot be read costs the others nothing: it is told, and left
    out; the error is raised only where nothing could be read.
    """
    with appearing(target) as partial, (partial / _LINES).open("w+b") as lines:
        (partial / "tenants").mkdir(_FOLDER)
        manifest = _Manifest(partial, lines, step)
        kept = []
        for name in dict.fromkeys(names):
            try:
                with manifest.all_or_nothing():
                    if not is_tenant_name(name):
                        raise NotFound(f"{name!r} is no tenant's name")
                    _copy_tenant(data / "tenants" / name, partial / "tenants" / name, manifest)
                kept.append(name)
            except (Corrupt, NotFound, Unreadable, Unsupported) as error:
                if left_out is None or (name == names[-1] and not kept):
                    raise
                shutil.rmtree(partial / "tenants" / name, ignore_errors=True)
                left_out(name, error)
        manifest.finish({"format": FORMAT, "tenants": kept, "at": now_ms()})
        return manifest.bytes


class _Manifest:
    """Notes every file of a backup as it comes; ``lines`` is where, until all are known."""

    def __init__(self, root: Path, lines: IO[bytes], step: Step) -> None:
        self._root = root
        self._lines = lines
        self._step = step
        self.bytes = 0

    def note(self, path: Path, size: int, digest: str) -> None:
        place = path.relative_to(self._root).as_posix()
        self._lines.write(_line({"path": place, "size": size, "sha256": digest}))
        self._step(place, size)
        self.bytes += size

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What is noted in a block that fails is forgotten."""
        end, total = self._lines.tell(), self.bytes
        try:
            yield
        except BaseException:
            self._lines.seek(end)
            self._lines.truncate()
            self.bytes = total
            raise

    def finish(self, header: dict[str, Any]) -> None:
        """The manifest itself, synced: the header first, then what was noted."""
        with (self._root / MANIFEST).open("wb") as whole:
            os.fchmod(whole.fileno(), 0o600)
            whole.write(_line(header))
            self._lines.seek(0)
            shutil.copyfileobj(self._lines, whole)
            whole.flush()
            os.fsync(whole.fileno())
        (self._root / _LINES).unlink()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _copy_tenant(source: Path, target: Path, manifest: _Manifest) -> None:
    if not (source / "tenant.db").is_file():
        raise NotFound(f"there is no tenant {source.name} in {source.parent.parent}")
    target.mkdir(_FOLDER)
    copy_database(source / "tenant.db", target / "tenant.db")
    manifest.note(target / "tenant.db", *checksum(target / "tenant.db"))
    copy_artifacts(source, target, _owners(target / "tenant.db"), manifest.note)


def copy_artifacts(source: Path, target: Path, owners: Owners, note: Note) -> None:
    """Those of the runs and models that are named, from one tenant's folder to another."""
    for kind, ids in owners.items():
        for place in _folders(source / "artifacts" / kind):
            if place.name in ids:
                _copy_tree(place, target / "artifacts" / kind / place.name, note)


def copy_database(source: Path, target: Path) -> None:
    """One snapshot of a database, which may be in use, to a new file, synced.

    Raises Corrupt, Full, Unreadable and Unsupported.
    """
    refuse_unfit(source.parent)
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as reader,
            closing(sqlite3.connect(target, isolation_level=None)) as writer,
        ):
            os.chmod(target, 0o600)  # noqa: PTH101 - beside fchmod above
            reader.isolation_level = None
            reader.execute("begin")  # pins the snapshot: without it a step that finds another
            version = reader.execute("pragma user_version").fetchone()[0]  # commit starts anew
            if version > VERSION:
                raise Unsupported(too_new(version, source))
            for pragma in ("journal_mode=off", "synchronous=off"):  # synced below, once
                writer.execute(f"pragma {pragma}").fetchall()
            reader.backup(writer, pages=_PAGES)
    except SQLITE_ERRORS as error:
        raise translate(error, source) from error
    sync(target)


def _owners(database: Path) -> Owners:
    """The runs and models of a copied database, which have artifacts or may have."""
    address = f"{database.absolute().as_uri()}?immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as copy:
            return {
                "runs": {row[0] for row in copy.execute("select run_id from run")},
                "models": {row[0] for row in copy.execute("select model_id from model")},
            }
    except SQLITE_ERRORS as error:
        raise translate(error, database) from error


def _folders(place: Path) -> list[Path]:
    return sorted(one for one in place.iterdir() if _is_folder(one)) if place.is_dir() else []


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def _copy_tree(source: Path, target: Path, note: Note) -> None:
    """Files and folders below ``source``; what disappears meanwhile was deleted meanwhile."""
    for folder, below, names in os.walk(source):
        below.sort()
        here = target / Path(folder).relative_to(source)
        for name in sorted(names):
            place = Path(folder) / name
            if place.is_symlink() or not place.is_file():
                continue  # nothing that an upload made
            make_folder(here)
            try:
                copied = copy_file(place, here / name)
            except FileNotFoundError:
                continue
            note(here / name, *copied)


def copy_file(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file's bytes, mode, time and seal, synced; its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as read, target.open("xb") as write:
        found = os.fstat(read.fileno())
        while block := read.read(_BLOCK):
            digest.update(block)
            write.write(block)
            size += len(block)
        write.flush()
        if noted := seal_of(read.fileno()):
            seal(write.fileno(), noted)
        os.fchmod(write.fileno(), found.st_mode & 0o777)
        os.utime(write.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
        os.fsync(write.fileno())
    return size, digest.hexdigest()


def checksum(path: Path) -> tuple[int, str]:
    """A file's size and SHA-256."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A folder that gets its name when the block ends well, synced, and else is gone."""
    if target.exists() or target.is_symlink():
        raise Conflict(f"{target} exists already")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir(_FOLDER)
    try:
        yield partial
        for folder, _, _ in os.walk(partial, topdown=False):
            sync(Path(folder))
        partial.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def make_folder(folder: Path) -> None:
    """A folder with those above it, each for its owner alone."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(_FOLDER)


def sync(path: Path) -> None:
    """Of a file or a folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# --- back again ----------------------------------------------------------------------------------


def contents(source: Path) -> list[str]:
    """The tenants of a backup.

    Raises NotFound for a folder that is none, Unsupported, and Corrupt where one that it lists has
    a name that no tenant has: names become folders, and a backup may come from anywhere.
    """
    names = list(_header(source)["tenants"])
    for name in names:
        if not isinstance(name, str) or not is_tenant_name(name) or name != name.lower():
            raise Corrupt(f"{name!r} is no tenant's name", file=source / MANIFEST)
    return names


def _header(source: Path) -> dict[str, Any]:
    try:
        with (source / MANIFEST).open(encoding="utf-8") as lines:
            header: dict[str, Any] = json.loads(lines.readline())
            if header["format"] > FORMAT:
                raise Unsupported(f"{source} was made by a newer Stepwell; restore it with that")
            return header
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound(f"{source} is no backup: it has no whole {MANIFEST}") from error


def unpack(source: Path, name: str, target: Path, step: Step = ignore) -> None:
    """Copy one tenant of a backup to a new folder, every file as it was listed.

    Raises Corrupt for a file that is missing, is not what was backed up, or would lie elsewhere.
    """
    prefix = f"tenants/{name}/"
    make_folder(target)
    with (source / MANIFEST).open(encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            file = json.loads(line)
            if not file["path"].startswith(prefix):
                continue
            if {"", ".", ".."} & set(file["path"].split("/")):
                raise Corrupt(f"{file['path']!r} leads out of the backup", file=source / MANIFEST)
            place = target / file["path"].removeprefix(prefix)
            make_folder(place.parent)
            try:
                copied = copy_file(source / file["path"], place)
            except OSError as error:
                if error.errno in FULL:  # which is the other side's fault
                    raise
                raise Corrupt(f"cannot be read: {error}", file=source / file["path"]) from error
            if copied != (file["size"], file["sha256"]):
                raise Corrupt("is not what was backed up", file=source / file["path"])
            step(file["path"], file["size"])
    for folder, _, _ in os.walk(target, topdown=False):
        sync(Path(folder))


def put_in_place(folder: Path, tenants: Path, name: str, *, replace: bool) -> None:
    """Give a tenant's folder its name.  Raises Conflict where one stands and may not go.

    For whoever holds the data directory's lock.
    """
    target = tenants / name
    old = tenants / f".{name}.{secrets.token_hex(4)}.replaced"
    if target.exists():
        if not replace:
            raise Conflict(f"there is a tenant {name} already")
        target.rename(old)
    folder.rename(target)
    sync(tenants)
    if old.exists():
        shutil.rmtree(old)


def settle_places(tenants: Path) -> None:
    """Finish what a restore that was killed left: its copy goes, and a tenant that it had set aside
    comes back where nothing took its place.

    For whoever holds the data directory's lock.
    """
    for entry in sorted(tenants.iterdir()):
        left = _LEFT.fullmatch(entry.name)
        if not left:
            continue
        if left[2] == "replaced" and not (tenants / left[1]).exists():
            entry.rename(tenants / left[1])
        else:
            shutil.rmtree(entry)
        sync(tenants)
