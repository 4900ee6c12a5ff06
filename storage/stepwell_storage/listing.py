"""Searching experiments, models and the registry: small tables, by the filter language of runs.

A row stands in a statement as ``x``; its tags, parameters and metrics are asked for one by one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stepwell_storage import cursors, ordering
from stepwell_storage.conditions import TRUE, of_operand
from stepwell_storage.database import Bind, Reader
from stepwell_storage.errors import BadCursor, Invalid
from stepwell_storage.fields import Attribute, Operand, Sql
from stepwell_storage.filters import (
    And,
    Comparison,
    Expression,
    Field,
    Group,
    In,
    IsNull,
    Not,
    Predicate,
    parse,
    parse_order,
)
from stepwell_storage.ordering import Column
from stepwell_storage.records import ListOrder, ListQuery
from stepwell_storage.tokens import invalid


@dataclass(frozen=True, slots=True)
class Table:
    """``children`` leads from an entity to the table of its rows and the column that names ``x``.

    ``tie`` makes an order total; ``default`` is the order where none is asked for.
    """

    kind: str
    name: str
    number: str
    active: str
    attributes: Mapping[str, Attribute]
    children: Mapping[str, tuple[str, str]]
    tie: Column
    default: tuple[ListOrder, ...]


EXPERIMENTS: Final = Table(
    kind="experiments",
    name="experiment",
    number="x.number",
    active="x.lifecycle = 'active'",
    attributes={
        "name": Attribute("x.name", "text"),
        "experiment_id": Attribute("cast(x.number as text)", "text"),
        "creation_time": Attribute("x.created_at", "integer"),
        "last_update_time": Attribute("x.updated_at", "integer"),
    },
    children={"tags": ("experiment_tag", "experiment")},
    tie=Column("tie", Sql("x.number"), int, descending=True),
    default=(ListOrder("creation_time", descending=True), ListOrder("number")),
)
_CREATED: Final = Attribute("x.created_at", "integer")
_UPDATED: Final = Attribute("x.updated_at", "integer")
MODELS: Final = Table(
    kind="models",
    name="model",
    number="x.id",
    active="x.deleted_at is null",
    attributes={
        "name": Attribute("x.name", "text"),
        "model_id": Attribute("x.model_id", "text"),
        "model_type": Attribute("x.model_type", "text", nullable=True),
        "status": Attribute("x.status", "text"),
        "source_run_id": Attribute("x.source_run_id", "text", nullable=True),
        "creation_timestamp": _CREATED,
        "creation_time": _CREATED,
        "last_updated_timestamp": _UPDATED,
        "last_updated_time": _UPDATED,
    },
    children={
        "tags": ("model_tag", "model"),
        "params": ("model_param", "model"),
        "metrics": ("model_metric", "model"),
    },
    tie=Column("tie", Sql("x.model_id"), str),
    default=(ListOrder("creation_timestamp", descending=True),),
)

REGISTERED_MODELS: Final = Table(
    kind="registered-models",
    name="registered_model",
    number="x.id",
    active="true",
    attributes={
        "name": Attribute("x.name", "text"),
        "creation_timestamp": _CREATED,
        "last_updated_timestamp": _UPDATED,
    },
    children={"tags": ("registered_model_tag", "registered_model")},
    tie=Column("tie", Sql("x.name"), str),
    default=(ListOrder("name"),),
)
MODEL_VERSIONS: Final = Table(
    kind="model-versions",
    name="model_version",
    number="x.id",
    active="true",
    attributes={
        "name": Attribute(
            "(select m.name from registered_model m where m.id = x.registered_model)", "text"
        ),
        "version_number": Attribute("x.version", "integer"),
        "run_id": Attribute("x.run_id", "text", nullable=True),
        "source_path": Attribute("x.source", "text"),
        "creation_timestamp": _CREATED,
        "last_updated_timestamp": _UPDATED,
    },
    children={"tags": ("model_version_tag", "model_version")},
    tie=Column("tie", Sql("x.id"), int, descending=True),
    default=(
        ListOrder("last_updated_timestamp", descending=True),
        ListOrder("name"),
        ListOrder("version_number", descending=True),
    ),
)


async def find(reader: Reader, table: Table, query: ListQuery) -> tuple[list[int], str | None]:
    """The numbers of the rows found, and the cursor of the next page.

    Raises Invalid (``filter``, ``order_by``) and BadCursor.
    """
    if query.experiments == ():
        return [], None
    columns = _columns(table, query.order_by or table.default)
    fingerprint = _fingerprint(query)
    after = TRUE
    if query.cursor is not None:
        seal, *place = cursors.decode(table.kind + "-found", query.cursor) or (b"",)
        if seal != fingerprint:
            raise BadCursor("the page token was made by a search with another filter or order")
        after = ordering.after(columns, place)
    found = _found(table, query, columns)
    names = ", ".join(column.name for column in columns)
    text = (
        f"select id, {names} from ({found.text}) hit where {after.text} "  # noqa: S608  # our own words, values bound
        f"order by {ordering.order_clause(columns)} limit ?"
    )
    rows = await reader.fetch(text, (*found.binds, *after.binds, query.limit + 1))
    cursor = None
    if len(rows) > query.limit:
        cursor = cursors.encode(table.kind + "-found", fingerprint, *rows[query.limit - 1][1:])
    return [row[0] for row in rows[: query.limit]], cursor


def _fingerprint(query: ListQuery) -> bytes:
    question: list[Any] = [query.filter, query.lifecycle, query.experiments, query.datasets]
    question += [(o.text, o.descending, o.dataset_name, o.dataset_digest) for o in query.order_by]
    return hashlib.blake2b(msgspec.msgpack.encode(question), digest_size=6).digest()


def _found(table: Table, query: ListQuery, columns: Sequence[Column]) -> Sql:
    conditions = [_lifecycle(table, query.lifecycle)]
    if query.experiments is not None:
        marks = ",".join("?" * len(query.experiments))
        conditions.append(Sql(f"x.experiment in ({marks})", query.experiments))
    if query.datasets:
        conditions.append(_any_dataset(query.datasets))
    conditions += [_condition(table, one) for one in _parts(parse(query.filter))]
    selected = [Sql(f"{c.sql.text} as {c.name}", c.sql.binds) for c in columns]
    text = (
        f"select {table.number} as id, {', '.join(part.text for part in selected)} "  # noqa: S608  # as above
        f"from {table.name} x where {' and '.join(part.text for part in conditions)}"
    )
    return Sql(text, tuple(bind for part in (*selected, *conditions) for bind in part.binds))


def _lifecycle(table: Table, lifecycle: str) -> Sql:
    if lifecycle == "all":
        return TRUE
    return Sql(table.active if lifecycle == "active" else f"not ({table.active})")


def _any_dataset(datasets: Sequence[tuple[str, str | None]]) -> Sql:
    parts, binds = [], []
    for name, digest in datasets:
        parts.append("(m.dataset_name = ?" + (" and m.dataset_digest = ?)" if digest else ")"))
        binds += [name, digest] if digest else [name]
    text = (
        "exists (select 1 from model_metric m where m.model = x.id and "  # noqa: S608  # as above
        f"({' or '.join(parts)}))"
    )
    return Sql(text, tuple(binds))


def _parts(expression: Expression | None) -> list[Predicate | Not]:
    """The predicates of a conjunction.  Raises Invalid for any other filter."""
    match expression:
        case None:
            return []
        case Group(inner=inner):
            return _parts(inner)
        case And(parts=parts):
            return [one for part in parts for one in _parts(part)]
        case Comparison() | In() | IsNull() | Not():
            return [expression]
    raise Invalid("filter", "only AND may connect the conditions of this search")


def _condition(table: Table, predicate: Predicate | Not) -> Sql:
    if isinstance(predicate, Not):
        inner = [_condition(table, one) for one in _parts(predicate.inner)]
        text = " and ".join(one.text for one in inner)
        return Sql(f"not coalesce({text}, false)", tuple(b for one in inner for b in one.binds))
    found = predicate.field
    if found.entity == "attributes":
        return of_operand(_attribute(table, found, "filter"), predicate)
    if found.entity not in table.children:
        raise invalid("filter", found.position, f"{found.entity} cannot be asked for here")
    child, column = table.children[found.entity]
    rows = f"select 1 from {child} c where c.{column} = {table.number} and c.name = ?"  # noqa: S608  # as above
    if isinstance(predicate, IsNull):
        return Sql(f"{'' if predicate.negated else 'not '}exists ({rows})", (found.key,))
    condition = of_operand(_child(found), predicate)
    return Sql(f"exists ({rows} and {condition.text})", (found.key, *condition.binds))


def _child(found: Field) -> Operand:
    if found.entity == "metrics":
        return Operand("a metric", None, "c.value", "double")
    return Operand("a text", "c.value", None, "text")


def _attribute(table: Table, found: Field, path: str) -> Operand:
    known = table.attributes.get(found.key)
    if known is None:
        names = ", ".join(table.attributes)
        message = f"unknown attribute {found.key[:40]}: the attributes are {names}"
        raise invalid(path, found.position, message)
    is_text = known.meaning == "text"
    text, number = (known.sql, None) if is_text else (None, known.sql)
    return Operand(found.key, text, number, known.meaning, known.nullable)


def _columns(table: Table, order_by: Sequence[ListOrder]) -> list[Column]:
    """Raises Invalid."""
    columns: list[Column] = []
    seen = set()
    for item in order_by:
        if item.text == "number":  # of our own default only
            columns.append(Column("number", Sql("x.number"), int))
            continue
        found = parse_order(item.text).field
        if (found.entity, found.key) in seen:
            raise Invalid("order_by", f"ordered by {item.text[:60]} twice")
        seen.add((found.entity, found.key))
        if found.entity == "attributes":
            of = _attribute(table, found, "order_by")
            columns += ordering.of_item(of, len(columns), descending=item.descending)
        elif found.entity == "metrics" and "metrics" in table.children:
            columns += _metric(found, item, len(columns))
        else:
            raise Invalid("order_by", f"there is no order by {item.text[:60]}")
    return [*columns, table.tie]


def _metric(found: Field, item: ListOrder, first: int) -> list[Column]:
    """By the latest value of a metric, or the latest on one dataset."""
    wanted = "m.model = x.id and m.name = ?"
    binds: list[Bind] = [found.key]
    for column, value in (
        ("dataset_name", item.dataset_name), ("dataset_digest", item.dataset_digest)
    ):  # fmt: skip
        if value is not None:
            wanted += f" and m.{column} = ?"
            binds.append(value)
    latest = (
        f"(select m.value from model_metric m where {wanted} "  # noqa: S608  # as above
        "order by m.timestamp desc, m.step desc limit 1)"
    )
    present = Sql(f"case when {latest} is null then 1 else 0 end", tuple(binds))
    shown = Sql(f"coalesce({latest}, 0)", tuple(binds))
    return [
        Column(f"k{first}", present, int),
        Column(f"k{first + 1}", shown, int, item.descending),
    ]
