"""Records of a spool -> requests of the API, merged and, when refused, split.  Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from stepwell.ids import hash_of_run_id, parse_run_id
from stepwell.records import (
    CELL,
    AnyRecord,
    Console,
    Create,
    End,
    File,
    FileLink,
    Head,
    Params,
    Points,
    Resume,
    Tags,
)
from stepwell.transport import Request
from stepwell.wire import (
    COLUMNS,
    COLUMNS_FORMAT,
    JSON,
    TENANT_HEADER,
    ColumnarBatch,
    ColumnarSeries,
    ConsoleEntry,
    ConsoleLine,
    ConsoleLines,
    CreateRun,
)

BASE: Final = "/api/v1/experiments"
MAX_LINES: Final = 5_000

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


class Series(Struct):
    """Points of many keys: the columns of one request."""

    series: list[ColumnarSeries]


class Texts(Struct):
    """Parameters and tags, each as (is a tag, key, value)."""

    items: list[tuple[bool, str, str]]


class Lines(Struct):
    """Some of the console."""

    lines: list[ConsoleLine]


class Heartbeat(Struct):
    """An empty batch."""


Part = Create | Resume | Series | Texts | Lines | File | FileLink | End | Heartbeat


def plan(records: Sequence[AnyRecord]) -> list[Part]:
    """The requests for some records, in an order that the server can take them in."""
    parts: list[Part] = [r for r in records if isinstance(r, Create | Resume)]
    parts += _texts(records)
    points = [r for r in records if isinstance(r, Points)]
    if points:
        parts.append(Series(columns(points)))
    lines = [ConsoleLine(*line) for r in records if isinstance(r, Console) for line in r.lines]
    parts += [Lines(lines[at : at + MAX_LINES]) for at in range(0, len(lines), MAX_LINES)]
    parts += [r for r in records if isinstance(r, File | FileLink)]
    parts += [r for r in records if isinstance(r, End)]
    return parts


def columns(points: Sequence[Points]) -> list[ColumnarSeries]:
    """Rows -> one series a key.  All bytes; no value is looked at."""
    shapes: dict[tuple[str, ...], list[bytes]] = {}
    for record in points:
        shapes.setdefault(record.keys, []).append(record.rows)
    found: dict[str, list[tuple[bytes, bytes, bytes]]] = {}
    for keys, blocks in shapes.items():
        cells = memoryview(b"".join(blocks)).cast("q")
        width = len(keys) + 2
        steps, timestamps = cells[0::width].tobytes(), cells[1::width].tobytes()
        for place, key in enumerate(keys, 2):
            found.setdefault(key, []).append((steps, timestamps, cells[place::width].tobytes()))
    return [
        ColumnarSeries(key, *(b"".join(column) for column in zip(*pieces, strict=True)))
        for key, pieces in found.items()
    ]


def _texts(records: Sequence[AnyRecord]) -> list[Texts]:
    """The last value of each tag; a parameter's second value stands alone, to be refused alone."""
    params: list[dict[str, str]] = [{}]
    tags: dict[str, str] = {}
    for record in records:
        if isinstance(record, Tags):
            tags |= record.values
        elif isinstance(record, Params):
            for key, value in record.values.items():
                if params[0].setdefault(key, value) != value:
                    params.append({key: value})
    items = [(False, key, value) for key, value in params[0].items()]
    items += [(True, key, value) for key, value in tags.items()]
    again = [Texts([(False, key, value)]) for more in params[1:] for key, value in more.items()]
    return ([Texts(items)] if items else []) + again


def pieces(part: Part, most_bytes: int) -> list[Part]:
    """A part in requests of that many bytes, about; lines stay together, since of those only the
    first request is asked after when it is repeated.
    """
    if isinstance(part, Series):
        size = sum(len(series.key) + 3 * len(series.steps) for series in part.series)
    elif isinstance(part, Texts):
        size = sum(len(key) + len(value) for _, key, value in part.items)
    else:
        return [part]
    halves = split(part) if size > most_bytes else []
    return [piece for half in halves for piece in pieces(half, most_bytes)] or [part]


