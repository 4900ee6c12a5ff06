"""What every endpoint is written against: the declared call, the request and the reply.

An endpoint is ``async def name(request: Request) -> Struct | Reply | ASGI response``.  It is
declared by a :class:`Call` in its module's list ``CALLS``.  ``app.py`` routes by those lists and
``openapi.py`` describes them, so nothing about a call is written twice.

Before an endpoint runs, everything that may refuse the request has been asked, in this order:
headers, existence (the tenant is leased; the run or experiment of the path is there), query, body.
What it finds then: ``request.tenant``, ``request.run_id`` or ``request.experiment_id``,
``request.query`` and ``request.body`` (the declared Structs), ``request.path`` (decoded once).
The lease is held until the reply has been sent, streamed ones included.

An endpoint that fails raises: storage's exceptions, or those of ``errors.py``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope as ASGIScope, Send

from stepwell import wire
from stepwell_storage.errors import Busy
from stepwell_tracker import schema
from stepwell_tracker.config import Settings
from stepwell_tracker.decoding import Decoder, Query
from stepwell_tracker.errors import (
    BadRequest,
    MethodNotAllowed,
    TooLarge,
    WrongMedia,
    headers_of,
    problem_of,
)
from stepwell_tracker.observe import STATUS, Observations
from stepwell_tracker.probe import Probe
from stepwell_tracker.streams import Streams
from stepwell_tracker.tenancy import Headers, Tenancy

if TYPE_CHECKING:
    from stepwell_storage.store import Store
    from stepwell_storage.tenant import Tenant

HEADERS: Final = "stepwell.headers"
"""Key of the ASGI scope under which ``gate.py`` leaves the headers as a dict."""

MAX_ARRIVING_BYTES: Final = 256 * 1024 * 1024
"""Bound of all bodies together that arrive in pieces; whole ones wait in the committer's queue."""

_NOT: Final = re.compile(rb"q\s*=\s*0(\.0*)?")
_JSON: Final = (b"content-type", wire.JSON.encode())
_encode = msgspec.json.Encoder().encode


def takes(header: bytes, name: bytes) -> bool:
    """Whether a header of the Accept family names just this, and not with a quality of zero.

    RFC 9110, 12.4.2 and 12.5.  ``name`` is in lower case.
    """
    for one in header.lower().split(b","):
        named, *settings = (part.strip() for part in one.split(b";"))
        if named == name:
            return not any(_NOT.fullmatch(setting) for setting in settings)
    return False


class Scope(Enum):
    """What a call is about, hence what must exist before its body is looked at."""

    SERVER = "no tenant"
    TENANT = "the tenant of the headers; an unknown one answers as an empty tenant"
    EXPERIMENT = "the experiment of the path"
    RUN = "the run of the path, whose id names the tenant"
    LATER = "the endpoint opens the tenant itself (request.tenancy), as only the body tells which"


class Server:
    """What all requests share.  ``store`` and ``tenancy`` are there while the lifespan lasts."""

    store: Store
    tenancy: Tenancy

    def __init__(self, settings: Settings, calls: Sequence[Call]) -> None:
        self.settings = settings
        self.calls = calls
        self.streams = Streams()
        self.observations = Observations()
        self.probe = Probe()
        self.arriving_bytes = 0
        """Held by bodies that are not whole yet."""


class Request:
    """One request of a declared call; see this module's docstring."""

    __slots__ = (
        "body", "call", "experiment_id", "headers", "path", "query", "receive", "run_id", "scope",
        "send", "server", "tenant",
    )  # fmt: skip
    tenant: Tenant
    run_id: str
    experiment_id: str
    query: Any
    body: Any

    def __init__(
        self, call: Call, server: Server, scope: ASGIScope, receive: Receive, send: Send
    ) -> None:
        self.call = call
        self.server = server
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers: Headers = scope[HEADERS]
        self.path: dict[str, str] = scope["path_params"]

    @property
    def tenancy(self) -> Tenancy:
        return self.server.tenancy

    def header(self, name: bytes) -> str | None:
        """A header by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def accepts(self, media: str) -> bool:
        """Whether the Accept header names exactly this media type."""
        return takes(self.headers.get(b"accept", b""), media.encode())

    async def stream(self) -> AsyncIterator[bytes]:
        """The body as it arrives, unbounded.  Raises ClientDisconnect."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if chunk := message.get("body"):
                yield chunk
            if not message.get("more_body"):
                return

    async def read(self) -> bytes:
        """The whole body.  Raises TooLarge before reading it where Content-Length tells."""
        limit = self.call.max_body_bytes
        length = self.headers.get(b"content-length")
        if length is not None:
            if not length.isdigit():
                raise BadRequest("Content-Length is not a number")
            if int(length) > limit:
                raise TooLarge(limit)
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")  # the common case: one chunk, no copy
            if len(body) > limit:
                raise TooLarge(limit)
            return body
        return await self._read_chunks(message, limit)

    async def _read_chunks(self, message: Any, limit: int) -> bytes:
        chunks, size = [], 0
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                self.server.arriving_bytes += len(chunks[-1])
                if size > limit:
                    raise TooLarge(limit)
                if self.server.arriving_bytes > MAX_ARRIVING_BYTES:
                    raise Busy(f"more than {MAX_ARRIVING_BYTES} bytes of bodies are arriving")
                if not message.get("more_body"):
                    return b"".join(chunks)
                message = await self.receive()
        finally:
            self.server.arriving_bytes -= size

    def decoder(self) -> Decoder:
        """What makes the declared Struct of a body of this media type.  Raises WrongMedia."""
        decoder = self.call.decoders.get(self.headers.get(b"content-type", b"application/json"))
        if decoder is None or b"content-encoding" in self.headers:
            return self._negotiate()
        return decoder

    def _negotiate(self) -> Decoder:
        encoding = self.headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"identity", b""):
            raise WrongMedia("Content-Encoding is not supported: send the body as it is")
        media = self.headers.get(b"content-type", b"application/json")
        decoder = self.call.decoders.get(media.partition(b";")[0].strip().lower())
        if decoder is None:
            known = " or ".join(self.call.body or ())
            raise WrongMedia(f"this call takes Content-Type: {known}")
        return decoder


