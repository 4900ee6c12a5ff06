"""The order of found runs: order items -> SQL columns, and the place of a row in that order.

Runs that have the value come first, then those whose value is NaN, then those that have none, in
both directions.  Numbers of a parameter come before its texts.  Text is ordered by its first
``TEXT_CHARS`` characters, so that a cursor, which carries the values of its row, stays short.  The
last column is always the run id, so the order is total.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from stepwell_storage import ranges
from stepwell_storage.database import Bind
from stepwell_storage.errors import BadCursor, Invalid
from stepwell_storage.fields import Operand, Source, Sources, Sql, attribute, operand
from stepwell_storage.filters import parse_order

TEXT_CHARS: Final = 250


Type = type[int] | type[str]


_Part = tuple[Sql, Type, bool]
"""A column's SQL and type, and whether it only says how present the value is."""


class Column(NamedTuple):
    """One column of the order, never null.  ``name`` is what the statement calls it; ``of`` is the
    row that it is a number of, where runs that have this row come before those that do not."""

    name: str
    sql: Sql
    type: Type
    descending: bool = False
    of: Source | None = None


RUN_ID: Final = Column("run_id", Sql("r.run_id"), str)
NEWEST_FIRST: Final = Column("k0", Sql("r.start_time"), int, descending=True)


def columns(
    order_by: Sequence[str], sources: Sources, *, params_as_text: bool = False
) -> list[Column]:
    """The columns of an order, by default the newest first.  Raises Invalid."""
    if not order_by:
        return [NEWEST_FIRST, RUN_ID]
    found: list[Column] = []
    seen = set()
    for text in order_by:
        item = parse_order(text)
        of = operand(item.field, sources, "order_by")
        if item.field.entity == "datasets":
            raise Invalid("order_by", "a run has many datasets: they give no order")
        if item.field.entity == "params" and params_as_text:
            of = of._replace(number=None)
        place = (item.field.entity, item.field.key, item.field.aggregate or "last")
        if item.field.entity == "attributes":
            place = ("attributes", attribute(item.field, "order_by").sql, "last")
        if place in seen:
            raise Invalid("order_by", f"ordered by {text.strip()[:60]} twice")
        seen.add(place)
        found += of_item(of, len(found), descending=item.descending)
    return [*found, RUN_ID]


def is_newest_first(found: Sequence[Column]) -> bool:
    return found[0].sql == NEWEST_FIRST.sql and found[0].descending


def needs_experiment(found: Sequence[Column]) -> bool:
    """Whether the statement must join the run's experiment as ``e``."""
    return any(re.search(r"\be\.", column.sql.text) for column in found)


def of_item(of: Operand, first: int, *, descending: bool) -> list[Column]:
    """One to three columns: how present the value is, where it needs saying, then the value."""
    is_metric = of.meaning == "double" and of.text is None
    parts = [_metric(of, descending)] if is_metric else _parts(of)
    return [
        Column(
            f"k{first + number}",
            sql,
            kind,
            descending and not is_rank,
            of.source if is_metric else None,
        )
        for number, (sql, kind, is_rank) in enumerate(parts)
    ]


def _metric(of: Operand, descending: bool) -> _Part:
    """A single column, since this is the order most asked for: null and NaN become integers that
    no other double has, at the end that comes last."""
    if not descending:  # NaN is the greatest already
        return Sql(f"coalesce({of.number}, ?)", (ranges.INT64_MAX,)), int, False
    text = f"case when {of.number} is null then ? when {of.number} = ? then ? else {of.number} end"
    return Sql(text, (ranges.INT64_MIN, ranges.NAN, ranges.INT64_MIN + 1)), int, False


def _parts(of: Operand) -> list[_Part]:
    value = of.text or of.number or ""
    if not of.nullable:
        return [(Sql(value.removeprefix("+")), str if of.text else int, False)]
    if of.text and of.number:
        how = f"case when {of.number} is not null then 0 when {of.text} is null then 2 else 1 end"
        text = f"case when {of.number} is null then {_start(of.text)} else '' end"
        number = f"coalesce({of.number}, 0)"
        return [(Sql(how), int, True), (Sql(number), int, False), (Sql(text), str, False)]
    rank = Sql(f"case when {value} is null then 1 else 0 end")
    if of.text:
        return [(rank, int, True), (Sql(_start(value)), str, False)]
    return [(rank, int, True), (Sql(f"coalesce({value}, 0)"), int, False)]


def _start(text: str) -> str:
    return f"coalesce(substr({text}, 1, {TEXT_CHARS}), '')"


def order_clause(found: Sequence[Column]) -> str:
    return ", ".join(f"{c.name} desc" if c.descending else c.name for c in found)


def after(found: Sequence[Column], values: Sequence[Bind]) -> Sql:
    """That a row comes after the one with these values.  Raises BadCursor where they do not fit."""
    if [type(value) for value in values] != [column.type for column in found]:
        raise BadCursor
    condition = Sql("false")
    for column, value in zip(reversed(found), reversed(values), strict=True):
        sign = "<" if column.descending else ">"
        text = f"({column.name} {sign} ? or ({column.name} = ? and {condition.text}))"
        condition = Sql(text, (value, value, *condition.binds))
    # Says nothing new, but is a range that an index on the first column can begin at.
    first, value = found[0], values[0]
    sign = "<=" if first.descending else ">="
    return Sql(f"{first.name} {sign} ? and {condition.text}", (value, *condition.binds))
