"""Finding runs: a query -> one page of runs, and one run by its id."""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from stepwell_storage import completion, cursors, hydration
from stepwell_storage.database import Bind, Reader, in_list
from stepwell_storage.errors import BadCursor, Invalid, NotFound
from stepwell_storage.filters import Expression, Field, parse, parse_order, predicates
from stepwell_storage.names import pages
from stepwell_storage.plan import Page, Plan
from stepwell_storage.records import Run, RunPage, RunQuery
from stepwell_storage.statements import sql

_EXPERIMENTS: Final = "select number from experiment where experiment_id in (?*)"
MAX_KEYS: Final = 100
"""Metric keys, and parameter keys, of each run of a list that names no keys."""


async def find(reader: Reader, query: RunQuery) -> RunPage:
    """A page of runs.  Raises Invalid (``filter``, ``order_by``, ...) and BadCursor."""
    page = await matching(reader, query, query.limit + 1)
    rows = page.rows[: query.limit]
    next_cursor = None
    if rows and len(page.rows) > query.limit:
        next_cursor = cursors.encode("runs", _fingerprint(query), *rows[-1][1:])
    numbers = [row[0] for row in rows]
    if query.complete:
        runs = await completion.runs(reader, numbers)
    else:
        runs = await hydration.runs(reader, numbers, query.keys, MAX_KEYS)
    return RunPage(runs, next_cursor, page.total)


async def matching(reader: Reader, query: RunQuery, limit: int) -> Page:
    """The numbers of up to ``limit`` runs, in the query's order.  Raises what ``find`` does."""
    _check(query)
    expression = parse(query.filter)
    names = await _names(reader, query, expression)
    plan = Plan(query, expression, names, await _experiments(reader, query))
    return await plan.page(reader, _place(query), limit)


async def one(reader: Reader, run_id: str, *, max_keys: int, complete: bool = False) -> Run:
    """One run with its tags and up to so many parameters and metrics, or complete.  NotFound."""
    rows = await reader.fetch(sql.run_number, (run_id,))
    if not rows:
        raise NotFound(f"there is no run {run_id}")
    if complete:
        return (await completion.runs(reader, [rows[0][0]]))[0]
    return (await hydration.runs(reader, [rows[0][0]], None, max_keys))[0]


def _check(query: RunQuery) -> None:
    if query.lifecycle not in ("active", "deleted", "all"):
        raise Invalid("lifecycle", "lifecycle is active, deleted or all")
    for path, number in (("limit", query.limit), ("offset", query.offset)):
        if not 0 <= number < 2**62:
            raise Invalid(path, f"{path} is out of range")


def _fingerprint(query: RunQuery) -> bytes:
    """What a cursor's page was a page of."""
    question = (
        query.filter, query.order_by, query.experiment_ids, query.statuses, query.lifecycle,
        query.experiment_numbers, query.params_as_text,
    )  # fmt: skip
    return hashlib.blake2b(msgspec.msgpack.encode(question), digest_size=6).digest()


def _place(query: RunQuery) -> tuple[Bind, ...] | None:
    """The columns of the row that the page comes after.  Raises BadCursor."""
    if query.cursor is None:
        return None
    fingerprint, *values = cursors.decode("runs", query.cursor) or (b"",)
    if fingerprint != _fingerprint(query):
        raise BadCursor("the cursor was made by a search with another filter or order")
    return tuple(values)


async def _experiments(reader: Reader, query: RunQuery) -> list[int] | None:
    """The numbers of the experiments asked for, those that exist; None where all are."""
    if query.experiment_numbers is not None:
        return list(query.experiment_numbers)
    if not query.experiment_ids:
        return None
    found = []
    for some in pages(query.experiment_ids):
        found += await reader.fetch(in_list(_EXPERIMENTS, len(some)), some)
    return [row[0] for row in found]


async def _names(
    reader: Reader, query: RunQuery, expression: Expression | None
) -> Mapping[str, int]:
    """The numbers of the keys that the query mentions, as far as there are such keys."""
    fields: list[Field] = [parse_order(text).field for text in query.order_by]
    if expression is not None:
        fields += [predicate.field for predicate in predicates(expression)]
    keys = {found.key for found in fields if found.entity != "attributes"}
    names: dict[str, int] = {}
    for some in pages(sorted(keys)):
        names.update(await reader.fetch(in_list(sql.names_by_text, len(some)), some))
    return names