class Reply:
    """A finished answer; it is sent with its Content-Length."""

    __slots__ = ("body", "headers", "media", "status")

    def __init__(
        self,
        body: bytes,
        *,
        status: int = 200,
        media: str = wire.JSON,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.body = body
        self.status = status
        self.media = media
        self.headers = headers

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        headers = [
            _JSON if self.media == wire.JSON else (b"content-type", self.media.encode()),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        scope[STATUS] = self.status
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})


def json_reply(answer: msgspec.Struct, *, status: int = 200) -> Reply:
    """A Struct as JSON; an endpoint may as well return the Struct itself where 200 will do."""
    return Reply(_encode(answer), status=status)


def problem_reply(exc: Exception) -> Reply:
    """The problem document of an exception, with the headers that belong to it."""
    problem = problem_of(exc)
    return Reply(
        _encode(problem), status=problem.status, media=schema.PROBLEM, headers=headers_of(exc)
    )


Endpoint = Callable[[Request], Awaitable[msgspec.Struct | ASGIApp]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API: what is routed, checked, decoded and described.

    ``path`` is in Starlette's form.  ``query`` is a Struct of the query's parameters: lists may be
    repeated, ``Meta`` gives ranges and descriptions; see ``decoding.Query``.  ``body`` maps each
    media type to its Struct; ``{"*/*": None}`` is a body that the endpoint streams itself.
    ``answer`` likewise.  ``statuses`` are those of success, ``errors`` those that neither scope,
    query nor body imply already.  The first line of the endpoint's docstring is the summary.
    """

    method: str
    path: str
    endpoint: Endpoint
    scope: Scope = Scope.TENANT
    query: type[msgspec.Struct] | None = None
    body: Mapping[str, type[msgspec.Struct] | None] | None = None
    answer: Mapping[str, type[msgspec.Struct] | None] = field(default_factory=dict)
    statuses: tuple[int, ...] = (200,)
    errors: tuple[int, ...] = ()
    max_body_bytes: int = schema.MAX_BODY_BYTES
    decoders: dict[bytes, Decoder] = field(init=False)
    parse_query: Query | None = field(init=False)

    def __post_init__(self) -> None:
        decoders = {
            media.encode(): Decoder(media, struct)
            for media, struct in (self.body or {}).items()
            if struct is not None
        }
        object.__setattr__(self, "decoders", decoders)
        object.__setattr__(self, "parse_query", Query(self.query) if self.query else None)


def as_json(struct: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct] | None]:
    """The usual ``body`` or ``answer`` of a call."""
    return {wire.JSON: struct}


class Resource:
    """The calls of one path, as an ASGI application."""

    def __init__(self, server: Server, calls: Sequence[Call]) -> None:
        self.path = calls[0].path
        self._server = server
        self._calls = {call.method: (call, _ENTER[call.scope]) for call in calls}
        if "GET" in self._calls:
            self._calls.setdefault("HEAD", self._calls["GET"])
        self._allow = ", ".join(sorted(self._calls))

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        found = self._calls.get(scope["method"])
        if found is None:
            raise MethodNotAllowed(scope["method"], self._allow)
        call, enter = found
        await enter(Request(call, self._server, scope, receive, send))


async def _in_run(request: Request) -> None:
    async with request.tenancy.run(request.headers, request.path["run_id"]) as found:
        request.tenant, request.run_id = found
        await _answer(request)


async def _in_tenant(request: Request) -> None:
    async with request.tenancy.tenant(request.headers) as request.tenant:
        await _answer(request)


async def _in_experiment(request: Request) -> None:
    async with request.tenancy.tenant(request.headers) as request.tenant:
        request.experiment_id = await request.tenancy.experiment_id(
            request.tenant, request.path["experiment_id"]
        )
        await _answer(request)


async def _later(request: Request) -> None:
    request.tenancy.name(request.headers)  # refused before the body is looked at
    await _answer(request)


async def _answer(request: Request) -> None:
    call = request.call
    if call.parse_query is not None:
        request.query = call.parse_query(request.scope["query_string"])
    if call.decoders:
        decoder = request.decoder()
        request.body = decoder(await request.read())
    reply = await call.endpoint(request)
    if not callable(reply):  # isinstance of Struct is slow, it is an abstract base class
        reply = Reply(_encode(reply))
    await reply(request.scope, request.receive, request.send)


_ENTER: Final = {
    Scope.SERVER: _answer,
    Scope.TENANT: _in_tenant,
    Scope.EXPERIMENT: _in_experiment,
    Scope.RUN: _in_run,
    Scope.LATER: _later,
}
