"""A run's console: lines in, pages and tails out."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from stepwell import wire
from stepwell_storage.errors import Invalid, LimitExceeded
from stepwell_storage.records import ConsoleLine
from stepwell_tracker.http import Call, Request, Scope, as_json
from stepwell_tracker.runs import RUN

MAX_LINES: Final = 10_000
"""Of a request, either way."""


class ConsoleQuery(Struct):
    tail: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_LINES)] | None,
        Meta(description="begin so many lines before the end"),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LINES)] = 1_000
    cursor: Annotated[str | None, Meta(description="next_cursor of the page before")] = None


async def log_console(request: Request) -> wire.ConsoleReply:
    """Append lines to a run's console."""
    body: wire.ConsoleLines = request.body
    if len(body.lines) > MAX_LINES:
        raise LimitExceeded("lines", f"a request has at most {MAX_LINES} lines")
    for position, line in enumerate(body.lines):
        if len(line.text) > wire.MAX_TEXT_CHARS:
            raise LimitExceeded(
                f"lines[{position}].text", f"a line has at most {wire.MAX_TEXT_CHARS} characters"
            )
    lines = [ConsoleLine(line.stream, line.timestamp, line.text) for line in body.lines]
    accepted = await request.tenant.log_console(request.run_id, lines)
    return wire.ConsoleReply(request.run_id, accepted)


async def get_console(request: Request) -> wire.ConsolePage:
    """Get a run's console lines, from the first, from a cursor, or the last ones."""
    query: ConsoleQuery = request.query
    if query.tail is not None and query.cursor is not None:
        raise Invalid("tail", "give tail or cursor, not both")
    page = await request.tenant.console(
        request.run_id, cursor=query.cursor, tail=query.tail, limit=query.limit
    )
    lines = [wire.ConsoleEntry(*line) for line in page.lines]
    return wire.ConsolePage(request.run_id, lines, page.total, page.next_cursor)


CALLS = (
    Call(
        "POST", RUN + "/console", log_console, scope=Scope.RUN, errors=(409,),
        body=as_json(wire.ConsoleLines), answer=as_json(wire.ConsoleReply),
    ),
    Call(
        "GET", RUN + "/console", get_console, scope=Scope.RUN, query=ConsoleQuery,
        answer=as_json(wire.ConsolePage),
    ),
)  # fmt: skip
