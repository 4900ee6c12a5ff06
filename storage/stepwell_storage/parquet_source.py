"""An export that somebody hands us: nothing in it is believed before it was looked at.

The manifest says which files there are and what their checksums are; only files that are these are
opened.  Even then the library may panic, or abort its process, over one that is no Parquet at all,
so :meth:`Source.probe` has a child read them first.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from stepwell_storage import parquet_tables
from stepwell_storage.backups import checksum
from stepwell_storage.errors import Corrupt, NotFound, Unsupported
from stepwell_storage.migrations import VERSION
from stepwell_storage.parquet_export import DERIVED, FORMAT, MANIFEST
from stepwell_storage.paths import is_tenant_name

_PARQUET: Final = re.compile(r"points/\d{6,}\.parquet|tables/([a-z_]+)/\d{6,}\.parquet")
_ARTIFACT: Final = re.compile(r"artifacts/(runs/[0-9a-f]{32}|models/m-[0-9a-f]{32})/(.+)", re.S)


class Source:
    """An export.

    Raises NotFound where the folder is none, Unsupported for one of another version, and Corrupt
    for a manifest that is torn, or that leads out of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            raw = (folder / MANIFEST).read_bytes()
            header, *files = [json.loads(line) for line in raw.splitlines()]
            versions = (header["format"], header["version"])
            newer = versions[0] > FORMAT or versions[1] > VERSION
            older = versions[1] < VERSION
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotFound(f"{folder} is no export: it has no whole {MANIFEST}") from error
        if newer:
            raise Unsupported(f"{folder} was written by a newer Stepwell; import it with that")
        if older:
            raise Unsupported(
                f"{folder} is of version {versions[1]} of the tables, this is {VERSION}:"
                " serve what it was exported from once, which updates it, and export anew"
            )
        self.files: list[dict[str, Any]] = files
        self.digest = hashlib.sha256(raw).hexdigest()[:16]
        self.tenant = str(header.get("tenant"))
        self.points = header.get("points")
        if why := self._contradiction(header.get("files")):
            raise Corrupt(why, file=folder / MANIFEST)

    def _contradiction(self, stated: object) -> str:
        """What is wrong with the manifest; nothing where it is as an export writes it."""
        if not is_tenant_name(self.tenant) or self.tenant != self.tenant.lower():
            return f"{self.tenant!r} is no tenant's name"
        if type(self.points) is not int or self.points < 0:
            return "it does not say how many points there are"
        if stated != len(self.files):
            return f"it lists {len(self.files)} files and says that there are {stated}"
        for file in self.files:
            if not _is_entry(file):
                return f"{str(file)[:200]} is no file of an export"
        if len({file["path"] for file in self.files}) != len(self.files):
            return "it lists a file twice"
        return ""

    def checked(self, file: dict[str, Any]) -> Path:
        """Where a file is.  Raises Corrupt unless it is what was written."""
        path = self.folder / str(file["path"])
        try:
            whole = not path.is_symlink() and path.is_file() and path.stat().st_size == file["size"]
            same = whole and checksum(path)[1] == file["sha256"]
        except OSError as error:
            raise Corrupt(f"cannot be read: {error}", file=path) from error
        if not same:
            missing = not path.exists()
            raise Corrupt("is missing" if missing else "is not what was exported", file=path)
        return path

    def probe(self) -> None:
        """Raises Corrupt for a file that says it is Parquet and cannot be read as that."""
        paths = [str(self.checked(file)) for file in self.files if _PARQUET.fullmatch(file["path"])]
        command = [sys.executable, "-m", parquet_tables.__name__]
        done = subprocess.run(
            command, input="\0".join(paths).encode(errors="surrogateescape"), capture_output=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            last = done.stdout.decode(errors="surrogateescape").rpartition("\0")[2]
            raise Corrupt("is no Parquet file that can be read", file=last or self.folder)


def _is_entry(file: Any) -> bool:
    if not isinstance(file, dict):
        return False
    path, size, digest = (file.get(name) for name in ("path", "size", "sha256"))
    if not isinstance(path, str) or type(size) is not int or not isinstance(digest, str):
        return False
    if found := _PARQUET.fullmatch(path):
        return found[1] not in DERIVED
    artifact = _ARTIFACT.fullmatch(path)
    if not artifact or "\0" in path:
        return False
    return not {"", ".", ".."} & set(artifact[2].split("/"))
