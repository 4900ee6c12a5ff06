"""A source's files where they lie in folders of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

PROXIED: Final = "mlflow-artifacts"
_READ_BYTES: Final = 1 << 20


class Elsewhere(Exception):
    """The files are at a place that is not read from here; the message says where."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """``path`` leads there from the owner's root.  ``size`` in bytes, if it is known before."""

    path: str
    size: int | None
    read: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """``base`` is what relative paths begin at; ``proxied`` where MLflow's server keeps files."""

    base: Path
    proxied: Path

    def of(self, uri: str) -> Iterator[SourceFile]:
        """Every file below a folder, links to files included.  Raises Elsewhere."""
        return walk(self.folder(uri))

    def folder(self, uri: str) -> Path:
        """Raises Elsewhere for what is no folder of this machine's."""
        parts = urlsplit(uri)
        if parts.scheme == PROXIED:
            return _inside(self.proxied, unquote(parts.path))
        if parts.scheme == "file" and parts.netloc in ("", "localhost"):
            return self.base / unquote(parts.path)
        if parts.scheme or not uri:
            raise Elsewhere(f"{parts.scheme or 'no place'}:")
        return self.base / uri

    def is_local(self, uri: str | None) -> bool:
        return urlsplit(uri or "").scheme in ("", "file", PROXIED)


def _inside(root: Path, path: str) -> Path:
    parts = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise Elsewhere(path)
    return root.joinpath(*parts)


def walk(folder: Path) -> Iterator[SourceFile]:
    """In the order of their names; nothing where there is no folder."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if path.is_file():
                size = path.stat().st_size
                shown = path.relative_to(folder).as_posix()
                yield SourceFile(shown, size, _reader(path))


def _reader(path: Path) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while data := file.read(_READ_BYTES):
                yield data

    return read
