"""Live events of a run, as server-sent events.  docs/events.md describes them."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from starlette.types import Receive, Scope as ASGIScope, Send

from stepwell import wire
from stepwell_storage.events import RESET, Subscription
from stepwell_storage.records import Event
from stepwell_tracker.errors import BadRequest
from stepwell_tracker.http import Call, Request, Scope
from stepwell_tracker.observe import begin
from stepwell_tracker.runs import BASE, RUN
from stepwell_tracker.streams import Streams, client_watched
from stepwell_tracker.tenancy import parse_run_id

HEARTBEAT_S: Final = 15.0
RETRY_MS: Final = 2_000
MEDIA: Final = "text/event-stream"
_NOTHING: Final = b": still here\n\n"
_HEADERS: Final = [
    (b"content-type", MEDIA.encode() + b"; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
_encode = msgspec.json.Encoder().encode


class EventsQuery(Struct):
    last_event_id: Annotated[
        Annotated[int, Meta(ge=0, le=2**63 - 1)] | None,
        Meta(description="the id of the last event seen; the header Last-Event-ID goes before it"),
    ] = None


class TenantEventsQuery(EventsQuery):
    run_id: Annotated[
        list[str], Meta(description="may repeat: only these runs; without it all of the tenant's")
    ] = []


async def get_events(request: Request) -> EventStream:
    """Follow a run: an event for each thing that changes, from now on or from the last one seen."""
    after = _after(request)
    subscription = request.tenant.events.subscribe(request.run_id, after)
    return EventStream(request.server.streams, subscription, resumed=after is not None)


async def get_tenant_events(request: Request) -> EventStream:
    """Follow many runs over one connection; the data of each event has its run_id too."""
    query: TenantEventsQuery = request.query
    after = _after(request)
    runs = frozenset(map(parse_run_id, query.run_id)) or None
    subscription = request.tenant.events.subscribe(None, after)
    streams = request.server.streams
    return TenantEventStream(streams, subscription, resumed=after is not None, runs=runs)


def _after(request: Request) -> int | None:
    """The number of the last event that the client has seen."""
    query: EventsQuery = request.query
    header = request.header(b"last-event-id")
    return query.last_event_id if not header else _number(header)


class EventStream:
    """A subscription as an ASGI answer; it ends with the client, the tenant or the server."""

    def __init__(self, streams: Streams, subscription: Subscription, *, resumed: bool) -> None:
        self._streams = streams
        self._subscription = subscription
        self._resumed = resumed

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        begin(scope, 200)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if scope["method"] != "HEAD":
            async with self._subscription as subscription:
                with self._streams.member(subscription.end):
                    async with client_watched(receive, subscription.end):
                        await self._follow(subscription, send)
        await send({"type": "http.response.body"})

    async def _follow(self, subscription: Subscription, send: Send) -> None:
        text = self._greeting(subscription)
        while text:
            await send({"type": "http.response.body", "body": text, "more_body": True})
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    events = await subscription.take()
                # None of them may be for this reader; no text at all would mean the end.
                text = self._texts(events) or (_NOTHING if events else b"")
            except TimeoutError:
                text = _NOTHING

    def _texts(self, events: list[Event]) -> bytes:
        return b"".join([_text(event, event.data) for event in events])

    def _greeting(self, subscription: Subscription) -> bytes:
        """The state's number.  To who goes on it is told without an id: the events that were
        missed come after it, and their smaller ids must not be skipped by the next reconnect."""
        number = subscription.started_at
        identity = b"" if self._resumed else b"id: %d\n" % number
        data = _encode({"number": number})
        return b"retry: %d\n%sevent: state\ndata: %s\n\n" % (RETRY_MS, identity, data)


class TenantEventStream(EventStream):
    """The events of many runs."""

    def __init__(
        self,
        streams: Streams,
        subscription: Subscription,
        *,
        resumed: bool,
        runs: frozenset[str] | None,
    ) -> None:
        super().__init__(streams, subscription, resumed=resumed)
        self._runs = runs

    def _texts(self, events: list[Event]) -> bytes:
        return b"".join([
            _text(event, {"run_id": event.run_id, **event.data})
            for event in events
            if self._runs is None or event.run_id in self._runs or event.kind == RESET
        ])  # fmt: skip


def _text(event: Event, data: dict[str, object]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.number, event.kind.encode(), _encode(_finite(data)),
    )  # fmt: skip


def _finite(data: Any) -> Any:
    """The data with its floats in the form that JSON carries; strings never hold a raw newline."""
    if isinstance(data, float):
        return data if math.isfinite(data) else wire.to_value(data)
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return data


def _number(header: str) -> int:
    if not (header.isascii() and header.isdecimal() and len(header) < 20):
        raise BadRequest("Last-Event-ID is not an id of ours")
    return int(header)


CALLS = (
    Call(
        "GET", BASE + "/events", get_tenant_events, query=TenantEventsQuery,
        answer={MEDIA: None}, errors=(400, 404),
    ),
    Call(
        "GET", RUN + "/events", get_events, scope=Scope.RUN, query=EventsQuery,
        answer={MEDIA: None}, errors=(400,),
    ),
)  # fmt: skip
