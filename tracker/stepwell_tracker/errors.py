"""Every refusal of the server, as one table: exception type -> status, and its problem document.

Endpoints raise; nobody else writes an error.  Storage's exceptions and these meet in
:data:`PROBLEMS`; a subclass answers like its nearest ancestor in the table.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from stepwell import wire
from stepwell_storage import errors as storage

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that HTTP itself, and not the storage behind it, turns away.

    The message is shown to the caller: it may repeat what the caller sent, and nothing else.
    """


class BadRequest(Refusal):
    """Malformed JSON, a malformed header, a forged Host."""


class Forbidden(Refusal):
    """A page of another site is asking."""


class MethodNotAllowed(Refusal):
    """The path exists; ``allow`` is what it takes."""

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f"{method} is not among the methods of this path: {allow}")
        self.allow = allow


class TooSlow(Refusal):
    """A request that does not arrive; the connection closes."""


class TooLarge(Refusal):
    """A body over its limit; it is not read to its end, so the connection closes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body exceeds the limit of {limit} bytes")


class HeadersTooLarge(Refusal):
    """More headers than any client has a reason to send."""


class WrongMedia(Refusal):
    """A Content-Type or Content-Encoding that this call does not take."""


class Gone(Refusal):
    """A write to a run that was deleted for good: its sender need not try again."""


class Changed(Refusal):
    """A file is another than the one that was asked for."""


class RangeNotSatisfiable(Refusal):
    """A file has none of the bytes asked for; ``size`` is what it has."""

    def __init__(self, size: int) -> None:
        super().__init__(f"none of the ranges lies within the file's {size} bytes")
        self.size = size


# type of exception -> (status, title).  A test walks stepwell_storage.errors and this module.
PROBLEMS: dict[type[Exception], tuple[int, str]] = {
    BadRequest: (400, "Bad request"),
    Forbidden: (403, "Forbidden"),
    MethodNotAllowed: (405, "Method not allowed"),
    TooSlow: (408, "Request too slow"),
    Changed: (412, "Precondition failed"),
    TooLarge: (413, "Body too large"),
    WrongMedia: (415, "Unsupported media type"),
    RangeNotSatisfiable: (416, "Range not satisfiable"),
    HeadersTooLarge: (431, "Header too large"),
    ClientDisconnect: (400, "Client went away"),
    Gone: (409, "Deleted for good"),
    msgspec.ValidationError: (422, "Invalid field"),
    msgspec.DecodeError: (400, "Malformed body"),
    storage.NotFound: (404, "Not found"),
    storage.Purged: (404, "Not found"),
    storage.Conflict: (409, "Conflict"),
    storage.BadCursor: (400, "Bad cursor"),
    storage.Invalid: (422, "Invalid field"),
    storage.LimitExceeded: (422, "Limit exceeded"),
    storage.Busy: (503, "Busy"),
    storage.Full: (507, "Disk full"),
    storage.Unreadable: (503, "Disk unreadable"),
    storage.Corrupt: (500, "Damaged data"),
    storage.Unsupported: (500, "Unsupported data"),
    storage.Closed: (503, "Shutting down"),
}

_MISSING = re.compile(r"Object missing required field `(\w+)`")
_UNEXPECTED = (500, "Internal error")
_LOGGED_ONLY = {
    "Damaged data": "stored data is damaged; the server's log names the place",
    "Unsupported data": "stored data cannot be used by this server; its log says why",
    "Internal error": "the server failed; its log has the details",
}


def problem_of(exc: Exception) -> wire.Problem:
    """The problem document of an exception; whatever is not in the table is a 500."""
    if isinstance(exc, HTTPException):  # the router's own 404
        return _problem(exc.status_code, HTTPStatus(exc.status_code).phrase.capitalize(), "")
    status, title = next(
        (PROBLEMS[kind] for kind in type(exc).__mro__ if kind in PROBLEMS), _UNEXPECTED
    )
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        if isinstance(exc, storage.StorageError):  # others travel on to the server, which logs them
            log.error("%s: %s", title, exc, exc_info=exc)
        return _problem(status, title, _LOGGED_ONLY[title])
    problem = _problem(status, title, str(exc))
    if isinstance(exc, msgspec.ValidationError):
        problem.errors = [field_error(exc)]
    elif isinstance(exc, storage.Invalid) and exc.path:
        problem.errors = [wire.FieldError(path=exc.path, detail=str(exc))]
    elif isinstance(exc, storage.Conflict):
        problem.experiment_id = exc.existing
    return problem


def headers_of(exc: Exception) -> list[tuple[bytes, bytes]]:
    """What accompanies a problem: Allow, Retry-After, or the end of the connection."""
    match exc:
        case MethodNotAllowed():
            return [(b"allow", exc.allow.encode())]
        case TooLarge() | TooSlow():
            return [(b"connection", b"close")]
        case RangeNotSatisfiable():
            return [(b"content-range", b"bytes */%d" % exc.size)]
        case storage.Busy():
            return [(b"retry-after", str(exc.retry_after_s).encode())]
        case storage.Closed() | storage.Unreadable():
            return [(b"retry-after", b"1")]
        case _:
            return []


def field_error(exc: msgspec.ValidationError) -> wire.FieldError:
    """``Expected `int`, got `str` - at `$.metrics[0].step``` as a path and what is wrong there."""
    detail, _, path = str(exc).partition(" - at `$")
    path = path.rstrip("`")
    if missing := _MISSING.fullmatch(detail):
        path += "." + missing[1]
    return wire.FieldError(path=path.removeprefix("."), detail=detail)


def slug_of(title: str) -> str:
    """The ``type`` of a problem: what programs compare, where titles may be reworded."""
    return "urn:stepwell:problem:" + title.lower().replace(" ", "-")


def _problem(status: int, title: str, detail: str) -> wire.Problem:
    return wire.Problem(type=slug_of(title), title=title, status=status, detail=detail or title)
