"""The web UI's files: one page for all of its addresses, and what that page loads.

The files are read once; a request is answered from a dict, so no path of a request ever meets the
file system.  What stands below /static/assets/ carries its content's hash in its name.  The
installation keeps large files compressed: nearly every browser asks for them so.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stepwell_tracker.errors import MethodNotAllowed
from stepwell_tracker.http import HEADERS, Reply, takes

FOLDER: Final = Path(__file__).parent / "static"
PAGES: Final = ("/", "/runs/{run_id}", "/compare", "/models")
"""Addresses of the UI; what they show is decided in the browser."""

POLICY: Final = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:",
    "connect-src 'self'", "media-src blob:", "frame-src blob:", "base-uri 'none'",
    "form-action 'none'", "frame-ancestors 'none'",
))  # fmt: skip
_SAFETY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_PAGE: Final = (
    *_SAFETY,
    (b"content-security-policy", POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-cache"),
)
_FOREVER: Final = (*_SAFETY, (b"cache-control", b"public, max-age=31536000, immutable"))
_REVALIDATED: Final = (*_SAFETY, (b"cache-control", b"no-cache"))
PACKED: Final = ".gz"
_WORTH_PACKING: Final = frozenset({".js", ".css", ".html", ".svg"})
_MISSING: Final = (
    b"<!doctype html><title>Stepwell</title><p>The server runs; its web UI has not been built."
    b" Install the package again from its folder: pip install -e '.[server]'."
)


class File:
    """One file, as it is and compressed; ``body`` is the latter where ``name`` ends in ``.gz``."""

    def __init__(self, body: bytes, name: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        suffix = Path(name.removesuffix(PACKED)).suffix
        self.body = body
        self.packed: bytes | None = None
        if name.endswith(PACKED):
            self.body, self.packed = gzip.decompress(body), body
        elif suffix in _WORTH_PACKING:
            self.packed = gzip.compress(body, 9, mtime=0)
        media = mimetypes.types_map.get(suffix, "application/octet-stream")
        if suffix == ".js":
            media = "text/javascript"
        self.media = f"{media}; charset=utf-8" if media.startswith("text/") else media
        self.etag = b'"%s"' % hashlib.sha256(self.body).hexdigest()[:32].encode()
        self.headers = ((b"etag", self.etag), (b"vary", b"Accept-Encoding"), *headers)

    def reply(self, headers: dict[bytes, bytes]) -> Reply:
        if self.etag in headers.get(b"if-none-match", b""):
            return Reply(b"", status=304, media=self.media, headers=self.headers)
        if self.packed is not None and takes(headers.get(b"accept-encoding", b""), b"gzip"):
            encoding = (b"content-encoding", b"gzip")
            return Reply(self.packed, media=self.media, headers=(*self.headers, encoding))
        return Reply(self.body, media=self.media, headers=self.headers)


class Static:
    """The files below /static/, by their path; an ASGI application."""

    path = "/static/{path}"

    def __init__(self, files: dict[str, File]) -> None:
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _only_read(scope)
        file = self._files.get(scope["path_params"]["path"])
        if file is None:
            raise HTTPException(404)
        await file.reply(scope[HEADERS])(scope, receive, send)


class Page:
    """The one page of the UI, at one of its addresses; an ASGI application."""

    def __init__(self, path: str, index: File | None) -> None:
        self.path = path
        self._index = index

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _only_read(scope)
        if self._index is None:
            reply = Reply(_MISSING, status=503, media="text/html; charset=utf-8", headers=_PAGE)
        else:
            reply = self._index.reply(scope[HEADERS])
        await reply(scope, receive, send)


def routes(root_path: str = "", folder: Path = FOLDER) -> list[Route]:
    """The UI's routes; ``root_path`` is what the browser sees before each path."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    index = files.pop("index.html", None)
    page = None
    if index is not None:
        prefix = html.escape(root_path).encode()
        page = File(index.replace(b'"/static/', b'"%s/static/' % prefix), "index.html", _PAGE)
    static = Static(
        {
            name.removesuffix(PACKED): File(body, name, _caching(name))
            for name, body in files.items()
        }
    )
    return [Route(path, Page(path, page)) for path in PAGES] + [
        Route("/static/{path:path}", static),
    ]


def _caching(name: str) -> Sequence[tuple[bytes, bytes]]:
    return _FOREVER if name.startswith("assets/") else _REVALIDATED


def _only_read(scope: Scope) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        raise MethodNotAllowed(scope["method"], "GET, HEAD")
