"""The statement of a search: conditions and an order -> the page's rows.

It joins to each run the rows of the keys that the filter and the order mention, in an order of our
choosing (``cross join`` keeps SQLite to it; PostgreSQL chooses for itself).  It begins in one of
three ways:

- *With a driver*: one condition that few runs fulfil, and that an index answers.  Its rows come
  first, and everything else is looked up for them.  Which condition, if any, is decided by counting
  what each one finds, up to a bound.
- *With the newest runs*, where the newest come first in the order: enough of them for a page if
  one in ``_WINDOW`` is found.
- *By number*: every run in the order of its number.  The rows of one key lie in the same order, so
  each look-up finds its row beside the one before it.  Where the keys' rows decide alone, the rows
  of one of them are walked, and runs are looked up last: what a row of ``run`` says is of interest
  for few.

Where the total is asked for too, the found runs are gathered, counted and sorted in one statement.
But where many are found and a metric gives the order, the first ones of a sample say what the page
cannot lie beyond, so that most are only counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from stepwell_storage import ordering
from stepwell_storage.conditions import FALSE, TRUE, Compiler
from stepwell_storage.database import Bind, Reader
from stepwell_storage.fields import Source, Sources, Sql, indexed
from stepwell_storage.filters import Expression
from stepwell_storage.places import places_of
from stepwell_storage.ranges import INT64_MAX
from stepwell_storage.records import RunQuery

_SELECTIVE: Final = "(select coalesce(max(id), 0) / 10 from run)"
"""A driver finds fewer runs than this."""

_WINDOW: Final = 20
_MAX_WINDOW_RUNS: Final = 20_000
_NEWEST: Final = """r.start_time >= (select w.start_time from run w where w.start_time <= ?
order by w.start_time desc limit 1 offset ?)"""

_SAMPLE: Final = 80
_MIN_SAMPLE: Final = 4_000
_MAX_SAMPLE: Final = 20_000
_SAMPLED: Final = """(select x.id from {table} x where x.id between ? and ?
order by x.id limit 1 offset ?)"""
"""A sample has so many rows for each that is asked for, and is worth it for ten times as many."""

_GONE: Final = {
    "active": "select x.id as id from run x where x.deleted_at is not null union all "
    "select x.run from purged x where x.run is not null",
    "all": "select x.run as id from purged x where x.run is not null",
}
"""The runs that are not found though rows of theirs are there."""

Driver = Source | Sql | None
"""The rows of a key; a condition on ``run`` that has an index; or None: the runs by number."""

Lead = tuple[Source, list[Sql]]
"""The rows of a key that a statement begins with, and which of them."""


class Page(NamedTuple):
    """``rows``: the number of the run, then the columns of the order."""

    rows: list[tuple[Any, ...]]
    total: int | None


class Plan:
    """One search.  ``names`` are the numbers of the keys that exist, ``experiments`` those of the
    experiments asked for.  Raises Invalid where filter or order make no sense."""

    def __init__(
        self,
        query: RunQuery,
        expression: Expression | None,
        names: Mapping[str, int],
        experiments: Sequence[int] | None,
    ) -> None:
        self._query = query
        self._is_filtered = expression is not None
        sources = Sources(names)
        compiler = Compiler(sources)
        if expression is not None:
            compiler.require(expression)
        self._columns = ordering.columns(
            query.order_by, sources, params_as_text=query.params_as_text
        )
        self._sources = list(sources)
        self._conditions = _of_run(query) + compiler.conditions
        self._run_conditions = compiler.run_conditions
        if experiments is not None:
            self._run_conditions.append(_one_of("+r.experiment", experiments))
        is_bare = not (query.statuses or compiler.conditions or self._run_conditions)
        self._rows_decide = is_bare and self._is_filtered and query.lifecycle in _GONE

    async def page(self, reader: Reader, place: Sequence[Bind] | None, limit: int) -> Page:
        """Up to ``limit`` rows, after ``place``.  Raises BadCursor where it fits no such order."""
        after = ordering.after(self._columns, place) if place is not None else TRUE
        wants_total = self._query.total
        if self._finds_nothing():
            return Page([], 0 if wants_total else None)
        order = ordering.order_clause(self._columns)
        rest = _sql(
            "", [], [after], f"order by {order} limit ? offset ?", limit, self._query.offset
        )
        driver, others = await self._driver(reader)
        window = self._window(driver, place, limit)
        if window is not None:
            rows = await self._rows(reader, self._found(window, others), rest)
            if len(rows) == limit:
                return Page(rows, await self._count(reader, driver, others))
        if driver is None:
            bounded = await self._bounded(reader, others, after, limit)
            if bounded is not None:
                rows = await self._rows(reader, bounded, rest)
                return Page(rows, await self._count(reader, driver, others))
        found = self._found(driver, others)
        if wants_total and self._is_filtered:
            return await self._gather(reader, found, rest)
        rows = await self._rows(reader, found, rest)
        return Page(rows, await self._count(reader, driver, others))

    def _finds_nothing(self) -> bool:
        conditions = [*self._conditions, *self._run_conditions]
        return FALSE in conditions or any(FALSE in source.where for source in self._sources)

    async def _rows(self, reader: Reader, found: Sql, rest: Sql) -> list[tuple[Any, ...]]:
        names = ", ".join(column.name for column in self._columns)
        text = f"select id, {names} from ({found.text}) hit {rest.text}"  # noqa: S608  # our own words, values bound
        return await reader.fetch(text, found.binds + rest.binds)

    async def _gather(self, reader: Reader, found: Sql, rest: Sql) -> Page:
        names = ", ".join(column.name for column in self._columns)
        text = (
            f"with hit as materialized ({found.text}) "  # noqa: S608  # as above
            f"select (select count(*) from hit), id, {names} from hit {rest.text}"
        )
        rows = await reader.fetch(text, found.binds + rest.binds)
        if rows:
            return Page([row[1:] for row in rows], rows[0][0])
        return Page([], (await _fetch_number(reader, _number_of(found))) or 0)

    async def _count(self, reader: Reader, driver: Driver, others: Sequence[Source]) -> int | None:
        """Of all runs found; None where nobody asks."""
        if not self._query.total:
            return None
        if not self._is_filtered:  # then what the order joins is of no matter
            conditions = [*self._conditions, *map(indexed, self._run_conditions)]
            found = _sql("select r.id from run r", [], conditions)
        elif self._rows_decide:
            return await _fetch_number(reader, self._number_by_rows(driver, others))
        else:
            found = self._found(driver, others)
        return await _fetch_number(reader, _number_of(found))

    # --- where to begin --------------------------------------------------------------------------

    async def _driver(self, reader: Reader) -> tuple[Driver, list[Source]]:
        """Where to begin, and the other rows that a run must have, the rarest first."""
        required = [source for source in self._sources if source.required]
        candidates: list[tuple[Source | Sql, Sql]] = [(s, _rows_of(s)) for s in required]
        for condition in map(indexed, self._run_conditions):
            candidates.append((condition, _sql("select 1 from run r", [], [condition])))
        if not candidates or not self._sources:
            return None, required
        counts = [
            f"(select count(*) from ({rows.text} limit {_SELECTIVE}) c{number})"  # noqa: S608  # as above
            for number, (_, rows) in enumerate(candidates)
        ]
        binds = [bind for _, rows in candidates for bind in rows.binds]
        bound, *found = (
            await reader.fetch(f"select {_SELECTIVE}, {', '.join(counts)}", binds)  # as above
        )[0]
        rarest = sorted(range(len(found)), key=lambda number: found[number])
        driver = candidates[rarest[0]][0] if found[rarest[0]] < bound else None
        in_order = [candidates[number][0] for number in rarest]
        return driver, [s for s in in_order if isinstance(s, Source) and s is not driver]

    def _window(self, driver: Driver, place: Sequence[Bind] | None, limit: int) -> Sql | None:
        """The newest runs, or those after ``place``, where trying them first is worth it."""
        runs = _WINDOW * (limit + self._query.offset)
        is_apt = ordering.is_newest_first(self._columns) and driver is None
        if not is_apt or not self._sources or runs > _MAX_WINDOW_RUNS:
            return None
        return Sql(_NEWEST, (place[0] if place else INT64_MAX, runs))

    async def _bounded(
        self, reader: Reader, others: Sequence[Source], after: Sql, limit: int
    ) -> Sql | None:
        """The found runs without most that stand behind the page, which begins after ``after``.

        Whatever is asked for of a sample stands in front of what was last there, so the page does.
        """
        first = self._columns[0]
        last = limit + self._query.offset
        size = max(_MIN_SAMPLE, _SAMPLE * last)
        if first.of is None or size > _MAX_SAMPLE:
            return None
        if (await _fetch_number(reader, Sql(f"select {_SELECTIVE}")) or 0) < size:
            return None
        begin, end = places_of(first.of.key)
        sample_end = _SAMPLED.format(table=first.of.table)
        sample = Sql(
            f"{first.of.alias}.id between ? and coalesce({sample_end}, ?)",
            (begin, begin, end, size, end),
        )
        found = self._found(None, others, (first.of, [sample]))
        order = ordering.order_clause([first])
        rest = _sql("", [], [after], f"order by {order} limit 1 offset ?", last - 1)
        text = f"select {first.name} from ({found.text}) hit {rest.text}"  # noqa: S608  # as above
        bound = await _fetch_number(reader, Sql(text, found.binds + rest.binds))
        if bound is None:
            return None
        sign = ">=" if first.descending else "<="
        nearer = Sql(f"{first.sql.text} {sign} ?", (*first.sql.binds, bound))
        return self._found(None, others, (first.of, [first.of.by_run(), nearer]))

    # --- the found runs --------------------------------------------------------------------------

    def _found(
        self,
        driver: Driver,
        others: Sequence[Source],
        lead: Lead | None = None,
    ) -> Sql:
        """Every run found: its number and the columns of the order.

        ``lead`` are the rows that come first where there is no driver.
        """
        joins, conditions = self._joins(driver, others, lead or self._lead(driver, others))
        conditions += self._conditions
        for condition in self._run_conditions:
            if not self._sources:  # a statement on runs alone is SQLite's to plan
                condition = indexed(condition)
            if indexed(condition) != driver:
                conditions.append(condition)
        columns = [Sql(f"{c.sql.text} as {c.name}", c.sql.binds) for c in self._columns]
        selected = ", ".join(["r.id as id", *[column.text for column in columns]])
        binds = tuple(bind for column in columns for bind in column.binds)
        found = _sql(f"select {selected}", joins, conditions)
        return Sql(found.text, binds + found.binds)

    def _number_by_rows(self, driver: Driver, others: Sequence[Source]) -> Sql:
        """How many runs are found where the rows of the keys decide: those that have the rows,
        without those of them that are gone, which are few."""
        lead = self._lead(driver, others)
        assert lead is not None
        all_of_them = _number_of(_sql("select 1", *_beginning(lead, others)))
        joins, where = _beginning((lead[0], [lead[0].at_run()]), others)
        gone = f"select 1 from ({_GONE[self._query.lifecycle]}) r cross join"  # noqa: S608  # as above
        joins[0] = Sql(joins[0].text.replace("from", gone, 1))
        less = _number_of(_sql("", joins, where))
        return Sql(f"select ({all_of_them.text}) - ({less.text})", all_of_them.binds + less.binds)

    def _lead(self, driver: Driver, others: Sequence[Source]) -> Lead | None:
        if isinstance(driver, Source):
            return driver, [driver.of_key()]
        if driver is None and self._rows_decide:
            return others[0], [others[0].by_run()]
        return None

    def _joins(
        self, driver: Driver, others: Sequence[Source], lead: Lead | None
    ) -> tuple[list[Sql], list[Sql]]:
        """FROM, and the conditions that go with it."""
        if lead is not None:
            joins, where = _beginning(lead, others)
            joins.append(Sql("cross join run r"))
            where.append(lead[0].run_is())
        else:
            joins, where = [Sql("from run r")], []
            if isinstance(driver, Sql):
                where.append(driver)
            elif self._sources:
                where.append(Sql("r.id >= 0"))  # has SQLite take the runs by number
            for source in others:
                joins.append(Sql(f"cross join {source.table} {source.alias}"))
                where += [source.at_run(), *source.where]
        if ordering.needs_experiment(self._columns):
            joins.append(Sql("cross join experiment e"))
            where.append(Sql("e.number = r.experiment"))
        for source in self._sources:
            if not source.required and not (lead and source is lead[0]):
                at_run = source.at_run()
                text = f"left join {source.table} {source.alias} on {at_run.text}"
                joins.append(Sql(text, at_run.binds))
        return joins, where


def _beginning(lead: Lead, others: Sequence[Source]) -> tuple[list[Sql], list[Sql]]:
    """The rows that lead, and those beside them."""
    first, which = lead
    joins = [Sql(f"from {first.table} {first.alias}")]
    where = [*which, *first.where]
    for source in others:
        if source is not first:
            joins.append(Sql(f"cross join {source.table} {source.alias}"))
            where += [source.beside(first), *source.where]
    return joins, where


def _of_run(query: RunQuery) -> list[Sql]:
    conditions = []
    if query.lifecycle != "all":
        conditions.append(Sql("r.lifecycle = ?", (query.lifecycle,)))
    if query.statuses:
        conditions.append(_one_of("r.status", query.statuses))
    return conditions


def _one_of(column: str, values: Sequence[Bind]) -> Sql:
    """A single value is compared by ``=``, so that an index can hold the runs in order."""
    if not values:
        return FALSE
    if len(values) == 1:
        return Sql(f"{column} = ?", tuple(values))
    return Sql(f"{column} in ({','.join('?' * len(values))})", tuple(values))


def _rows_of(source: Source) -> Sql:
    """The rows of a key, as far as an index can tell which ones: metrics have none by value."""
    where = [] if source.entity == "metrics" else source.where
    return _sql(f"select 1 from {source.table} {source.alias}", [], [source.of_key(), *where])  # noqa: S608  # as above


def _sql(
    head: str, joins: Iterable[Sql], conditions: Iterable[Sql], tail: str = "", *binds: Bind
) -> Sql:
    joins, conditions = list(joins), list(conditions)
    text = " ".join([head, *[join.text for join in joins], _where(conditions), tail])
    bound = tuple(bind for part in (*joins, *conditions) for bind in part.binds)
    return Sql(text, bound + binds)


def _number_of(found: Sql) -> Sql:
    return found._replace(text=f"select count(*) from ({found.text}) hit")  # noqa: S608  # as above


async def _fetch_number(reader: Reader, statement: Sql) -> int | None:
    """None where there is no row."""
    rows = await reader.fetch(statement.text, statement.binds)
    return rows[0][0] if rows else None


def _where(conditions: Iterable[Sql]) -> str:
    texts = [condition.text for condition in conditions if condition != TRUE]
    return "where " + " and ".join(texts) if texts else ""
