"""An artifact as an answer: streamed with bounded memory, in whole or in ranges.

Whatever users upload is hostile to browsers: it is an attachment, never sniffed, and sandboxed.
"""

from __future__ import annotations

import mimetypes
import re
import secrets
from email.utils import formatdate
from typing import Final
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from stepwell_storage.artifacts import ArtifactFile
from stepwell_tracker.errors import Changed, RangeNotSatisfiable, Refusal
from stepwell_tracker.http import Request
from stepwell_tracker.observe import begin
from stepwell_tracker.ranges import Span, Unsatisfiable, parse
from stepwell_tracker.streams import client_watched

READ_BYTES: Final = 256 * 1024
_SAFETY: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"private, no-cache"),
    (b"accept-ranges", b"bytes"),
]
_TYPES: Final = mimetypes.MimeTypes()  # Python's own table: the same answer on every machine
_PACKED: Final = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
}
_TEXT: Final = frozenset({
    "cfg", "conf", "err", "ini", "jsonl", "log", "md", "mlmodel", "mlproject", "ndjson", "out",
    "rst", "toml", "yaml", "yml",
})  # fmt: skip
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9 ._()+,=@\[\]{}~^!&$-]")


def media_type(name: str) -> str:
    """Guessed from a file's name alone, the same everywhere; unknown: application/octet-stream."""
    if name.rpartition(".")[2].lower() in _TEXT:
        return "text/plain"
    guessed, packing = _TYPES.guess_type("x/" + name.replace(":", "_"), strict=False)
    if packing is not None:
        return _PACKED.get(packing, "application/octet-stream")
    return guessed or "application/octet-stream"


def attachment(name: str) -> str:
    """The Content-Disposition of a file: a plain name, and beside it the exact one (RFC 6266)."""
    plain = _UNSAFE.sub("_", name)
    exact = f"; filename*=UTF-8''{quote(name, safe='')}" if plain != name else ""
    return f'attachment; filename="{plain}"{exact}'


class FileReply:
    """An open file as an ASGI answer, which closes it.

    Raises Changed and RangeNotSatisfiable when made, so that nothing has been sent by then.
    """

    def __init__(self, file: ArtifactFile, name: str, request: Request) -> None:
        """What of the file ``request`` asks for, by its headers."""
        self._file = file
        self._etag = f'"{file.version}"'
        media = media_type(name)
        self._media = media + "; charset=utf-8" if media.startswith("text/") else media
        self._disposition = attachment(name)
        known = request.header(b"if-none-match")
        self._known = known is not None and _matches(self._etag, known)
        try:
            self._spans = self._wanted(request)
        except Refusal:
            file.close()
            raise

    def _wanted(self, request: Request) -> list[Span] | None:
        only = request.header(b"if-match")
        if only is not None and not _matches(self._etag, only):
            raise Changed("the file is none of those that If-Match names")
        wanted = request.header(b"range") if request.scope["method"] == "GET" else None
        # A date is no validator for us: two uploads of one second would share it.
        if wanted is None or request.header(b"if-range") not in (None, self._etag):
            return None
        try:
            return parse(wanted, self._file.size)
        except Unsatisfiable:
            raise RangeNotSatisfiable(self._file.size) from None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._file:
            if self._known:
                begin(scope, 304)
                await self._start(send, 304, [])
                await send({"type": "http.response.body"})
                return
            status, headers, parts = self._plan(scope["method"] == "HEAD")
            begin(scope, status)
            await self._start(send, status, headers)
            async with client_watched(receive, self._leave):
                for part in parts:
                    await self._send(send, part)
            await send({"type": "http.response.body"})

    def _plan(self, head: bool) -> tuple[int, list[tuple[bytes, bytes]], list[bytes | Span]]:
        """Status, headers, and the body: bytes as they are, and spans of the file."""
        size, spans = self._file.size, self._spans
        kind = (b"content-type", self._media.encode())
        if spans is None or head:
            whole: list[bytes | Span] = [] if head else [(0, size)]
            return 200, [kind, (b"content-length", b"%d" % size)], whole
        if len(spans) == 1:
            start, stop = spans[0]
            place = b"bytes %d-%d/%d" % (start, stop - 1, size)
            length = (b"content-length", b"%d" % (stop - start))
            return 206, [kind, (b"content-range", place), length], [spans[0]]
        boundary = secrets.token_hex(16)
        body: list[bytes | Span] = []
        for start, stop in spans:
            body.append(
                f"\r\n--{boundary}\r\nContent-Type: {self._media}\r\n"
                f"Content-Range: bytes {start}-{stop - 1}/{size}\r\n\r\n".encode()
            )
            body.append((start, stop))
        body.append(f"\r\n--{boundary}--\r\n".encode())
        total = sum(len(b) if isinstance(b, bytes) else b[1] - b[0] for b in body)
        several = f"multipart/byteranges; boundary={boundary}".encode()
        return 206, [(b"content-type", several), (b"content-length", b"%d" % total)], body

    async def _start(self, send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        modified = formatdate(self._file.modified_at / 1_000, usegmt=True)
        own = [
            (b"content-disposition", self._disposition.encode()),
            (b"etag", self._etag.encode()),
            (b"last-modified", modified.encode()),
        ]
        start = {"type": "http.response.start", "status": status}
        await send({**start, "headers": [*headers, *own, *_SAFETY]})

    async def _send(self, send: Send, part: bytes | Span) -> None:
        if isinstance(part, bytes):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            return
        offset, stop = part
        while offset < stop:
            if self._gone:
                return
            chunk = await self._file.read(offset, min(READ_BYTES, stop - offset))
            if not chunk:
                raise OSError("an artifact became shorter while it was sent")
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            offset += len(chunk)

    _gone = False

    def _leave(self) -> None:
        self._gone = True


def _matches(etag: str, header: str) -> bool:
    given = [value.strip().removeprefix("W/") for value in header.split(",")]
    return etag in given or "*" in given