def split(part: Part) -> list[Part]:
    """Two halves of a refused request; empty where it is one item, which is then the offender."""
    if isinstance(part, Texts) and len(part.items) > 1:
        half = len(part.items) // 2
        return [Texts(part.items[:half]), Texts(part.items[half:])]
    if isinstance(part, Lines) and len(part.lines) > 1:
        half = len(part.lines) // 2
        return [Lines(part.lines[:half]), Lines(part.lines[half:])]
    if isinstance(part, Series):
        return list(_halves(part.series))
    if isinstance(part, Create):
        return _bare(part)
    return []


def _halves(series: list[ColumnarSeries]) -> list[Series]:
    if len(series) > 1:
        half = len(series) // 2
        return [Series(series[:half]), Series(series[half:])]
    only = series[0]
    half = len(only.steps) // CELL // 2 * CELL
    if not half:
        return []
    columns = (only.steps, only.timestamps, only.values)
    return [
        Series([ColumnarSeries(only.key, *(column[:half] for column in columns))]),
        Series([ColumnarSeries(only.key, *(column[half:] for column in columns))]),
    ]


def _bare(part: Create) -> list[Part]:
    """A run without what may be at fault in its creation: better nameless than not there."""
    full = part.body
    bare = CreateRun(
        experiment_id=full.experiment_id,
        experiment_name=full.experiment_name,
        run_id=full.run_id,
        start_time=full.start_time,
    )
    return [] if full == bare else [Create(bare)]


def request(part: Part, head: Head) -> Request:
    """The HTTP request of a part.  A FileLink's body is opened by whoever sends it."""
    run = f"{BASE}/runs/{head.run_id}"
    headers = tenant_headers(head.run_id, head.tenant)
    if isinstance(part, Create):
        headers = {TENANT_HEADER: head.tenant, "Content-Type": JSON}
        return Request("POST", f"{BASE}/runs", _json.encode(part.body), headers)
    if isinstance(part, Resume):
        body = _json.encode({"status": "running"})
        return Request("PATCH", run, body, headers | {"Content-Type": JSON})
    if isinstance(part, Lines):
        body = _json.encode(ConsoleLines(part.lines))
        return Request("POST", f"{run}/console", body, headers | {"Content-Type": JSON})
    if isinstance(part, End):
        path = f"{run}/end?status={part.status}&end_time={part.end_time}"
        return Request("POST", path, b"", headers)
    if isinstance(part, File | FileLink):
        body = part.data if isinstance(part, File) else b""
        return Request("PUT", f"{run}/artifacts/{quote(part.path, safe='/')}", body, headers)
    body = _msgpack.encode(_batch(part, head.rank))
    return Request("POST", f"{run}/log-batch", body, headers | {"Content-Type": COLUMNS})


def last_lines(part: Lines, head: Head) -> Request:
    """The end of the console, far enough back to show whether a lost answer was a yes."""
    query = f"tail={min(2 * MAX_LINES, 2 * len(part.lines) + 100)}&limit={2 * MAX_LINES}"
    path = f"{BASE}/runs/{head.run_id}/console?{query}"
    return Request("GET", path, None, tenant_headers(head.run_id, head.tenant))


def without(part: Lines, there: Sequence[ConsoleEntry]) -> Lines:
    """What is missing of some lines: a console's lines have no identity, but they have an order."""
    known = [(line.stream, line.timestamp, line.text) for line in there]
    wanted = [(line.stream, line.timestamp, line.text) for line in part.lines]
    found = 0
    for at, line in enumerate(known):
        if line == wanted[0]:
            pairs = zip(known[at:], wanted, strict=False)
            found = max(found, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return Lines(part.lines[found:])


def _batch(part: Series | Texts | Heartbeat, rank: int | None) -> ColumnarBatch:
    batch = ColumnarBatch(COLUMNS_FORMAT, rank=rank)
    if isinstance(part, Series):
        batch.series = part.series
    elif isinstance(part, Texts):
        batch.params = {key: value for is_tag, key, value in part.items if not is_tag}
        batch.tags = {key: value for is_tag, key, value in part.items if is_tag}
    return batch


def tenant_headers(run_id: str, tenant: str) -> dict[str, str]:
    """The tenant, where the run id does not name it."""
    plain = parse_run_id(run_id)
    if plain is not None and hash_of_run_id(plain) is not None:
        return {}
    return {TENANT_HEADER: tenant}
